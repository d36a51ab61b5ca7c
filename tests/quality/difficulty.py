"""Prompts of known difficulty, models of known skill, and their outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archroute_edge.quality import Outcomes, Prompt, PromptFeatures

WIDTH = 16
ENCODER = "ab" * 32
HARD = "compute the integral and prove that the series converges"
EASY = "say hello and thank my friend"


@dataclass(frozen=True)
class MadeUp:
    """Prompts, from easy (1) to hard (0) ones in no order, and what models make of them."""

    outcomes: Outcomes
    features: PromptFeatures
    easy: npt.NDArray[np.float64]

    def first(self, n: int) -> tuple[Outcomes, PromptFeatures]:
        """The first n prompts."""
        rows = np.arange(n)
        return self.outcomes.rows(rows), self.features.rows(rows)


def make(n: int = 160, skills: tuple[float, ...] = (-1.0, 0.5, 2.0), seed: int = 0, missing: float = 0.1) -> MadeUp:
    """n prompts whose text and vector tell how easy they are; a model of skill s is right with chance σ(6(easy - ½) + s)."""
    draw = np.random.default_rng(seed)
    easy = draw.random(n)
    vectors = draw.normal(size=(n, WIDTH))
    vectors[:, 0] += 8.0 * (easy - 0.5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple(f"{EASY if each > 0.5 else HARD}, item {number}" for number, each in enumerate(easy))
    chances = 1.0 / (1.0 + np.exp(-(6.0 * (easy[:, None] - 0.5) + np.array(skills))))
    scores = (draw.random((n, len(skills))) < chances).astype(np.float64)
    scores[draw.random(scores.shape) < missing] = np.nan
    # No model is left without outcomes, however few prompts there are.
    scores[0] = draw.random(len(skills)) < 0.5
    prompts = tuple(Prompt(str(number), text, f"subject {number % 8}", "made_up") for number, text in enumerate(texts))
    models = tuple(f"model {number}" for number in range(len(skills)))
    return MadeUp(Outcomes(prompts, models, scores), PromptFeatures(texts, vectors.astype(np.float32)), easy)


def loss(scores: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float:
    """Mean cross entropy."""
    known = ~np.isnan(scores)
    return float(-(scores * np.log(expected) + (1.0 - scores) * np.log(1.0 - expected))[known].mean())
