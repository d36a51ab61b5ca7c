"""Training of the policy ``factorization``: Adam over batches of comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._outcomes import Scores
from archroute_edge.quality._predictor import Vectors
from archroute_edge.quality._strengths import Comparisons, sigmoid, softplus

_WIDTH = 128
_RATE, _DECAY, _BATCH, _NOISE = 3e-4, 1e-5, 64, 0.1
_LEAST_BATCHES = 50
"""Batches of a round, a pass over the comparisons unless they are few."""
PATIENCE = 5
"""Rounds without a better loss on what is held out before training ends."""

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Weights:
    """`rows` (k, width) of length 1, `projection` (width, d + 1), the last column the constant's, and `scale` (width,)."""

    rows: Floats
    projection: Floats
    scale: Floats

    @cached_property
    def _models(self) -> Scores:
        """(k, d + 1): what a vector is multiplied with."""
        models: Scores = (self.rows * self.scale).astype(np.float64) @ self.projection
        return models

    def strengths(self, vectors: Vectors) -> Scores:
        """(n, k) strengths of the models; on a prompt they come to 0."""
        raw = np.einsum("nd,kd->nk", vectors, self._models[:, :-1]) + self._models[:, -1]
        centred: Scores = raw - raw.mean(axis=1, keepdims=True)
        return centred


def learn(
    comparisons: Comparisons,
    vectors: Vectors,
    k: int,
    seed: int,
    rounds: int,
    judge: Comparisons | None,
    on_round: Callable[[int], object],
) -> tuple[Weights, int]:
    """Adam over batches of comparisons.

    Args:
        comparisons: what to learn from.
        vectors: of all prompts.
        k: number of models.
        seed: of the start, the order and the noise.
        rounds: how many at most.
        judge: comparisons on other prompts; when their loss has not fallen for some rounds, training ends.
        on_round: called with the number of each finished round.

    Returns:
        The weights of the best round by the judge, without one those of the last, and which round it was.
    """
    draw = np.random.default_rng(seed)
    d = vectors.shape[1] + 1
    rows = draw.standard_normal((k, _WIDTH), np.float32)
    projection = draw.standard_normal((_WIDTH, d), np.float32) / np.float32(np.sqrt(_WIDTH))
    parameters = [rows, projection, np.zeros(_WIDTH, np.float32)]
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in parameters]
    won = (comparisons.won / comparisons.count).astype(np.float32)
    weight = (comparisons.count / comparisons.count.mean()).astype(np.float32)
    batches = max(-(-len(comparisons) // _BATCH), _LEAST_BATCHES)
    best = loss_of(weights_of(parameters), judge, vectors) if judge is not None else np.inf
    kept, best_round, n_steps = weights_of(parameters), 0, 0
    for number in range(1, rounds + 1):
        shuffled = np.concatenate([draw.permutation(len(comparisons)) for _ in range(-(-batches * _BATCH // len(comparisons)))])
        for begin in range(0, batches * _BATCH, _BATCH):
            batch = shuffled[begin : begin + _BATCH]
            seen = np.ones((len(batch), d), np.float32)
            seen[:, :-1] = vectors[comparisons.prompt[batch]] + _NOISE * draw.standard_normal((len(batch), d - 1), np.float32)
            pairs = np.zeros((len(batch), k), np.float32)
            pairs[np.arange(len(batch)), comparisons.low[batch]] = 1
            pairs[np.arange(len(batch)), comparisons.high[batch]] = -1
            n_steps += 1
            _adam(parameters, _gradients(parameters, seen, pairs, won[batch], weight[batch]), moments, n_steps)
        on_round(number)
        if judge is None:
            continue
        loss = loss_of(weights_of(parameters), judge, vectors)
        if loss < best:
            best, kept, best_round = loss, weights_of(parameters), number
        elif number - best_round >= PATIENCE:
            break
    return (kept, best_round) if judge is not None else (weights_of(parameters), rounds)


def _gradients(parameters: Sequence[Numbers], seen: Numbers, pairs: Numbers, won: Numbers, weight: Numbers) -> list[Numbers]:
    """Of the mean log loss of a batch: vectors (b, d), pairs (b, k) of 1 and -1, shares won and weights (b,)."""
    rows, projection, scale = parameters
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / length
    apart, hidden = pairs @ unit, seen @ projection.T
    error = ((sigmoid((apart * hidden) @ scale) - won) * weight / len(won))[:, None]
    of_unit = pairs.T @ (error * hidden * scale)
    return [
        (of_unit - unit * (of_unit * unit).sum(axis=1, keepdims=True)) / length,
        (error * apart * scale).T @ seen,
        (error * apart * hidden).sum(axis=0),
    ]


def _adam(parameters: list[Floats], gradients: Sequence[Numbers], moments: list[tuple[Floats, Floats]], step: int) -> None:
    """One step, in place (Kingma and Ba, arXiv 1412.6980), weights decaying through the gradient."""
    rate = np.float32(_RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step))
    for parameter, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
        gradient = gradient + np.float32(_DECAY) * parameter
        first += np.float32(0.1) * (gradient - first)
        second += np.float32(0.001) * (gradient * gradient - second)
        parameter -= rate * first / (np.sqrt(second) + np.float32(1e-8))


def weights_of(parameters: list[Floats]) -> Weights:
    """The parameters as they are now, rows of length 1."""
    rows, projection, scale = parameters
    return Weights(rows / np.linalg.norm(rows, axis=1, keepdims=True), projection.copy(), scale.copy())


def loss_of(weights: Weights, comparisons: Comparisons, vectors: Vectors) -> float:
    """Mean log loss of battles."""
    prompts, place = np.unique(comparisons.prompt, return_inverse=True)
    strengths = weights.strengths(vectors[prompts])
    ahead = strengths[place, comparisons.low] - strengths[place, comparisons.high]
    return float((comparisons.count * softplus(ahead) - comparisons.won * ahead).sum() / comparisons.count.sum())
