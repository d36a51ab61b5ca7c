"""Training the policy ``heads``: ridges are chosen on whole categories that are held out, then the heads are fitted to all.

Of all ridges whose loss is within one standard error of the least, the most restraining are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.conversation import estimate_tokens
from archroute_edge.errors import QualityError
from archroute_edge.quality._bag_of_words import require_scipy
from archroute_edge.quality._features import read_prompt
from archroute_edge.quality._heads import WORD_BITS, Heads, Scaling, chances, fit_scaling
from archroute_edge.quality._heads_fit import Design, Ridges, fit_heads, make_design
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._splits import Split
from archroute_edge.quality._text_features import ReadText, read_text

USUAL_RIDGES: Final = Ridges(shared=4.0, own=16.0, text=2.0, words=1.0)
"""For fewer prompts than can be held out."""

# From the most restraining: with each word and model's own weight, a candidate has more to be wrong about.
_OWN: Final = (math.inf, 64.0, 16.0, 4.0)
_SHARED: Final = (16.0, 4.0, 1.0)
_WORDS: Final = (0.25, 1.0)
# The ridges are chosen on that many models, spread from the weakest to the strongest.
_MOST_MODELS: Final = 8
_MOST_SAMPLED: Final = 2000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tried:
    """The loss of some ridges on prompts that were held out.

    Attributes:
        ridges: these.
        loss: mean cross entropy in nats.
        part_losses: of each part that was held out, and its prompts.
    """

    ridges: Ridges
    loss: float
    part_losses: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Trained:
    """A predictor, and how it did on prompts that it had not seen.

    Attributes:
        predictor: trained on all outcomes.
        held_out: (n, k) expected scores, each by heads that were fitted without its part; None if none was held out.
        ridges: those that were chosen.
    """

    predictor: Heads
    held_out: Scores | None
    ridges: Ridges


def train_heads(
    outcomes: Outcomes,
    features: PromptFeatures,
    *,
    encoder: str | None = None,
    seed: int = 0,
    parts: Sequence[Split] = (),
    ridges: Ridges | None = None,
    word_bits: int = WORD_BITS,
    on_progress: Progress = lambda step, done, total: None,
) -> Trained:
    """Fit heads to the scores of models' answers.

    Args:
        outcomes: prompts and scores; every model has some.
        features: of the same prompts.
        encoder: identity of the encoder that made the vectors; None if there are none.
        seed: which prompts become the predictor's sample.
        parts: to hold out in turn, such as whole categories; none: nothing is held out, and the usual ridges are taken.
        ridges: use these instead of choosing.
        word_bits: words fall into two to the power of this cells.
        on_progress: called with a step, and how much of it is done and is in all.

    Raises:
        QualityError: SciPy is missing, there is no prompt, or a model has no outcomes.
    """
    require_scipy()
    check_outcomes(outcomes, features, encoder)
    read: list[ReadText] = []
    for number, text in enumerate(features.texts):
        read.append(read_text(text, word_bits))
        on_progress("reading texts", number + 1, len(features))
    numbers = np.stack([each.numbers for each in read])
    search = _Search(outcomes.scores, read, numbers, features, parts, word_bits, on_progress)
    if ridges is None:
        ridges = search.choose() if parts else USUAL_RIDGES
    held_out = search.held_out(ridges) if parts else None
    on_progress("fitting", 0, 1)
    scaling, design = search.design(ridges)
    fit = fit_heads(design, outcomes.scores, ridges)
    on_progress("fitting", 1, 1)
    scores = chances(fit.logits(design))
    if held_out is not None:
        # A prompt that is in no part, or a model whose outcomes are all in one.
        scores = held_out = np.where(np.isnan(held_out), scores, held_out)
    sampled = sample_rows(len(scores), seed)
    predictor = Heads(outcomes.models, encoder, scores[sampled], scaling, fit.weights(design, scaling))
    predictor.sample_tokens = tokens_of(outcomes, sampled)
    return Trained(predictor, held_out, ridges)


def sample_rows(n: int, seed: int) -> npt.NDArray[np.intp]:
    """Which of n prompts become a predictor's sample, ascending: all of few, and some of many."""
    if n <= _MOST_SAMPLED:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(np.arange(n), _MOST_SAMPLED, replace=False))


