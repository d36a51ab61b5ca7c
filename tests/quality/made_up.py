"""Outcomes, and a predictor that knows of them as much as a test wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archroute_edge.quality._outcomes import Outcomes, Prompt, Scores
from archroute_edge.quality._predictor import Predictor, PromptFeatures

MODELS = ("small", "middle", "large")
SUBJECTS = ("law", "physics", "history")


class KnownScores(Predictor):
    """Expects what it is told to, prompt by prompt."""

    policy = "heads"

    def __init__(self, models: tuple[str, ...], expected: Scores) -> None:
        super().__init__(models, None, np.empty((0, len(models))))
        self._expected = expected

    def expected(self, features: PromptFeatures) -> Scores:
        assert len(features) == len(self._expected)
        return self._expected

    def with_model(self, model: str, graded: Outcomes, features: PromptFeatures) -> Predictor:
        raise NotImplementedError

    def tensors(self) -> dict[str, Any]:
        return {}

    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(cls, models: Any, encoder: Any, sample: Any, tensors: Mapping[str, Any], settings: Any) -> Predictor:
        raise NotImplementedError


def made_up_outcomes(n: int, seed: int = 0, subjects: tuple[str, ...] = SUBJECTS) -> tuple[Outcomes, Scores]:
    """Prompts with outcomes of :data:`MODELS`, and the chance of each model to be right.

    Half of the prompts say that they are hard. There the small model fails and the large one does not; elsewhere all are right
    more often than not.
    """
    rng = np.random.default_rng(seed)
    chances = np.empty((n, len(MODELS)))
    prompts = []
    for number in range(n):
        hard = bool(rng.random() < 0.5)
        chances[number] = (0.15, 0.45, 0.75) if hard else (0.8, 0.85, 0.8)
        filler = " ".join(rng.choice(["alpha", "beta", "gamma", "delta", "omega"], 4))
        prompts.append(
            Prompt(
                f"p{number}", f"{filler} {'prove rigorously' if hard else 'name'} {number}", subjects[number % len(subjects)]
            )
        )
    scores = (rng.random(chances.shape) < chances).astype(np.float64)
    return Outcomes(tuple(prompts), MODELS, scores), chances


def features_of(outcomes: Outcomes) -> PromptFeatures:
    """The texts, without vectors."""
    return PromptFeatures(tuple(str(prompt.messages) for prompt in outcomes.prompts), None)
