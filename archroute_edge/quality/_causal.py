"""The policy ``causal``: what the marks of a language model mean for each model.

The expected score of model m is Σ_j p_j v_mj: p_j is the chance of mark j, as the language model says it at some temperature,
and v_mj the mean score of m on prompts of that mark. So it is an expectation over all five marks and no argmax. The values
never fall from one mark to the next; they are drawn to what all models share, moved to the model's own level, as strongly as a
few graded answers would. A mark is hidden: all that is known of it are its chances. So values are found by expectation and
maximisation (Dempster, Laird, Rubin 1977), which needs NumPy alone and gives the same result every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._levels import LEVELS, LEVELS_FORMAT
from archroute_edge.quality._newcomers import graded_rows, sample_with
from archroute_edge.quality._outcomes import Outcomes, Scores
from archroute_edge.quality._predictor import Policy, Predictor, PromptFeatures
from archroute_edge.quality._strengths import sigmoid, tensor
from archroute_edge.quality._train import check_outcomes, sample_rows, tokens_of

TEMPERATURES: Final = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0)
"""Those that are tried."""

_SHARED_PRIOR: Final = 1.0
"""Answers of the mean score that the shared value of a mark counts as having seen."""
_OWN_PRIOR: Final = 8.0
"""The same for a model's own value, of the shared value at the model's level."""
_LEAST_CHANCE: Final = 1e-9
_MOST_STEPS: Final = 200
_ENOUGH: Final = 1e-7


class Causal(Predictor):
    """Values of marks; made by :func:`train_causal`.

    Args:
        models: k names.
        encoder: identity of the language model.
        sample: expected scores of prompts, (m, k).
        values: (k, 5).
        shared: (5,) what all models share.
        temperature: of the marks' chances.
    """

    policy: ClassVar[Policy] = "causal"
    reads: ClassVar[Literal["vectors", "levels"]] = "levels"

    def __init__(
        self,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        values: Scores,
        shared: Scores,
        temperature: float,
    ) -> None:
        super().__init__(models, encoder, sample)
        self.values = values
        self.shared = shared
        self.temperature = temperature

    def expected(self, features: PromptFeatures) -> Scores:
        """As :meth:`Predictor.expected` says; a model's score depends on no other model's values, not in its last bit."""
        chances = tempered(levels_of(features), self.temperature)
        found: Scores = (chances[:, None, :] * self.values[None]).sum(axis=2)
        return np.clip(found, 0.0, 1.0)

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> Causal:
        """As :meth:`Predictor.with_model` says; temperature and shared values stay."""
        rows = graded_rows(self.models, model, graded)
        some = features.rows(rows)
        chances = tempered(levels_of(some), self.temperature)
        own = fit_model(chances, graded.columns((model,)).scores[rows, 0], self.shared)
        values = np.vstack([self.values, own])
        more = Causal((*self.models, model), self.encoder, self.sample, values, self.shared, self.temperature)
        scores = more.expected(some)
        more.sample = sample_with(self.sample, scores[:, :-1], scores[:, -1])
        return more

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As :meth:`Predictor.tensors` says."""
        return {"values": self.values, "shared": self.shared, "temperature": np.array([self.temperature])}

    def settings(self) -> dict[str, Any]:
        """The version of the question."""
        return {"levels_format": LEVELS_FORMAT}

    @classmethod
    def restore(
        cls,
        models: tuple[str, ...],
        encoder: str | None,
        sample: Scores,
        tensors: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
    ) -> Causal:
        """As :meth:`Predictor.restore` says."""
        if settings.get("levels_format") != LEVELS_FORMAT:
            raise QualityError("reads levels that are asked for otherwise here; train it again with archroute quality train")
        if encoder is None:
            raise QualityError("names no language model that it reads; train it again with archroute quality train")
        values = tensor(tensors, "values", np.float64, (len(models), len(LEVELS)), 0.0, 1.0)
        shared = tensor(tensors, "shared", np.float64, (len(LEVELS),), 0.0, 1.0)
        temperature = tensor(tensors, "temperature", np.float64, (1,), TEMPERATURES[0], TEMPERATURES[-1])
        return cls(models, encoder, sample, values, shared, float(temperature[0]))