def tokens_of(outcomes: Outcomes, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """About how many tokens some of the prompts have, as targets count them: those of all messages."""
    prompts = [read_prompt(outcomes.prompts[row]) for row in rows]
    return np.array([estimate_tokens(text for _, text in prompt.texts) for prompt in prompts], np.float64)


def check_outcomes(outcomes: Outcomes, features: PromptFeatures, encoder: str | None) -> None:
    """Make sure that something can be learned.

    Raises:
        QualityError: there is no prompt, a model has no outcomes, or features are of other prompts.
    """
    if not outcomes.prompts or not outcomes.models:
        raise QualityError("there are no outcomes to train on")
    if len(features) != len(outcomes.prompts):
        raise QualityError(f"{len(outcomes.prompts)} prompts have outcomes, and {len(features)} have features")
    if (features.vectors is None) != (encoder is None):
        raise QualityError("vectors need the identity of their encoder, and an encoder needs vectors")
    without = [name for name, column in zip(outcomes.models, outcomes.scores.T, strict=True) if np.isnan(column).all()]
    if without:
        raise QualityError(f"no answer of {', '.join(without[:5])} was scored; leave it out, or add outcomes")


class _Search:
    """Ridges compared on parts that are held out."""

    def __init__(
        self,
        scores: Scores,
        read: Sequence[ReadText],
        numbers: npt.NDArray[np.float64],
        features: PromptFeatures,
        parts: Sequence[Split],
        word_bits: int,
        on_progress: Progress,
    ) -> None:
        self._scores = scores
        self._read, self._numbers, self._features = read, numbers, features
        self._parts = parts
        self._word_bits = word_bits
        self._on_progress = on_progress
        self._designs: dict[tuple[float, float], tuple[Scaling, Design]] = {}
        self.tried: list[Tried] = []

    def design(self, ridges: Ridges) -> tuple[Scaling, Design]:
        """The prompts as ``ridges`` have them scaled. Scaling looks at no score, so the parts share it."""
        key = (ridges.text, ridges.words)
        if key not in self._designs:
            scaling = fit_scaling(
                self._features, self._numbers, text=ridges.text, words=ridges.words, word_bits=self._word_bits
            )
            # One at a time: each is as large as all the prompts.
            self._designs = {key: (scaling, make_design(self._read, self._features.vectors, scaling))}
        return self._designs[key]

    def choose(self) -> Ridges:
        """The most restraining of the good ones, found one kind of ridge after another."""
        columns = self._spread_models()
        n_steps = len(_WORDS) * len(_SHARED) + len(_OWN)
        usual = USUAL_RIDGES
        plans = [Ridges(shared, usual.own, usual.text, words) for words in _WORDS for shared in _SHARED]
        for step, plan in enumerate(plans):
            self._try(plan, columns, step, n_steps)
        if not self.tried:
            return USUAL_RIDGES
        best = min(self.tried, key=lambda tried: tried.loss).ridges
        for step, own in enumerate(_OWN, len(plans)):
            if own != best.own:
                self._try(Ridges(best.shared, own, best.text, best.words), columns, step, n_steps)
        self._on_progress("choosing ridges", n_steps, n_steps)
        return simplest_within_noise(self.tried)

    def _spread_models(self) -> npt.NDArray[np.intp]:
        means = np.nanmean(self._scores, axis=0)
        order = np.argsort(means, kind="stable")
        if len(order) <= _MOST_MODELS:
            return np.sort(order)
        return np.unique(order[np.linspace(0, len(order) - 1, _MOST_MODELS).round().astype(np.intp)])

    def _try(self, ridges: Ridges, columns: npt.NDArray[np.intp], step: int, n_steps: int) -> None:
        self._on_progress("choosing ridges", step, n_steps)
        scores = self._scores[:, columns]
        found = []
        for part, logits in self._by_parts(ridges, scores):
            known = ~np.isnan(scores[part] + logits)
            logits, targets = np.where(known, logits, 0.0), np.where(known, scores[part], 0.0)
            losses = np.where(known, np.logaddexp(0.0, logits) - targets * logits, 0.0)
            n_known = known.sum(axis=1)
            has = n_known > 0
            if has.any():
                found.append((float((losses.sum(axis=1)[has] / n_known[has]).mean()), float(has.sum())))
        # No model of these may have outcomes in a part and in the rest.
        if found:
            loss = float(np.average([each for each, _ in found], weights=[weight for _, weight in found]))
            self.tried.append(Tried(ridges, loss, tuple(found)))

    def _by_parts(self, ridges: Ridges, scores: Scores) -> Iterator[tuple[npt.NDArray[np.intp], Scores]]:
        """The prompts of each part, and their logits (m, k) by heads fitted to the rest; NaN for an unknown model."""
        _, design = self.design(ridges)
        for rest, part in self._parts:
            # A model may have outcomes in this part alone: nothing is known of it then.
            known = np.flatnonzero(~np.isnan(scores[rest]).all(axis=0))
            logits = np.full((len(part), scores.shape[1]), np.nan)
            if len(known):
                logits[:, known] = fit_heads(design.rows(rest), scores[np.ix_(rest, known)], ridges).logits(design.rows(part))
            yield part, logits

    def held_out(self, ridges: Ridges) -> Scores:
        """(n, k) expected scores by heads that have not seen the prompt's part; NaN where there are none."""
        found = np.full(self._scores.shape, np.nan)
        self._on_progress("scoring held-out prompts", 0, len(self._parts))
        for number, (part, logits) in enumerate(self._by_parts(ridges, self._scores)):
            found[part] = chances(logits)
            self._on_progress("scoring held-out prompts", number + 1, len(self._parts))
        return found


def simplest_within_noise(tried: Sequence[Tried]) -> Ridges:
    """The most restraining ridges whose loss is within one standard error, over the parts, of the least."""
    best = min(tried, key=lambda each: each.loss)

    def is_near(each: Tried) -> bool:
        pairs = zip(each.part_losses, best.part_losses, strict=True)
        differences, weights = np.array([(mine - least, weight) for (mine, weight), (least, _) in pairs]).T
        mean = float(np.average(differences, weights=weights))
        spread = float(np.sqrt(np.average(np.square(differences - mean), weights=weights)))
        return mean <= spread / math.sqrt(max(len(differences) - 1, 1))

    near = [each.ridges for each in tried if is_near(each)]
    return max(near, key=lambda ridges: (ridges.own, -ridges.words, ridges.shared))
