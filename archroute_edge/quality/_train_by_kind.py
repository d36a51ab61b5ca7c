"""Training ``heads`` of each kind of prompt, where they do better than heads of all kinds together.

The sets that outcomes are from are the kinds. Both ways are compared on prompts that are held out, kind by kind.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._heads import WORD_BITS, Heads
from archroute_edge.quality._heads_by_kind import MOST_KINDS, HeadsByKind
from archroute_edge.quality._heads_fit import Ridges
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._ridges import difference_errors, score_errors
from archroute_edge.quality._splits import Split, folds
from archroute_edge.quality._train import Progress, Trained, sample_rows, tokens_of, train_heads
from archroute_edge.quality._training import N_PARTS, held_out_parts

FEWEST_OF_A_KIND: Final = 200
"""Prompts of a set with fewer are one kind together."""

GATE_RIDGES: Final = Ridges(shared=4.0, own=1.0, text=2.0, words=4.0)
# A chance that counts for nothing beside any that a gate gives.
_HARDLY: Final = 1e-30
_THE_REST: Final = "the rest"
# Of the standard error, as with ridges.
_NOISE: Final = 0.5

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class TrainedByKind:
    """A predictor of heads, and how it did on prompts that it had not seen.

    Attributes:
        predictor: trained on all outcomes.
        held_out: (n, k) expected scores, each by heads that were fitted without its part; None if none was held out.
        ridges: those that were chosen, by kind of prompt; of all kinds together under the empty name.
    """

    predictor: Heads | HeadsByKind
    held_out: Scores | None
    ridges: Mapping[str, Ridges]


def train_heads_by_kind(
    outcomes: Outcomes,
    features: PromptFeatures,
    *,
    encoder: str | None = None,
    seed: int = 0,
    parts: Sequence[Split] = (),
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
        word_bits: words fall into two to the power of this cells.
        on_progress: called with a step, and how much of it is done and is in all.

    Raises:
        QualityError: SciPy is missing, there is no prompt, or a model has no outcomes.
    """
    together = train_heads(
        outcomes, features, encoder=encoder, seed=seed, parts=parts, word_bits=word_bits, on_progress=on_progress
    )
    kinds = kinds_of(outcomes)
    if not parts or len(kinds) < 2:
        return TrainedByKind(together.predictor, together.held_out, {"": together.ridges})
    fitting = _Fitting(encoder, seed, word_bits, on_progress)
    apart = {name: fitting.chosen(*_of_kind(outcomes, features, rows)) for name, rows in kinds.items()}
    known = fitting.known_scores(outcomes, features, together.ridges)
    gains = {}
    for name, rows in kinds.items():
        some, read = _of_kind(outcomes, features, rows)
        columns = np.array([outcomes.models.index(model) for model in some.models], np.intp)
        of_kind = fitting.known_scores(some, read, apart[name].ridges)
        gains[name] = _gains(some.scores, known[np.ix_(rows, columns)], of_kind)
    if not _are_better(gains):
        return TrainedByKind(together.predictor, together.held_out, {"": together.ridges})
    ridges = {name: trained.ridges for name, trained in apart.items()}
    return fitting.by_kind(outcomes, features, kinds, ridges, parts)


def kinds_of(outcomes: Outcomes) -> dict[str, Rows]:
    """The numbers of the prompts with scores of each kind: the sets, and small ones together."""
    groups = np.array([prompt.group for prompt in outcomes.prompts])
    has_scores = ~np.isnan(outcomes.scores).all(axis=1)
    sizes = Counter(groups[has_scores].tolist())
    large = [name for name in sorted(sizes, key=lambda name: (-sizes[name], name)) if sizes[name] >= FEWEST_OF_A_KIND]
    large = sorted(large[: MOST_KINDS - 1])
    found = {name: np.flatnonzero(has_scores & (groups == name)) for name in large}
    rest = np.flatnonzero(has_scores & ~np.isin(groups, large))
    if len(rest):
        found[_THE_REST] = rest
    return found


