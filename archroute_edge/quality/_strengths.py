"""What battles say of models: comparisons in one order, strengths, and the expected scores they come to.

A model's *strength* is its logit in a Bradley-Terry model: a beats b with chance sigmoid(s_a - s_b), a tie is half a win.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._outcomes import Battles, Outcomes, Prompt, Scores
from archroute_edge.quality._predictor import PromptFeatures, Vectors

MAX_MODELS = 96
"""More are refused in training: a decision solves equations in as many unknowns, and NumPy does that with threads from 100 on.

After a product or a solution, the threads of its BLAS wait for more work for about a tenth of a second, and do not leave the
cores to llama.cpp. So a decision uses np.einsum, which has no threads.
"""
_MAX_LOGIT = 1e6
# Priors of a calibration, in observations: a model's intercept is near the others', their mean near 0, the slope near 1.
_OWN_PRIOR, _SHARED_PRIOR, _SLOPE_PRIOR = 1.0, 0.1, 1.0

Curve = tuple[float, Scores, Scores]
"""A function's value, gradient and matrix of second derivatives at a point."""


def sigmoid(logits: Scores) -> Scores:
    """1 / (1 + exp(-x)), without overflow."""
    half: Scores = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return half


def softplus(logits: Scores) -> Scores:
    """log(1 + exp(x)), without overflow."""
    result: Scores = np.logaddexp(0.0, logits)
    return result


_MOST_STEPS = 40


def minimise(curve: Callable[[Scores], Curve], start: Scores) -> Scores:
    """The minimum of a strictly convex function, by Newton's method; a step that does not descend is halved."""
    point, (value, gradient, curvature) = start, curve(start)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(curvature, gradient)
        there = curve(point - step)
        # Beside the minimum a value changes by rounding alone.
        while there[0] > value + 1e-12 * abs(value) and np.abs(step).max() > 1e-12:
            step = step / 2
            there = curve(point - step)
        point, (value, gradient, curvature) = point - step, there
        if np.abs(step).max() < 1e-9:
            break
    return point


@dataclass(frozen=True)
class Comparisons:
    """Battles by prompt and pair, the same whichever way round and in whatever order they were.

    Attributes:
        prompt: (n,) which prompt.
        low: (n,) the model of the pair that has the lower number.
        high: (n,) the other.
        won: (n,) battles that `low` won, a tie counted half.
        count: (n,) battles.
    """

    prompt: npt.NDArray[np.intp]
    low: npt.NDArray[np.intp]
    high: npt.NDArray[np.intp]
    won: Scores
    count: Scores

    def __len__(self) -> int:
        return len(self.prompt)

    def rows(self, which: npt.NDArray[Any]) -> Comparisons:
        """Some of them, by number or by a mask."""
        return Comparisons(self.prompt[which], self.low[which], self.high[which], self.won[which], self.count[which])


