"""Training ``heads`` of each kind of prompt beside those of all kinds, if they do better than those alone.

The sets that outcomes are from are the kinds. Both ways to learn are compared, kind by kind, on prompts that are held out:
first on prompts of known categories, whose kinds are taken as known, then on whole categories, which the gate has to place. As
with ridges, both count the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._bag_of_words import require_scipy
from archroute_edge.quality._heads import WORD_BITS, Heads, chances
from archroute_edge.quality._heads_by_kind import MOST_KINDS, HeadsByKind, Views
from archroute_edge.quality._heads_fit import Ridges
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._ridges import difference_errors, model_means, score_errors
from archroute_edge.quality._splits import Split, folds, texts_of
from archroute_edge.quality._text_features import ReadText
from archroute_edge.quality._train import Progress, Trained, check_outcomes, read_texts, sample_rows, tokens_of, train_heads
from archroute_edge.quality._training import N_PARTS, held_out_parts, held_out_scored, known_kind_parts

FEWEST_OF_A_KIND: Final = 200
"""Prompts of a set with fewer are one kind together."""

GATE_RIDGES: Final = Ridges(shared=4.0, own=1.0, text=2.0, words=4.0)
# Of heads of all kinds, beside chances whose sum is about 1.
_SHARES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
_THE_REST: Final = "the rest"
_UNNAMED: Final = "unnamed"
# Of the standard error, as with ridges.
_NOISE: Final = 0.5

Rows = npt.NDArray[np.intp]
Gains = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class TrainedByKind:
    """A predictor of heads, and how it did on prompts that it had not seen.

    Attributes:
        predictor: trained on all outcomes.
        held_out: (n, k) expected scores, each by heads that were fitted without its part; by all if it is in no part, or
            the rest says nothing of the model; None if none was held out.
        ridges: those of the heads that the predictor has, by kind of prompt; of all kinds together under the empty name.
        together: heads of all kinds together, whether they were taken or not.
    """

    predictor: Heads | HeadsByKind
    held_out: Scores | None
    ridges: Mapping[str, Ridges]
    together: Trained


def train_heads_by_kind(
    outcomes: Outcomes,
    features: PromptFeatures,
    *,
    encoder: str | None = None,
    seed: int = 0,
    parts: Sequence[Split] = (),
    ridges: Ridges | None = None,
    are_together: bool = False,
    word_bits: int = WORD_BITS,
    on_progress: Progress = lambda step, done, total: None,
) -> TrainedByKind:
    """Fit heads to the scores of models' answers, for each kind of prompt its own if that is better.

    Args:
        outcomes: prompts and scores; every model has some.
        features: of the same prompts.
        encoder: identity of the encoder that made the vectors; None if there are none.
        seed: which prompts become the predictor's sample, and which of known categories are held out together.
        parts: as :func:`train_heads` has them; without, all kinds are learned together.
        ridges: use these instead of choosing, for all kinds.
        are_together: all kinds are learned together, whichever way is better.
        word_bits: words fall into two to the power of this cells.
        on_progress: called with a step, and how much of it is done and is in all.

    Raises:
        QualityError: SciPy is missing, there is no prompt, or a model has no outcomes.
    """
    require_scipy()
    check_outcomes(outcomes, features, encoder)
    prompts = _Prompts(outcomes, features, read_texts(features, word_bits, on_progress))
    fitting = _Fitting(encoder, seed, word_bits, on_progress)
    together = fitting.fit(prompts, ridges, parts)
    plain = TrainedByKind(together.predictor, together.held_out, {"": together.ridges}, together)
    kinds = kinds_of(outcomes)
    if together.held_out is None or len(kinds) < 2 or are_together:
        return plain
    chosen: dict[str, Ridges] = {}
    compared: dict[float, list[dict[str, npt.NDArray[np.float64]]]] = {share: [{}] for share in _SHARES}
    known = fitting.known_scores(prompts, together.ridges)
    for name, rows in kinds.items():
        some = prompts.rows(rows)
        chosen[name] = ridges or fitting.fit(some, None, held_out_parts(some.outcomes, seed)).ridges
        by_all, by_expert = known[np.ix_(rows, some.columns_in(outcomes.models))], fitting.known_scores(some, chosen[name])
        for share, (gains,) in compared.items():
            gains[name] = _gains(some.outcomes.scores, by_all, (share * by_all + by_expert) / (share + 1.0))
    are_new = bool(known_kind_parts(outcomes, parts, seed))
    # Unless the gate has new categories to place, all is known by now.
    if not are_new and chosen_share(compared) is None:
        return plain
    predictor, views = fitting.by_kind(prompts, kinds, chosen, parts, together)
    if are_new:
        scores = np.where(held_out_scored(outcomes, parts), outcomes.scores, np.nan)
        for share, ways in compared.items():
            predictor.share = share
            mean = predictor.mean(views)
            ways.append({name: _gains(scores[rows], views.by_all[rows], mean[rows]) for name, rows in kinds.items()})
    found = chosen_share(compared)
    if found is None:
        return plain
    predictor.share = found
    sampled = sample_rows(len(prompts.read), seed)
    held_out = predictor.mean(views)
    predictor = predictor.with_samples(views.rows(sampled))
    predictor.sample_tokens = tokens_of(outcomes, sampled)
    return TrainedByKind(predictor, held_out, {"": together.ridges, **chosen}, together)


def kinds_of(outcomes: Outcomes) -> dict[str, Rows]:
    """The numbers of the prompts with scores of each kind: the sets, and small ones together.

    A set is small if it has fewer than :data:`FEWEST_OF_A_KIND` different prompts. If all small ones together are, the smallest
    of the other sets is one kind with them.
    """
    has_scores = np.array([not each.all() for each in np.isnan(outcomes.scores)], np.bool_)
    groups = [prompt.group or _UNNAMED for prompt in outcomes.prompts]
    different = {(group, text) for group, text, has in zip(groups, texts_of(outcomes), has_scores.tolist(), strict=True) if has}
    sizes = Counter(group for group, _ in different)
    large = [name for name, size in sizes.items() if size >= FEWEST_OF_A_KIND and name != _THE_REST]
    large.sort(key=lambda name: (-sizes[name], name))
    left = sum(size for name, size in sizes.items() if name not in large)
    while large and (len(large) > MOST_KINDS - (left > 0) or 0 < left < FEWEST_OF_A_KIND):
        left += sizes[large.pop()]
    of = np.array(groups)
    found = {name: np.flatnonzero(has_scores & (of == name)) for name in sorted(large)}
    rest = np.flatnonzero(has_scores & ~np.isin(of, large))
    if len(rest):
        found[_THE_REST] = rest
    return found


@dataclass(frozen=True)
class _Prompts:
    """What is learned from: outcomes, the features of their prompts, and their texts as heads read them."""

    outcomes: Outcomes
    features: PromptFeatures
    read: Sequence[ReadText]

    def rows(self, which: Rows) -> _Prompts:
        """Some of the prompts, and the models that answered any of them."""
        some = self.outcomes.rows(which)
        return _Prompts(some.columns(some.scored_models), self.features.rows(which), [self.read[row] for row in which])

    def columns_in(self, models: Sequence[str]) -> Rows:
        """The numbers of these outcomes' models among all."""
        return _places(self.outcomes.models, models)


