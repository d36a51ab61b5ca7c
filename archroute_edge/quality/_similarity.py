"""The policy ``similarity``: a Bradley-Terry model fitted for each prompt, battles on similar prompts weighing more.

RouteLLM's similarity-weighted ranking, for any number of models. A battle on a prompt with cosine c weighs 10 * 10^(c / max c).
Its two models can be exchanged: a battle enters as wins of one over the other, a tie as half a win for each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._newcomers import graded_rows, newcomer_battles, sample_with, trained_of
from archroute_edge.quality._outcomes import Battles, Outcomes, Scores
from archroute_edge.quality._predictor import Predictor, PromptFeatures, Vectors
from archroute_edge.quality._strengths import (
    Calibration,
    Comparisons,
    Curve,
    chances,
    comparisons_of,
    expected_scores,
    fit_calibration,
    minimise,
    same_prompts,
    scores_on,
    sigmoid,
    softplus,
    tensor,
    vectors_of,
)
from archroute_edge.quality._train import tokens_of

_RIDGE = 0.5
"""Of a strength's square, beside comparisons that weigh 1 on average: a standard normal prior."""
_AT_ONCE = 32
_MOST_WINS = 2.0**31
N_CALIBRATED = 3000
"""Prompts that expected scores are calibrated on, at most."""
N_SAMPLE = 1000


@dataclass(frozen=True)
class _Wins:
    """Wins on prompts, sorted by prompt and pair: `wins` of model ``pair // k`` over model ``pair % k``, ties half."""

    vectors: Vectors
    prompt: npt.NDArray[np.int32]
    pair: npt.NDArray[np.int32]
    wins: npt.NDArray[np.float32]

    @staticmethod
    def of(comparisons: Comparisons, vectors: Vectors, k: int) -> _Wins:
        prompt = np.concatenate((comparisons.prompt, comparisons.prompt))
        pair = np.concatenate((comparisons.low * k + comparisons.high, comparisons.high * k + comparisons.low))
        wins = np.concatenate((comparisons.won, comparisons.count - comparisons.won))
        order = np.lexsort((pair, prompt))
        order = order[wins[order] > 0]
        used, place = np.unique(prompt[order], return_inverse=True)
        return _Wins(
            _rounded(vectors[used]), place.astype(np.int32), pair[order].astype(np.int32), wins[order].astype(np.float32)
        )


@dataclass(frozen=True)
class _Newcomer:
    """A model that was added: chances to win (n, k) against the trained ones on n graded prompts, and how much each weighs."""

    vectors: Vectors
    won: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]

    @cached_property
    def _weighed(self) -> tuple[Scores, Scores]:
        """Wins and losses, in the precision that strengths are computed in."""
        return (self.won * self.weight).astype(np.float64), ((1 - self.won) * self.weight).astype(np.float64)

    def strength(self, vector: Vectors, others: Scores, left_out: npt.NDArray[np.bool_] | None = None) -> float:
        """Its strength on a prompt, from the trained models' there, which stay as they are."""
        weights = _battle_weights(np.einsum("nd,d->n", self.vectors, vector), left_out)
        if weights.sum() > 0:
            weights *= len(weights) / weights.sum()
        won, lost = (np.einsum("n,nk->k", weights, each) for each in self._weighed)

        def curve(point: Scores) -> Curve:
            ahead = point[0] - others
            chance = sigmoid(ahead)
            value = float(won @ softplus(-ahead) + lost @ softplus(ahead) + _RIDGE * point[0] ** 2)
            gradient = float(((won + lost) * chance - won).sum() + 2 * _RIDGE * point[0])
            bend = float(((won + lost) * chance * (1 - chance)).sum() + 2 * _RIDGE)
            return value, np.array([gradient]), np.array([[bend]])

        return float(minimise(curve, np.zeros(1))[0])


