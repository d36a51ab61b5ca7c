"""Training the policy ``heads``: ridges are chosen on prompts that are held out, then the heads are fitted to all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._bag_of_words import require_scipy
from archroute_edge.quality._features import prompt_tokens
from archroute_edge.quality._heads import WORD_BITS, Heads, chances
from archroute_edge.quality._heads_fit import Ridges, fit_heads
from archroute_edge.quality._outcomes import Battles, Outcomes, Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._ridges import USUAL_RIDGES, RidgeSearch
from archroute_edge.quality._splits import Split
from archroute_edge.quality._text_features import ReadText, read_text
from archroute_edge.quality._training import known_kind_parts

_MOST_SAMPLED: Final = 2000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trained:
    """A predictor, and how it did on prompts that it had not seen.

    Attributes:
        predictor: trained on all outcomes.
        held_out: (n, k) expected scores, each by heads that were fitted without its part; by all if it is in no part, or
            the rest says nothing of the model; None if none was held out.
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
    read: Sequence[ReadText] | None = None,
    on_progress: Progress = lambda step, done, total: None,
) -> Trained:
    """Fit heads to the scores of models' answers.

    Args:
        outcomes: prompts and scores; every model has some.
        features: of the same prompts.
        encoder: identity of the encoder that made the vectors; None if there are none.
        seed: which prompts become the predictor's sample, and which of known categories are held out together.
        parts: to hold out in turn, such as whole categories; none: nothing is held out, and the usual ridges are taken. Ridges
            are chosen by prompts of known categories as well.
        ridges: use these instead of choosing.
        word_bits: words fall into two to the power of this cells.
        read: the texts, if they were read already.
        on_progress: called with a step, and how much of it is done and is in all.

    Raises:
        QualityError: SciPy is missing, there is no prompt, or a model has no outcomes.
    """
    require_scipy()
    check_outcomes(outcomes, features, encoder)
    if read is None:
        read = read_texts(features, word_bits, on_progress)
    numbers = np.stack([each.numbers for each in read])
    kinds = [kind for kind in (parts, known_kind_parts(outcomes, parts, seed)) if kind]
    search = RidgeSearch(outcomes.scores, read, numbers, features, kinds, word_bits, on_progress)
    if ridges is None:
        ridges = search.choose() if parts else USUAL_RIDGES
    held_out = search.held_out(ridges, parts) if parts else None
    on_progress("fitting", 0, 1)
    scaling, design = search.design(ridges)
    fit = fit_heads(design, outcomes.scores, ridges)
    on_progress("fitting", 1, 1)
    scores = chances(fit.logits(design))
    if held_out is not None:
        # A prompt that is in no part, or a model whose outcomes are all in one. The sample needs a score of each.
        scores = held_out = np.where(np.isnan(held_out), scores, held_out)
    sampled = sample_rows(len(scores), seed)
    predictor = Heads(outcomes.models, encoder, scores[sampled], scaling, fit.weights(design, scaling))
    predictor.sample_tokens = tokens_of(outcomes, sampled)
    return Trained(predictor, held_out, ridges)


def read_texts(features: PromptFeatures, word_bits: int, on_progress: Progress) -> list[ReadText]:
    """The texts of prompts, as heads read them."""
    read = []
    for number, text in enumerate(features.texts):
        read.append(read_text(text, word_bits))
        on_progress("reading texts", number + 1, len(features))
    return read


def sample_rows(n: int, seed: int) -> npt.NDArray[np.intp]:
    """Which of n prompts become a predictor's sample, ascending: all of few, and some of many."""
    if n <= _MOST_SAMPLED:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(np.arange(n), _MOST_SAMPLED, replace=False))


def tokens_of(learned: Outcomes | Battles, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """About how many tokens some of the prompts have, as targets count them: those of all messages."""
    return np.array([prompt_tokens(learned.prompts[row]) for row in rows], np.float64)


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
    scored = {*outcomes.scored_models}
    if without := [name for name in outcomes.models if name not in scored]:
        raise QualityError(f"no answer of {', '.join(without[:5])} was scored; leave it out, or add outcomes")