@dataclass(frozen=True)
class _Fitting:
    """What every fit of one training shares."""

    encoder: str | None
    seed: int
    word_bits: int
    on_progress: Progress

    def fit(self, prompts: _Prompts, ridges: Ridges | None, parts: Sequence[Split] = ()) -> Trained:
        """Heads of all the prompts; without ``ridges`` they are chosen."""
        return train_heads(
            prompts.outcomes,
            prompts.features,
            encoder=self.encoder,
            seed=self.seed,
            parts=parts,
            ridges=ridges,
            word_bits=self.word_bits,
            read=prompts.read,
            on_progress=self.on_progress,
        )

    def known_scores(self, prompts: _Prompts, ridges: Ridges) -> Scores:
        """(n, k) expected scores of prompts whose kinds are known, by heads that were fitted without a fifth of them.

        NaN for a model whose outcomes are all in one fifth.
        """
        parts = folds(prompts.outcomes, N_PARTS, "prompt", self.seed)
        found = self.fit(prompts, ridges, parts).held_out
        assert found is not None
        return np.where(held_out_scored(prompts.outcomes, parts), found, np.nan)

    def gate_and_experts(
        self, prompts: _Prompts, kinds: Mapping[str, Rows], ridges: Mapping[str, Ridges]
    ) -> tuple[Heads, list[Heads]]:
        """The gate and the heads of each kind, with the ridges of each."""
        outcomes = prompts.outcomes
        # A prompt without scores is of no kind, and the gate does not learn from it.
        is_of = np.full((len(outcomes.prompts), len(kinds)), np.nan)
        for number, rows in enumerate(kinds.values()):
            is_of[rows] = 0.0
            is_of[rows, number] = 1.0
        of_gate = _Prompts(Outcomes(outcomes.prompts, tuple(kinds), is_of), prompts.features, prompts.read)
        gate = self.fit(of_gate, GATE_RIDGES).predictor
        return gate, [self.fit(prompts.rows(rows), ridges[name]).predictor for name, rows in kinds.items()]

    def by_kind(
        self,
        prompts: _Prompts,
        kinds: Mapping[str, Rows],
        ridges: Mapping[str, Ridges],
        parts: Sequence[Split],
        together: Trained,
    ) -> tuple[HeadsByKind, Views]:
        """The mixture of all outcomes, and what its parts expect of prompts if they are fitted without the prompts' part.

        The predictor's sample is of the first prompt alone. Heads of all kinds were fitted in this way already.
        """
        step = "fitting without a part of the prompts"
        gate, experts = self.gate_and_experts(prompts, kinds, ridges)
        one = prompts.features.rows(np.arange(1))
        of_all, gate, *experts = (
            Heads(heads.models, heads.encoder, heads.expected(one), heads.scaling, heads.weights)
            for heads in (together.predictor, gate, *experts)
        )
        predictor = HeadsByKind(prompts.outcomes.models, self.encoder, gate, of_all, experts, 1.0)
        assert together.held_out is not None
        views = predictor.views(prompts.read, prompts.features.vectors)._replace(by_all=together.held_out)
        for number, (rest, part) in enumerate(parts):
            self.on_progress(step, number, len(parts))
            # A kind may be in this part alone, and so may a kind's outcomes of a model: nothing is known of it then.
            views.chances[part] = 0.0
            for by_expert in views.by_experts:
                by_expert[part] = np.nan
            left = {name: np.flatnonzero(np.isin(rest, rows)) for name, rows in kinds.items()}
            left = {name: rows for name, rows in left.items() if len(rows)}
            if not left:
                continue
            less, less_experts = self.gate_and_experts(prompts.rows(rest), left, ridges)
            read, vectors = [prompts.read[row] for row in part], less.vectors_of(prompts.features.rows(part))
            columns = _places(left, [*kinds])
            views.chances[np.ix_(part, columns)] = chances(less.logits_of(read, vectors))
            for column, heads in zip(columns, less_experts, strict=True):
                place = _places(heads.models, experts[column].models)
                views.by_experts[column][np.ix_(part, place)] = chances(heads.logits_of(read, vectors))
        self.on_progress(step, len(parts), len(parts))
        return predictor, views