def comparisons_of(battles: Battles) -> Comparisons:
    """The battles in one order.

    Raises:
        QualityError: they cannot be learned from.
    """
    k = len(battles.models)
    _check(battles, k)
    turned = battles.first > battles.second
    low = np.where(turned, battles.second, battles.first).astype(np.int64)
    high = np.where(turned, battles.first, battles.second).astype(np.int64)
    codes, place = np.unique((battles.prompt.astype(np.int64) * k + low) * k + high, return_inverse=True)
    # Sums of halves are exact: no order changes them.
    won = np.bincount(place, weights=np.where(turned, 1.0 - battles.won, battles.won)).astype(np.float64)
    count = np.bincount(place).astype(np.float64)
    pair = codes % (k * k)
    return Comparisons(codes // (k * k), pair // k, pair % k, won, count)


def _check(battles: Battles, k: int) -> None:
    if not 2 <= k <= MAX_MODELS:
        raise QualityError(f"battles of {k} models cannot be learned from; give 2 to {MAX_MODELS} models")
    if not len(battles.prompt):
        raise QualityError("there is no battle to learn from")
    if (battles.first == battles.second).any():
        row = int(np.flatnonzero(battles.first == battles.second)[0])
        raise QualityError(f"battle {row + 1}: {battles.models[battles.first[row]]!r} fights itself; leave the battle out")
    if not ((battles.won >= 0) & (battles.won <= 1)).all():
        raise QualityError("a battle's result is not from 0 to 1; 1 = the first won, 0 = the second won, 0.5 = a tie")
    without = np.bincount(np.concatenate((battles.first, battles.second)), minlength=k) == 0
    if without.any():
        name = battles.models[int(np.flatnonzero(without)[0])]
        raise QualityError(f"no battle has the model {name!r}; give battles of it, or leave it out and add it later")


def vectors_of(features: PromptFeatures, width: int | None = None) -> Vectors:
    """The prompts' vectors.

    Raises:
        QualityError: there are none, or they are not `width` numbers long, or not finite.
    """
    vectors = features.vectors
    if vectors is None:
        raise QualityError("this policy reads an encoder's vectors of the prompts, and there are none; name the encoder")
    if width is not None and vectors.shape[1] != width:
        raise QualityError(
            f"the predictor reads vectors of {width} numbers, these have {vectors.shape[1]}; train it again with this encoder"
        )
    if not np.isfinite(vectors).all():
        raise QualityError("a prompt's vector is not finite; the encoder's file is damaged")
    return vectors


def same_prompts(prompts: Sequence[Prompt]) -> npt.NDArray[np.intp]:
    """A number for each prompt; prompts that say the same have the same one."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(_said(prompt), len(numbers)) for prompt in prompts], np.intp)


def scores_on(prompts: Sequence[Prompt], models: tuple[str, ...], outcomes: Outcomes | None) -> Scores:
    """(n, k) outcomes on these prompts; NaN where there is none.

    Outcomes of these very prompts are taken row by row, and others are found by what the prompts say: the mean of a model's.

    Raises:
        QualityError: there are outcomes, and none of them is of these prompts and models.
    """
    if outcomes is None:
        return np.full((len(prompts), len(models)), np.nan)
    scores = outcomes.columns(models).scores
    if outcomes.prompts is not prompts:
        scores = _means_on(prompts, outcomes.prompts, scores)
    if np.isnan(scores).all():
        raise QualityError("no outcome is of a prompt and a model of the battles; give battles on the prompts of the outcomes")
    return scores


def _means_on(prompts: Sequence[Prompt], known: Sequence[Prompt], columns: Scores) -> Scores:
    """(n, k) means of the rows whose prompts say the same."""
    same = same_prompts((*prompts, *known))
    sums, counts = np.zeros((2, int(same.max()) + 1, columns.shape[1]))
    is_known = ~np.isnan(columns)
    np.add.at(sums, same[len(prompts) :], np.where(is_known, columns, 0.0))
    np.add.at(counts, same[len(prompts) :], is_known)
    means: Scores = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means[same[: len(prompts)]]


def _said(prompt: Prompt) -> str:
    said = prompt.messages
    return json.dumps([{"role": "user", "content": said}] if isinstance(said, str) else said, sort_keys=True)


def chances(strengths: Scores, others: Scores) -> Scores:
    """(n,) mean chances to beat the others, from strengths (n,) and (n, j)."""
    mean: Scores = sigmoid(strengths[:, None] - others).mean(axis=1)
    return mean


@dataclass(frozen=True)
class Calibration:
    """Expected scores from strengths: sigmoid(intercept of the model + slope * strength).

    Attributes:
        slope: one for all models, 0 or more.
        intercepts: (k,).
    """

    slope: float
    intercepts: Scores

    def expected(self, strengths: Scores, first: int = 0) -> Scores:
        """(n, j) expected scores of j models from number `first` on."""
        return sigmoid(self.intercepts[first : first + strengths.shape[1]] + self.slope * strengths)

    def with_model(self, strengths: Scores, scores: Scores, trained: int) -> Calibration:
        """One model more, from its strengths and scores (n,); its intercept is drawn to those of the trained ones."""
        prior = float(self.intercepts[:trained].mean())

        def curve(point: Scores) -> Curve:
            logits = point[0] + self.slope * strengths
            chance = sigmoid(logits)
            value = float((softplus(logits) - scores * logits).sum() + _OWN_PRIOR / 2 * (point[0] - prior) ** 2)
            gradient = (chance - scores).sum() + _OWN_PRIOR * (point[0] - prior)
            return value, np.array([gradient]), np.array([[(chance * (1 - chance)).sum() + _OWN_PRIOR]])

        return Calibration(self.slope, np.append(self.intercepts, minimise(curve, np.array([prior]))))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What :meth:`restore` reads."""
        return {"slope": np.array([self.slope]), "intercepts": self.intercepts}

    @staticmethod
    def restore(tensors: Mapping[str, npt.NDArray[Any]], k: int) -> Calibration | None:
        """The calibration of k models; None if the predictor was trained from battles alone.

        Raises:
            QualityError: half of it is missing, or it is damaged.
        """
        if "slope" not in tensors and "intercepts" not in tensors:
            return None
        slope = tensor(tensors, "slope", np.float64, (1,), 0.0, _MAX_LOGIT)
        return Calibration(float(slope[0]), tensor(tensors, "intercepts", np.float64, (k,), -_MAX_LOGIT, _MAX_LOGIT))


def expected_scores(strengths: Scores, calibration: Calibration | None) -> Scores:
    """(n, k) calibrated scores; without a calibration the mean chance to beat the other models."""
    if calibration:
        return calibration.expected(strengths)
    k = strengths.shape[1]
    scores = np.empty_like(strengths)
    for model in range(k):
        scores[:, model] = chances(strengths[:, model], np.delete(strengths, model, axis=1))
    return scores


def fit_calibration(strengths: Scores, scores: Scores) -> Calibration:
    """Fit slope and intercepts to outcomes (n, k), some of them NaN; a model without any gets the others' mean intercept."""
    k = strengths.shape[1]
    known = ~np.isnan(scores)
    outcome = np.where(known, scores, 0.0)
    prior = np.zeros((k + 1, k + 1))
    prior[0, 0] = _SLOPE_PRIOR
    prior[1:, 1:] = _OWN_PRIOR * (np.eye(k) - 1 / k) + _SHARED_PRIOR / k
    centre = np.append(1.0, np.zeros(k))

    def curve(point: Scores, is_flat: bool) -> Curve:
        logits = point[1:] + point[0] * strengths
        chance = sigmoid(logits)
        value = float(((softplus(logits) - outcome * logits) * known).sum() + (point - centre) @ prior @ (point - centre) / 2)
        error, bend = (chance - outcome) * known, chance * (1 - chance) * known
        gradient = np.append((error * strengths).sum(), error.sum(axis=0)) + prior @ (point - centre)
        curvature = prior.copy()
        curvature[0, 0] += (bend * strengths**2).sum()
        curvature[0, 1:] += (bend * strengths).sum(axis=0)
        curvature[1:, 0] = curvature[0, 1:]
        curvature[1:, 1:] += np.diag(bend.sum(axis=0))
        if is_flat:
            gradient[0], curvature[0], curvature[:, 0], curvature[0, 0] = 0.0, 0.0, 0.0, 1.0
        return value, gradient, curvature

    point = minimise(lambda at: curve(at, False), centre)
    if point[0] < 0:
        # A stronger model is never expected to score less on this prompt than it would, were it weaker.
        point = minimise(lambda at: curve(at, True), np.zeros(k + 1))
    return Calibration(float(point[0]), point[1:])


def tensor(
    tensors: Mapping[str, npt.NDArray[Any]],
    name: str,
    kind: type[np.generic],
    shape: tuple[int | None, ...],
    least: float | None = None,
    most: float | None = None,
) -> npt.NDArray[Any]:
    """One of a predictor's tensors, of this kind and shape (None: any length but 0), its values within bounds.

    Raises:
        QualityError: it is missing, or of another kind or shape, or a value is beyond the bounds.
    """
    found = tensors.get(name)
    if found is None:
        raise QualityError(f"the predictor has no tensor {name!r}; train it again")
    fits = found.ndim == len(shape) and all(
        n == want if want is not None else n > 0 for n, want in zip(found.shape, shape, strict=True)
    )
    if found.dtype != kind or not fits:
        raise QualityError(f"the predictor's tensor {name!r} is of another kind or shape; train it again")
    if (least is not None and found.min() < least) or (most is not None and found.max() > most):
        raise QualityError(f"the predictor's tensor {name!r} has a value beyond what it can be; train it again")
    return found