@dataclass(frozen=True)
class _Fitting:
    """What every fit of one training shares."""

    encoder: str | None
    seed: int
    word_bits: int
    on_progress: Progress

    def fit(self, outcomes: Outcomes, features: PromptFeatures, ridges: Ridges | None, parts: Sequence[Split] = ()) -> Trained:
        return train_heads(
            outcomes,
            features,
            encoder=self.encoder,
            seed=self.seed,
            parts=parts,
            ridges=ridges,
            word_bits=self.word_bits,
            on_progress=self.on_progress,
        )

    def chosen(self, outcomes: Outcomes, features: PromptFeatures) -> Trained:
        """Heads with ridges of their own."""
        return self.fit(outcomes, features, None, held_out_parts(outcomes, self.seed))

    def known_scores(self, outcomes: Outcomes, features: PromptFeatures, ridges: Ridges) -> Scores:
        """(n, k) expected scores of prompts whose kinds are known, by heads that were fitted without a fifth of them."""
        parts = folds(outcomes, N_PARTS, "prompt", self.seed)
        found = self.fit(outcomes, features, ridges, parts).held_out
        assert found is not None
        return found

    def mixture(
        self, outcomes: Outcomes, features: PromptFeatures, kinds: Mapping[str, Rows], ridges: Mapping[str, Ridges]
    ) -> HeadsByKind:
        """The gate and the heads of each kind, with the ridges of each; the sample is of the first prompts alone."""
        is_of = np.zeros((len(outcomes.prompts), len(kinds)))
        for number, rows in enumerate(kinds.values()):
            is_of[rows, number] = 1.0
        gate = self.fit(Outcomes(outcomes.prompts, tuple(kinds), is_of), features, GATE_RIDGES).predictor
        experts = [self.fit(*_of_kind(outcomes, features, rows), ridges[name]).predictor for name, rows in kinds.items()]
        first = features.rows(np.arange(1))
        for heads in (gate, *experts):
            heads.sample = heads.expected(first)
        return HeadsByKind(outcomes.models, self.encoder, gate, experts)

    def by_kind(
        self,
        outcomes: Outcomes,
        features: PromptFeatures,
        kinds: Mapping[str, Rows],
        ridges: Mapping[str, Ridges],
        parts: Sequence[Split],
    ) -> TrainedByKind:
        """The mixture of all outcomes; its sample, and what it expects of prompts whose part it was fitted without."""
        predictor = self.mixture(outcomes, features, kinds, ridges)
        every = np.arange(len(outcomes.prompts))
        chances = predictor.gate.expected(features)
        expected = [expert.expected(features) for expert in predictor.experts]
        for number, (rest, part) in enumerate(parts):
            self.on_progress("fitting without a part of the prompts", number, len(parts))
            left = {name: np.flatnonzero(np.isin(rest, rows)) for name, rows in kinds.items()}
            left = {name: rows for name, rows in left.items() if len(rows)}
            some = outcomes.rows(rest)
            less = self.mixture(some.columns(_known(some)), features.rows(rest), left, ridges)
            of_part = features.rows(part)
            columns = np.array([predictor.kinds.index(name) for name in less.kinds], np.intp)
            # Of a kind that is in this part alone nothing is known then; its own heads count where no others know the model.
            chances[part] = _HARDLY
            chances[np.ix_(part, columns)] = less.gate.expected(of_part)
            for column, expert in zip(columns, less.experts, strict=True):
                place = np.array([predictor.experts[column].models.index(name) for name in expert.models], np.intp)
                expected[column][np.ix_(part, place)] = expert.expected(of_part)
        self.on_progress("fitting without a part of the prompts", len(parts), len(parts))
        sampled = sample_rows(len(every), self.seed)
        whole = _with_sample(predictor, chances, expected, every)
        found = _with_sample(predictor, chances, expected, sampled)
        found.sample_tokens = tokens_of(outcomes, sampled)
        return TrainedByKind(found, whole.sample, ridges)


def _with_sample(predictor: HeadsByKind, chances: Scores, expected: Sequence[Scores], rows: Rows) -> HeadsByKind:
    parts = []
    for heads, scores in zip((predictor.gate, *predictor.experts), (chances, *expected), strict=True):
        parts.append(Heads(heads.models, heads.encoder, scores[rows], heads.scaling, heads.weights))
    return HeadsByKind(predictor.models, predictor.encoder, parts[0], parts[1:])


def _of_kind(outcomes: Outcomes, features: PromptFeatures, rows: Rows) -> tuple[Outcomes, PromptFeatures]:
    """Outcomes of a kind's prompts and of the models that answered any of them; the prompts' features."""
    some = outcomes.rows(rows)
    return some.columns(_known(some)), features.rows(rows)


def _known(outcomes: Outcomes) -> list[str]:
    """The models that have outcomes."""
    return [model for model, column in zip(outcomes.models, outcomes.scores.T, strict=True) if not np.isnan(column).all()]


def _gains(scores: Scores, together: Scores, apart: Scores) -> npt.NDArray[np.float64]:
    """For each prompt of a kind, how much smaller the squared error of its own heads is, as a part of what means lose."""
    several = (~np.isnan(scores)).sum(axis=1) > 1
    errors_of = difference_errors if several.sum() >= FEWEST_OF_A_KIND / 2 else score_errors
    usual = float(errors_of(scores - np.nanmean(scores, axis=0)).mean())
    gains = errors_of(scores - together) - errors_of(scores - apart)
    return gains / usual if usual > 0 else np.zeros_like(gains)


def _are_better(gains: Mapping[str, npt.NDArray[np.float64]]) -> bool:
    """Whether the mean gain over the kinds is beyond half a standard error."""
    mean = float(np.mean([each.mean() for each in gains.values()]))
    error = math.sqrt(sum(float(each.var()) / len(each) for each in gains.values())) / len(gains)
    return mean > _NOISE * error