class Similarity(Predictor):
    """Battles and the vectors of their prompts; made by :func:`train_similarity`."""

    policy: ClassVar[Literal["similarity"]] = "similarity"

    def __init__(
        self,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        wins: _Wins,
        calibration: Calibration | None,
        newcomers: tuple[_Newcomer, ...] = (),
    ) -> None:
        super().__init__(models, encoder, sample)
        self._wins = wins
        self._calibration = calibration
        self._newcomers = newcomers
        self._k = k = len(models) - len(newcomers)
        pair = wins.pair.astype(np.int64)
        apart = np.minimum(pair // k, pair % k) * k + np.maximum(pair // k, pair % k)
        self._n_comparisons = len(np.unique(wins.prompt.astype(np.int64) * k * k + apart))
        self._start = np.zeros(k)
        self._start = self._fit(np.zeros(len(wins.vectors), np.float32))

    def expected(self, features: PromptFeatures) -> Scores:
        """(n, k) expected scores: calibrated ones, or without outcomes the mean chance to beat the other models."""
        vectors = self._vectors(features)
        strengths = self._strengths(vectors)
        scores = np.empty((len(vectors), len(self.models)))
        scores[:, : self._k] = expected_scores(strengths, self._calibration)
        for number, newcomer in enumerate(self._newcomers, self._k):
            own = np.array([newcomer.strength(*pair) for pair in zip(vectors, strengths, strict=True)])
            if self._calibration:
                scores[:, number] = self._calibration.expected(own[:, None], number)[:, 0]
            else:
                scores[:, number] = chances(own, strengths)
        return scores

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> Similarity:
        """This one and one model more, whose strength is fitted with the trained models' as they are.

        Raises:
            QualityError: it has the model already, there is no graded prompt, or the grades cannot be compared with anything.
        """
        rows = graded_rows(self.models, model, graded)
        graded, vectors = graded.rows(rows), self._vectors(features)[rows]
        strengths = self._strengths(vectors)
        calibration = self._calibration
        known = (lambda: expected_scores(strengths, calibration)) if calibration else None
        grades, won, weight = newcomer_battles(self.models[: self._k], model, graded, known)
        newcomer = _Newcomer(_rounded(vectors), won.astype(np.float32), weight.astype(np.float32))
        if calibration:
            same = same_prompts(graded.prompts)
            own = [
                newcomer.strength(vector, others, same == same[row])
                for row, (vector, others) in enumerate(zip(vectors, strengths, strict=True))
            ]
            calibration = calibration.with_model(np.array(own), grades, self._k)
        more = copy.copy(self)
        more.models, more._calibration, more._newcomers = (*self.models, model), calibration, (*self._newcomers, newcomer)
        scores = more.expected(features.rows(rows))
        more.sample = sample_with(self.sample, scores[:, :-1], scores[:, -1])
        return more

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Vectors and wins, the calibration, and what is known of added models."""
        wins = self._wins
        learned: dict[str, npt.NDArray[Any]] = {
            "vectors": wins.vectors.astype(np.float16),
            "prompt": wins.prompt,
            "pair": wins.pair,
            "wins": wins.wins,
        }
        if self._calibration:
            learned |= self._calibration.tensors()
        for number, newcomer in enumerate(self._newcomers):
            learned[f"added.{number}.vectors"] = newcomer.vectors.astype(np.float16)
            learned[f"added.{number}.won"] = newcomer.won
            learned[f"added.{number}.weight"] = newcomer.weight
        return learned

    def settings(self) -> dict[str, Any]:
        """The number of models that were trained; the rest were added."""
        return {"trained": self._k}

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Similarity:
        """The predictor that `tensors` and `settings` came from."""
        k = trained_of(settings, len(models))
        vectors = tensor(tensors, "vectors", np.float16, (None, None))
        prompt = tensor(tensors, "prompt", np.int32, (None,), 0, len(vectors) - 1)
        pair = tensor(tensors, "pair", np.int32, prompt.shape, 0, k * k - 1)
        wins = tensor(tensors, "wins", np.float32, prompt.shape, 0.0, _MOST_WINS)
        newcomers = []
        for number in range(len(models) - k):
            seen = tensor(tensors, f"added.{number}.vectors", np.float16, (None, vectors.shape[1]))
            shape = (len(seen), k)
            won = tensor(tensors, f"added.{number}.won", np.float32, shape, 0.0, 1.0)
            weight = tensor(tensors, f"added.{number}.weight", np.float32, shape, 0.0, 1.0)
            newcomers.append(_Newcomer(seen.astype(np.float32), won, weight))
        kept = _Wins(vectors.astype(np.float32), prompt, pair, wins)
        calibration = Calibration.restore(tensors, len(models))
        return cls(models, encoder, sample, kept, calibration, tuple(newcomers))

    def _vectors(self, features: PromptFeatures) -> Vectors:
        return vectors_of(features, self._wins.vectors.shape[1])

    def _strengths(self, vectors: Vectors, left_out: Callable[[int], npt.NDArray[np.bool_]] | None = None) -> Scores:
        """(n, k) strengths of the trained models; `left_out` tells for a row which of the stored prompts do not count."""
        strengths = np.empty((len(vectors), self._k))
        for begin in range(0, len(vectors), _AT_ONCE):
            cosines = _cosines(self._wins.vectors, vectors[begin : begin + _AT_ONCE])
            for row in range(begin, begin + cosines.shape[1]):
                strengths[row] = self._fit(np.ascontiguousarray(cosines[:, row - begin]), left_out(row) if left_out else None)
        return strengths

    def _fit(self, cosines: Vectors, left_out: npt.NDArray[np.bool_] | None = None) -> Scores:
        """The models' strengths on a prompt with these cosines to the stored ones; they come to 0."""
        k, stored = self._k, self._wins
        weights = _battle_weights(cosines, left_out)[stored.prompt] * stored.wins
        wins = np.bincount(stored.pair, weights=weights, minlength=k * k).reshape(k, k)
        if (total := wins.sum()) > 0:
            wins *= self._n_comparisons / total
        battles = wins + wins.T

        def curve(point: Scores) -> Curve:
            ahead = point[:, None] - point
            chance = sigmoid(ahead)
            bend = battles * chance * chance.T
            value = float((wins * softplus(-ahead)).sum() + _RIDGE * point @ point)
            gradient = (battles * chance - wins).sum(axis=1) + 2 * _RIDGE * point
            curvature = -bend
            curvature[np.diag_indices(k)] = bend.sum(axis=1) - bend.diagonal() + 2 * _RIDGE
            return value, gradient, curvature

        strengths = minimise(curve, self._start)
        centred: Scores = strengths - strengths.mean()
        return centred


def train_similarity(
    battles: Battles,
    features: PromptFeatures,
    outcomes: Outcomes | None = None,
    *,
    encoder: str | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Similarity:
    """Keep the battles, and calibrate expected scores on outcomes if there are any.

    Args:
        battles: what to learn from; each model is in one of them at least.
        features: of ``battles.prompts``, with vectors.
        outcomes: scores on prompts of the battles. Without them a model's expected score is its mean chance to beat the others.
        encoder: identity of the encoder that the vectors are of.
        seed: decides on which prompts, at most 3,000, the calibration and the sample are made.
        on_progress: called with the number of finished prompts of these, and of all.

    Raises:
        QualityError: the battles, the vectors or the outcomes cannot be learned from.
    """
    comparisons = comparisons_of(battles)
    vectors, k = vectors_of(features), len(battles.models)
    scores = scores_on(battles.prompts, battles.models, outcomes)
    empty = np.empty((0, k))
    bare = Similarity(battles.models, encoder, empty, _Wins.of(comparisons, _unit(vectors), k), None)
    asked = np.unique(comparisons.prompt) if outcomes is None else np.flatnonzero(~np.isnan(scores).all(axis=1))
    chosen = np.sort(np.random.default_rng(seed).permutation(asked)[:N_CALIBRATED])
    same = same_prompts(battles.prompts)
    of_stored = same[np.unique(comparisons.prompt)]

    def own(row: int) -> npt.NDArray[np.bool_]:
        on_progress(row, len(chosen))
        return np.asarray(of_stored == same[chosen[row]])

    # Of prompts as if they were new: their own battles do not count.
    strengths = bare._strengths(vectors[chosen], own)
    on_progress(len(chosen), len(chosen))
    calibration = None if outcomes is None else fit_calibration(strengths, scores[chosen])
    few = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:N_SAMPLE])
    found = Similarity(battles.models, encoder, expected_scores(strengths[few], calibration), bare._wins, calibration)
    found.sample_tokens = tokens_of(battles, chosen[few])
    return found


def _battle_weights(cosines: Vectors, left_out: npt.NDArray[np.bool_] | None = None) -> Scores:
    """10^(c / max c), or 1 for each if no cosine is above 0; weights are brought to a mean of 1 later, so no factor 10."""
    exact = cosines.astype(np.float64)
    if left_out is not None:
        exact = np.where(left_out, -np.inf, exact)
    top = exact.max()
    weights = np.power(10.0, exact / top) if top > 0 else np.ones_like(exact)
    if left_out is not None:
        weights[left_out] = 0.0
    return weights


def _cosines(stored: Vectors, vectors: Vectors) -> Vectors:
    """(stored, n) products of the stored vectors with n others; of one, as in a decision, without threads."""
    product: Vectors = np.einsum("nd,md->nm", stored, vectors) if len(vectors) == 1 else stored @ vectors.T
    return product


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def _rounded(vectors: Vectors) -> Vectors:
    """As they come back from a file."""
    return vectors.astype(np.float16).astype(np.float32)