def train_causal(outcomes: Outcomes, features: PromptFeatures, *, model: str | None, seed: int = 0) -> Causal:
    """Find out what the marks mean for each model. The language model itself is not trained here.

    Args:
        outcomes: prompts and scores; every model has some.
        features: of the same prompts, with levels.
        model: identity of the language model that said them.
        seed: which prompts become the predictor's sample.

    Raises:
        QualityError: there is no prompt or level, or a model has no outcomes.
    """
    check_outcomes(outcomes, PromptFeatures(features.texts, None), None)
    said, scores = levels_of(features), outcomes.scores
    known = ~np.isnan(scores)
    answered = known.any(axis=1)
    # A prompt counts once, however many models answered it.
    means = np.where(known, scores, 0.0).sum(axis=1)[answered] / known.sum(axis=1)[answered]
    tried = [(each, tempered(said, each)[answered]) for each in TEMPERATURES]
    fits = [_fit_shared(chances, means) for _, chances in tried]
    losses = [_loss(chances @ shared, means) for (_, chances), shared in zip(tried, fits, strict=True)]
    best = int(np.argmin(losses))
    temperature, shared = TEMPERATURES[best], fits[best]
    chances = tempered(said, temperature)
    values = np.stack([fit_model(chances[rows], column[rows], shared) for rows, column in zip(known.T, scores.T, strict=True)])
    found = Causal(outcomes.models, model, np.empty((0, len(outcomes.models))), values, shared, temperature)
    sampled = sample_rows(len(scores), seed)
    found.sample = found.expected(features.rows(sampled))
    found.sample_tokens = tokens_of(outcomes, sampled)
    return found


def levels_of(features: PromptFeatures) -> Scores:
    """The prompts' levels.

    Raises:
        QualityError: there are none, or they are no chances of five marks.
    """
    levels = features.levels
    if levels is None:
        raise QualityError("this predictor reads the levels that a language model says, and there are none; name the model")
    if levels.shape != (len(features), len(LEVELS)) or not (np.isfinite(levels) & (levels >= 0)).all():
        raise QualityError("a prompt's levels are no chances of five marks; the language model's file is damaged")
    return levels


def tempered(levels: Scores, temperature: float) -> Scores:
    """(n, 5) chances at another temperature: the higher, the more even."""
    logits = np.log(np.maximum(levels, _LEAST_CHANCE)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Scores = raised / raised.sum(axis=1, keepdims=True)
    return found


def fit_model(chances: Scores, scores: Scores, shared: Scores) -> Scores:
    """(5,) one model's values, from its scores (n,) on prompts whose marks have ``chances`` (n, 5)."""
    # Half an answer of each kind more: a model that always wins stays below 1.
    level = (scores.sum() + 0.5) / (len(scores) + 1)
    return _fit(chances, scores, _moved(shared, chances.mean(axis=0), level), _OWN_PRIOR)


def _fit_shared(chances: Scores, means: Scores) -> Scores:
    level = (means.sum() + 0.5) / (len(means) + 1)
    return _fit(chances, means, np.full(chances.shape[1], level), _SHARED_PRIOR)


def _moved(shared: Scores, chances: Scores, level: float) -> Scores:
    """The shared values with their logits moved by one number, so that they come to a mean of ``level``: by bisection."""
    inside = np.clip(shared, _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    logits = np.log(inside / (1 - inside))
    low, high = -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        if float(sigmoid(logits + middle) @ chances) < level:
            low = middle
        else:
            high = middle
    return sigmoid(logits + (low + high) / 2)


def _fit(chances: Scores, scores: Scores, prior: Scores, strength: float) -> Scores:
    """Values of the marks that make the scores likeliest, beside ``strength`` answers of ``prior`` for each mark."""
    values = prior
    for _ in range(_MOST_STEPS):
        right, wrong = chances * values, chances * (1 - values)
        won = scores @ (right / np.maximum(right.sum(axis=1, keepdims=True), _LEAST_CHANCE))
        lost = (1 - scores) @ (wrong / np.maximum(wrong.sum(axis=1, keepdims=True), _LEAST_CHANCE))
        seen = won + lost + strength
        found = _rising((won + strength * prior) / seen, seen)
        if np.abs(found - values).max() < _ENOUGH:
            return found
        values = found
    return values


def _rising(values: Scores, weights: Scores) -> Scores:
    """The nearest values that never fall: neighbours that do are replaced by their mean, until none is left."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        n = 1
        while blocks and blocks[-1][0] >= value:
            before, heavy, many = blocks.pop()
            value, weight, n = (before * heavy + value * weight) / (heavy + weight), heavy + weight, n + many
        blocks.append((value, weight, n))
    return np.concatenate([np.full(n, value) for value, _, n in blocks])


def _loss(expected: Scores, scores: Scores) -> float:
    inside = np.clip(expected, _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    return float(-(scores * np.log(inside) + (1 - scores) * np.log(1 - inside)).mean())
