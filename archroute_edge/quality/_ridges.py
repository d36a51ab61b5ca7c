"""How strongly the weights of ``heads`` are held: chosen by what prompts that were held out lose.

What matters of expected scores is how models differ on a prompt: if all of them do better by as much, the same one comes first.
So ridges are judged by the squared error of scores less the prompt's mean score, as a part of the error that each model's mean
score has. A part where they do no better has nothing to say, and counts as 1.

A gateway asks one model a request, so its record tells no differences. If hardly a prompt was answered by several models,
ridges are judged by the squared error of the scores themselves.

Prompts to come are of known kinds or of new ones, so whole categories are held out in turn, then prompts of all categories, and
both count the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._heads import Scaling, chances, fit_scaling
from archroute_edge.quality._heads_fit import Design, Fit, Ridges, fit_heads, make_design
from archroute_edge.quality._outcomes import Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._splits import Split
from archroute_edge.quality._text_features import ReadText

USUAL_RIDGES: Final = Ridges(shared=4.0, own=16.0, text=2.0, words=4.0)
"""For fewer prompts than can be held out; a search starts from them."""

_OWN: Final = (math.inf, 64.0, 16.0, 4.0)
_SHARED: Final = (16.0, 4.0, 1.0)
_WORDS: Final = (1.0, 4.0, 16.0)
_TEXT: Final = (0.5, 2.0)
# The ridges are chosen on that many models, spread from the weakest to the strongest.
_MOST_MODELS: Final = 8
# Of the standard error: a whole one prefers ridges that cost a hundredth of APGR on known kinds of prompt.
_NOISE: Final = 0.5
# Fewer prompts that several models answered are too few to choose by.
_FEWEST_COMPARED: Final = 20
# A loss needs fewer digits than a predictor.
_TOLERANCE: Final = 1e-6

Rows = npt.NDArray[np.intp]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tried:
    """What some ridges lose on prompts that were held out.

    Attributes:
        ridges: these.
        part_losses: of each part that was held out, the error as a part of what it could be, and the part's weight.
    """

    ridges: Ridges
    part_losses: tuple[tuple[float, float], ...]

    @property
    def loss(self) -> float:
        """Over all parts."""
        losses, weights = np.array(self.part_losses).T
        return float(np.average(losses, weights=weights))


class RidgeSearch:
    """Ridges compared on prompts that are held out.

    Args:
        scores: (n, k), NaN where a model was not asked.
        read: the prompts' texts.
        numbers: (n, T) about these.
        features: of the prompts.
        kinds: ways to hold prompts out, of parts each; all ways count the same.
        word_bits: words fall into two to the power of this cells.
        on_progress: called with a step, and how much of it is done and is in all.
    """

    def __init__(
        self,
        scores: Scores,
        read: Sequence[ReadText],
        numbers: npt.NDArray[np.float64],
        features: PromptFeatures,
        kinds: Sequence[Sequence[Split]],
        word_bits: int,
        on_progress: Progress,
    ) -> None:
        self._scores = scores
        self._read, self._numbers, self._features = read, numbers, features
        self._kinds = kinds
        self._word_bits = word_bits
        self._on_progress = on_progress
        self._designs: dict[tuple[float, float], tuple[Scaling, Design]] = {}
        self._fits: dict[tuple[int, int], Fit] = {}
        self._tried: dict[Ridges, Tried | None] = {}

    def design(self, ridges: Ridges) -> tuple[Scaling, Design]:
        """The prompts as ``ridges`` have them scaled. Scaling looks at no score, so the parts share it."""
        key = (ridges.text, ridges.words)
        if key not in self._designs:
            scaling = fit_scaling(
                self._features, self._numbers, text=ridges.text, words=ridges.words, word_bits=self._word_bits
            )
            # One at a time: each is as large as all the prompts. What was fitted has its scale.
            self._fits.clear()
            self._designs = {key: (scaling, make_design(self._read, self._features.vectors, scaling))}
        return self._designs[key]

    def choose(self) -> Ridges:
        """The most restraining of the good ones, found one kind of ridge after another."""
        columns = self._spread_models()
        # A model alone has no weights beside the shared ones.
        own = _OWN if len(columns) > 1 else (USUAL_RIDGES.own,)
        kinds: dict[str, tuple[float, ...]] = {"shared": _SHARED, "own": own, "words": _WORDS, "text": _TEXT}
        # The best value of one kind is tried again with the values of the next.
        n_steps, step, best = sum(map(len, kinds.values())) - len(kinds) + 1, 0, USUAL_RIDGES
        for kind, values in kinds.items():
            for ridges in (replace(best, **{kind: value}) for value in values):
                if ridges not in self._tried:
                    self._on_progress("choosing ridges", step, n_steps)
                    self._tried[ridges] = self._try(ridges, columns)
                    step += 1
            known = [tried for tried in self._tried.values() if tried is not None]
            if not known:
                break
            best = min(known, key=lambda tried: tried.loss).ridges
        self._on_progress("choosing ridges", n_steps, n_steps)
        return simplest_within_noise(known) if known else USUAL_RIDGES

    def _spread_models(self) -> Rows:
        means = np.nanmean(self._scores, axis=0)
        order = np.argsort(means, kind="stable")
        if len(order) <= _MOST_MODELS:
            return np.sort(order)
        return np.unique(order[np.linspace(0, len(order) - 1, _MOST_MODELS).round().astype(np.intp)])

    def _try(self, ridges: Ridges, columns: Rows) -> Tried | None:
        scores = self._scores[:, columns]
        errors_of = difference_errors if _are_compared(scores).sum() >= _FEWEST_COMPARED else score_errors
        found: list[tuple[float, float]] = []
        for number, parts in enumerate(self._kinds):
            of_kind = []
            for (rest, part), logits in self._by_parts(ridges, scores, parts, number):
                errors = errors_of(scores[part] - _expected(logits))
                # No two models of these may have outcomes of a prompt in the part and in the rest, or all may score the same.
                usual = errors_of(scores[part] - np.where(np.isnan(logits), np.nan, model_means(scores[rest])))
                if usual.any():
                    of_kind.append((min(1.0, float(errors.mean() / usual.mean())), float(len(errors))))
            total = sum(weight for _, weight in of_kind)
            found += [(loss, weight / total) for loss, weight in of_kind]
        return Tried(ridges, tuple(found)) if found else None

    def _by_parts(
        self, ridges: Ridges, scores: Scores, parts: Sequence[Split], kind: int | None = None
    ) -> Iterator[tuple[Split, Scores]]:
        """Each part, and the logits (m, k) of its prompts by heads fitted to the rest; NaN for an unknown model.

        With ``kind``, that of the parts, fits begin from the last ones of the same part, and end a little earlier.
        """
        _, design = self.design(ridges)
        for number, split in enumerate(parts):
            rest, part = split
            # A model may have outcomes in this part alone: nothing is known of it then.
            known = np.flatnonzero(~np.isnan(scores[rest]).all(axis=0))
            logits = np.full((len(part), scores.shape[1]), np.nan)
            if len(known):
                learned = design.rows(rest), scores[np.ix_(rest, known)], ridges
                if kind is None:
                    fit = fit_heads(*learned)
                else:
                    fit = fit_heads(*learned, start=self._fits.get((kind, number)), tolerance=_TOLERANCE)
                    self._fits[kind, number] = fit
                logits[:, known] = fit.logits(design.rows(part))
            yield split, logits

    def held_out(self, ridges: Ridges, parts: Sequence[Split]) -> Scores:
        """(n, k) expected scores by heads that have not seen the prompt's part; NaN where there are none."""
        found = np.full(self._scores.shape, np.nan)
        self._on_progress("scoring held-out prompts", 0, len(parts))
        for number, (split, logits) in enumerate(self._by_parts(ridges, self._scores, parts)):
            found[split.test] = _expected(logits)
            self._on_progress("scoring held-out prompts", number + 1, len(parts))
        return found


