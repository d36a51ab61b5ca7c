"""What predictors of strengths share: calibrated expected scores, and models added as mixtures of the trained ones."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._newcomers import graded_parts, graded_rows, newcomer_battles, sample_with, trained_of
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import Predictor, PromptFeatures
from archroute_edge.quality._splits import Split
from archroute_edge.quality._strengths import (
    Calibration,
    Curve,
    expected_scores,
    minimise,
    sigmoid,
    softplus,
    tensor,
)

_NEWCOMER_FOLDS = 10
_MOST_WEIGHT = 1e6

Mixture = npt.NDArray[np.float32]


class MixturePredictor(Predictor):
    """A predictor whose trained models have strengths, which come to 0 on each prompt.

    Args:
        models: the trained models, then added ones.
        encoder: identity of the encoder.
        sample: expected scores of prompts.
        n_trained: number of trained models.
        calibration: turns strengths into expected scores; None if there were battles alone.
        newcomers: of each added model, its mixture of the trained ones.
    """

    def __init__(
        self,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        n_trained: int,
        calibration: Calibration | None,
        newcomers: tuple[Mixture, ...],
    ) -> None:
        super().__init__(models, encoder, sample)
        self._calibration = calibration
        self._newcomers = newcomers
        self._k = n_trained

    @abstractmethod
    def strengths(self, features: PromptFeatures) -> Scores:
        """(n, trained models) strengths, which come to 0 on each prompt."""

    @abstractmethod
    def own_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What the strengths are computed from."""

    def expected(self, features: PromptFeatures) -> Scores:
        """(n, k) expected scores: calibrated ones, or without outcomes the mean chance to beat the other models."""
        return self.scores_of(self.strengths(features))

    def scores_of(self, strengths: Scores) -> Scores:
        """(n, k) expected scores at strengths (n, trained models)."""
        scores = np.empty((len(strengths), len(self.models)))
        for number in range(len(self.models)):
            is_new = number >= self._k
            own = _mixed(strengths, self._newcomers[number - self._k].astype(np.float64)) if is_new else strengths[:, number]
            if self._calibration:
                scores[:, number] = self._calibration.expected(own[:, None], number)[:, 0]
            else:
                others = strengths if is_new else np.delete(strengths, number, axis=1)
                scores[:, number] = self.chance(own[:, None] - others).mean(axis=1)
        return scores

    def chance(self, ahead: Scores) -> Scores:
        """The chance to beat a model whose strength is less by so much."""
        return sigmoid(ahead)

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> MixturePredictor:
        """This one and one model more, a mixture of the trained ones that is fitted to its grades.

        Raises:
            QualityError: it has the model already, there is no graded prompt, or the grades cannot be compared with anything.
        """
        rows = graded_rows(self.models, model, graded)
        graded, features = graded.rows(rows), features.rows(rows)
        strengths = self.strengths(features)
        calibration = self._calibration
        known = (lambda: expected_scores(strengths, calibration)) if calibration else None
        grades, won, weight = newcomer_battles(self.models[: self._k], model, graded, known)
        mixture = _fit_mixture(strengths, won, weight).astype(np.float32)
        if calibration:
            own = np.empty(len(rows))
            nothing = Split(np.arange(0), np.arange(len(rows)))
            for rest, ours in graded_parts(graded, _NEWCOMER_FOLDS) or (nothing,):
                own[ours] = _mixed(strengths[ours], _fit_mixture(strengths[rest], won[rest], weight[rest]))
            calibration = calibration.with_model(own, grades, self._k)
        more = copy.copy(self)
        more.models, more._calibration, more._newcomers = (*self.models, model), calibration, (*self._newcomers, mixture)
        scores = more.expected(features)
        more.sample = sample_with(self.sample, scores[:, :-1], scores[:, -1])
        return more

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Those of the strengths, the calibration, and added models' mixtures."""
        learned = self.own_tensors()
        if self._calibration:
            learned |= self._calibration.tensors()
        if self._newcomers:
            learned["added"] = np.stack(self._newcomers)
        return learned

    def settings(self) -> dict[str, Any]:
        """The number of models that were trained; the rest were added."""
        return {"trained": self._k}


def restore_shared(
    n_models: int, tensors: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]
) -> tuple[int, Calibration | None, tuple[Mixture, ...]]:
    """The number of trained models, the calibration and the mixtures, as a :class:`MixturePredictor` takes them.

    Raises:
        QualityError: something is missing or damaged.
    """
    k = trained_of(settings, n_models)
    added = n_models - k
    newcomers = tensor(tensors, "added", np.float32, (added, k), -_MOST_WEIGHT, _MOST_WEIGHT) if added else ()
    return k, Calibration.restore(tensors, n_models), tuple(newcomers)


def _mixed(strengths: Scores, mixture: Scores) -> Scores:
    """(n,) strengths of a mixture of the trained models, whose strengths are (n, k) and come to 0."""
    mixed: Scores = (strengths * mixture).sum(axis=1) / np.sqrt(max(strengths.shape[1] - 1, 1))
    return mixed


def _fit_mixture(strengths: Scores, won: Scores, weight: Scores) -> Scores:
    """The mixture (k,) that explains a new model's battles; a priori it is drawn as the trained models might have been.

    A normal prior with the trained models' mean and covariance is a standard normal one of these k numbers.
    """
    k = strengths.shape[1]
    seen = strengths / np.sqrt(max(k - 1, 1))

    def curve(point: Scores) -> Curve:
        ahead = (seen @ point)[:, None] - strengths
        chance = sigmoid(ahead)
        value = float((weight * (softplus(ahead) - won * ahead)).sum() + point @ point / 2)
        gradient = seen.T @ (weight * (chance - won)).sum(axis=1) + point
        bend = (weight * chance * (1 - chance)).sum(axis=1)
        return value, gradient, seen.T @ (bend[:, None] * seen) + np.eye(k)

    return minimise(curve, np.zeros(k))