def _places(names: Iterable[str], among: Sequence[str]) -> Rows:
    place = {name: number for number, name in enumerate(among)}
    return np.array([place[name] for name in names], np.intp)


def _gains(scores: Scores, together: Scores, apart: Scores) -> npt.NDArray[np.float64]:
    """For each prompt of a kind, how much smaller the squared error of its own heads is, as a part of what means lose.

    Scores of which either way expects nothing do not count.
    """
    scores = np.where(np.isnan(together + apart), np.nan, scores)
    several = (~np.isnan(scores)).sum(axis=1) > 1
    errors_of = difference_errors if several.sum() >= FEWEST_OF_A_KIND / 2 else score_errors
    usual = errors_of(scores - model_means(scores))
    gains = errors_of(scores - together) - errors_of(scores - apart)
    return gains / usual.mean() if usual.any() else np.zeros_like(gains)


def chosen_share(compared: Mapping[float, Sequence[Gains]]) -> float | None:
    """The share of heads of all kinds that gains most; None if none gains more than half a standard error.

    A share that loses more than that in one way to hold prompts out is not taken.

    Args:
        compared: for each share the gains by kind, for each way to hold prompts out.
    """
    nothing = [{name: np.zeros_like(gains) for name, gains in way.items()} for way in next(iter(compared.values()))]
    good = [
        share
        for share, ways in compared.items()
        if _is_better(ways, nothing) and not any(_is_better([none], [way]) for none, way in zip(nothing, ways, strict=True))
    ]
    return max(good, key=lambda share: _mean_and_error(compared[share])[0], default=None)


def _is_better(one: Sequence[Gains], other: Sequence[Gains]) -> bool:
    """Whether ``one`` gains more than ``other``, beyond half a standard error."""
    pairs = zip(one, other, strict=True)
    mean, error = _mean_and_error([{name: more[name] - gains for name, gains in less.items()} for more, less in pairs])
    return mean > _NOISE * error


def _mean_and_error(ways: Sequence[Gains]) -> tuple[float, float]:
    """The mean gain, over the kinds and then over ways to hold prompts out, and its standard error.

    A kind of which nothing could be compared does not count. The ways share prompts, so their errors do not cancel out.
    """
    means, errors = [0.0], [0.0]
    of_ways = [[gains for gains in way.values() if len(gains)] for way in ways]
    for kinds in filter(None, of_ways):
        means.append(float(np.mean([gains.mean() for gains in kinds])))
        errors.append(math.sqrt(sum(float(gains.var()) / len(gains) for gains in kinds)) / len(kinds))
    n_ways = max(len(means) - 1, 1)
    return sum(means) / n_ways, sum(errors) / n_ways
