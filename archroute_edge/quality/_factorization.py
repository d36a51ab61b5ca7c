"""The policy ``factorization``: a model's strength on a prompt is a product of a vector of the model and one of the prompt.

RouteLLM's matrix factorization, for any number of models: the strength of m on x is w . (P_m * W x), rows of P have length 1,
and a beats b with chance sigmoid(s_a - s_b). Three things differ from theirs:

- A tie is half a win for each; theirs drops ties.
- x ends in a constant 1. Their vectors have a large mean that plays its part; without either, vectors around 0 could not
  tell that a model always wins.
- w starts at 0, so that strengths come from battles alone and never from the draw of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._factorization_training import PATIENCE, Floats, Weights, learn
from archroute_edge.quality._mixtures import MixturePredictor, restore_shared
from archroute_edge.quality._outcomes import Battles, Outcomes, Scores
from archroute_edge.quality._predictor import PromptFeatures
from archroute_edge.quality._strengths import (
    Calibration,
    comparisons_of,
    expected_scores,
    fit_calibration,
    same_prompts,
    scores_on,
    tensor,
    vectors_of,
)
from archroute_edge.quality._train import tokens_of

_MOST_ROUNDS = 100
_FEWEST_HELD_OUT, _UNJUDGED_ROUNDS = 10, 10
"""With fewer different prompts none is held out, and training takes so many rounds."""
_FOLDS = 3
_N_SAMPLE = 1000
_MOST_WEIGHT = 1e6


class Factorization(MixturePredictor):
    """Vectors of models and the projection of prompts; made by :func:`train_factorization`."""

    policy: ClassVar[Literal["factorization"]] = "factorization"

    def __init__(
        self,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        weights: Weights,
        calibration: Calibration | None,
        newcomers: tuple[Floats, ...] = (),
    ) -> None:
        super().__init__(models, encoder, sample, len(weights.rows), calibration, newcomers)
        self._weights = weights

    def strengths(self, features: PromptFeatures) -> Scores:
        """As :meth:`MixturePredictor.strengths` says."""
        return self._weights.strengths(vectors_of(features, self._weights.projection.shape[1] - 1))

    def own_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The weights."""
        weights = self._weights
        return {"rows": weights.rows, "projection": weights.projection, "scale": weights.scale}

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Factorization:
        """The predictor that `tensors` and `settings` came from."""
        k, calibration, newcomers = restore_shared(len(models), tensors, settings)
        rows = tensor(tensors, "rows", np.float32, (k, None), -1.001, 1.001)
        projection = tensor(tensors, "projection", np.float32, (rows.shape[1], None), -_MOST_WEIGHT, _MOST_WEIGHT)
        scale = tensor(tensors, "scale", np.float32, (rows.shape[1],), -_MOST_WEIGHT, _MOST_WEIGHT)
        return cls(models, encoder, sample, Weights(rows, projection, scale), calibration, newcomers)


def train_factorization(
    battles: Battles,
    features: PromptFeatures,
    outcomes: Outcomes | None = None,
    *,
    encoder: str | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Factorization:
    """Learn vectors of models and the projection of prompts, and calibrate expected scores on outcomes if there are any.

    The loss on a tenth of the prompts says after how many rounds to stop; then all prompts are learned from for as many, and
    two thirds at a time for the strengths on the others, of which calibration and sample are made.

    Args:
        battles: what to learn from; each model is in one of them at least.
        features: of ``battles.prompts``, with vectors.
        outcomes: scores on prompts of the battles. Without them a model's expected score is its mean chance to beat the others.
        encoder: identity of the encoder that the vectors are of.
        seed: decides what is held out, where training starts, and the order of its batches.
        on_progress: called with the number of finished rounds, and of all as far as known.

    Raises:
        QualityError: the battles, the vectors or the outcomes cannot be learned from.
    """
    comparisons, k = comparisons_of(battles), len(battles.models)
    vectors = vectors_of(features)
    scores = scores_on(battles.prompts, battles.models, outcomes)
    said = same_prompts(battles.prompts)
    used = np.unique(comparisons.prompt)
    texts = np.unique(said[used])
    place = np.random.default_rng(seed).permutation(len(texts))
    order = dict(zip(texts.tolist(), place.tolist(), strict=True))
    # A prompt without battles is new to every part.
    turn = np.array([order.get(text, 0) for text in said.tolist()])
    part = turn[comparisons.prompt]
    done = 0

    def learned(
        which: npt.NDArray[np.bool_], rounds: int, left: Callable[[int], int], judged: bool = False
    ) -> tuple[Weights, int]:
        def on_round(number: int) -> None:
            nonlocal done
            done += 1
            on_progress(done, done + left(number))

        judge = comparisons.rows(~which) if judged else None
        return learn(comparisons.rows(which), vectors, k, seed, rounds, judge, on_round)

    def left_from(fold: int) -> Callable[[int], int]:
        return lambda number: (_FOLDS - fold) * rounds - number

    rounds = _UNJUDGED_ROUNDS
    if len(texts) >= _FEWEST_HELD_OUT:
        # What is left if it ended now.
        _, rounds = learned(part % 10 != 0, _MOST_ROUNDS, lambda number: PATIENCE + (1 + _FOLDS) * number, judged=True)
    weights, _ = learned(part >= 0, rounds, lambda number: rounds - number + _FOLDS * rounds)
    asked = used if outcomes is None else np.flatnonzero(~np.isnan(scores).all(axis=1))
    strengths = np.empty((len(asked), k))
    for fold in range(_FOLDS):
        rest, ours = part % _FOLDS != fold, asked[turn[asked] % _FOLDS == fold]
        others = weights
        # A single prompt cannot be left out.
        if rest.any() and len(ours):
            others, _ = learned(rest, rounds, left_from(fold))
        strengths[turn[asked] % _FOLDS == fold] = others.strengths(vectors[ours])
    calibration = None if outcomes is None else fit_calibration(strengths, scores[asked])
    few = np.sort(np.random.default_rng(seed).permutation(len(asked))[:_N_SAMPLE])
    found = Factorization(battles.models, encoder, expected_scores(strengths[few], calibration), weights, calibration)
    found.sample_tokens = tokens_of(battles, asked[few])
    return found