def _expected(logits: Scores) -> Scores:
    """Expected scores; NaN where the logit is."""
    return np.where(np.isnan(logits), np.nan, chances(logits))


def score_errors(errors: Scores) -> npt.NDArray[np.float64]:
    """Of each prompt with a known model, the mean squared error; ``errors`` are (m, k), NaN where none is known."""
    found: npt.NDArray[np.float64] = np.nanmean(np.square(errors[~np.isnan(errors).all(axis=1)]), axis=1)
    return found


def difference_errors(errors: Scores) -> npt.NDArray[np.float64]:
    """Of each prompt with several known models, the mean squared error of how a model's score differs from the mean."""
    several = errors[_are_compared(errors)]
    return score_errors(several - np.nanmean(several, axis=1, keepdims=True))


def _are_compared(scores: Scores) -> npt.NDArray[np.bool_]:
    """(m,) whether several models answered a prompt."""
    found: npt.NDArray[np.bool_] = (~np.isnan(scores)).sum(axis=1) > 1
    return found


def model_means(scores: Scores) -> Scores:
    """(k,) the mean score of each model; NaN if none is known."""
    known = ~np.isnan(scores)
    counts = known.sum(axis=0)
    found: Scores = np.where(counts > 0, np.where(known, scores, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
    return found


def simplest_within_noise(tried: Sequence[Tried]) -> Ridges:
    """The most restraining ridges whose loss is within half a standard error, over the parts, of the least."""
    best = min(tried, key=lambda each: each.loss)

    def is_near(each: Tried) -> bool:
        pairs = zip(each.part_losses, best.part_losses, strict=True)
        differences, weights = np.array([(mine - least, weight) for (mine, weight), (least, _) in pairs]).T
        mean = float(np.average(differences, weights=weights))
        spread = float(np.sqrt(np.average(np.square(differences - mean), weights=weights)))
        return mean <= _NOISE * spread / math.sqrt(max(len(differences) - 1, 1))

    near = [each.ridges for each in tried if is_near(each)]
    return max(near, key=lambda ridges: (ridges.own, -ridges.words, -ridges.text, ridges.shared))
