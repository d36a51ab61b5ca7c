"""The policy similarity: weights, the fit, and its files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archroute_edge.quality._outcomes import Battles
from archroute_edge.quality._similarity import train_similarity
from archroute_edge.quality._strengths import MAX_MODELS
from tests.quality import battles as made

# Vectors that 16 bits hold exactly.
STORED = np.eye(4)[[0, 1, 2, 0, 3]]
BATTLES = made.few(
    [(0, 0, 1, 1.0), (1, 1, 0, 1.0), (2, 1, 0, 0.5), (3, 0, 1, 1.0), (4, 1, 0, 1.0), (4, 0, 1, 0.0)], ("a", "b"), 5
)


def chance_of_first(query: list[float]) -> float:
    """P(a beats b) by the formula, battle by battle: weights 10 * 10^(cos / max cos), their mean 1 a comparison, ridge 1/2."""
    cosines = [float(np.dot(STORED[prompt], query)) for prompt in BATTLES.prompt]
    weights = [10 * 10 ** (cosine / max(cosines)) if max(cosines) > 0 else 1.0 for cosine in cosines]
    n_comparisons = len(set(BATTLES.prompt.tolist()))
    scale = n_comparisons / sum(weights)
    won = sum(
        scale * weight * (result if first == 0 else 1 - result)
        for weight, first, result in zip(weights, BATTLES.first, BATTLES.won, strict=True)
    )
    # a has strength t, b has -t: the derivative of the penalised loss grows in t.
    low, high = -20.0, 20.0
    for _ in range(200):
        t = (low + high) / 2
        derivative = 2 * (n_comparisons / (1 + math.exp(-2 * t)) - won) + 2 * t
        low, high = (low, t) if derivative > 0 else (t, high)
    return 1 / (1 + math.exp(-2 * t))


@pytest.mark.parametrize(
    "query",
    [
        pytest.param([1.0, 0.5, 0.25, 0.0], id="some alike"),
        pytest.param([0.0, 0.0, 1.0, -1.0], id="one alike, one opposite"),
        pytest.param([-1.0, -0.5, -0.25, -0.5], id="all opposite"),
        pytest.param([0.0, 0.0, 0.0, 0.0], id="nothing"),
        pytest.param([1e-30, -1.0, -1.0, -1.0], id="barely alike"),
    ],
)
def test_the_fit_is_the_formula_s(query: list[float]) -> None:
    predictor = train_similarity(BATTLES, made.of_vectors(STORED))
    ((first, second),) = predictor.expected(made.of_vectors(np.array([query])))
    assert first == pytest.approx(chance_of_first(query), abs=1e-7)
    assert second == pytest.approx(1 - first)


def test_scores_of_a_prompt_hardly_depend_on_the_prompts_beside_it() -> None:
    """Products of matrices are rounded otherwise than products with one vector, and nothing else may differ."""
    predictor = train_similarity(made.battles(40), made.features(40))
    asked = made.features(70, seed=8)
    together = predictor.expected(asked)
    alone = np.concatenate([predictor.expected(asked.rows(np.array([row]))) for row in range(70)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_sample_is_of_prompts_as_if_they_were_new() -> None:
    """A prompt's own battles weigh most: a sample and a calibration that they had a part in would feign knowledge.

    Prompts 0 and 1 say the same, so that the one's battles tell of the other.
    """
    battles, features = made.battles(40), made.features(40)
    said = (battles.prompts[1], *battles.prompts[1:])
    battles = Battles(said, battles.models, battles.prompt, battles.first, battles.second, battles.won)
    predictor = train_similarity(battles, features)
    without = train_similarity(made.rows(battles, battles.prompt > 1), features)
    two = features.rows(np.arange(2))
    np.testing.assert_allclose(predictor.sample[:2], without.expected(two), atol=0.01)
    assert np.abs(predictor.expected(two) - without.expected(two)).max() > 0.03


def test_many_models() -> None:
    models = tuple(f"m{number:03}" for number in range(MAX_MODELS))
    predictor = train_similarity(made.battles(60, per_prompt=40, models=models), made.features(60))
    scores = predictor.expected(made.features(3, seed=9))
    assert np.isfinite(scores).all()
    assert (scores[:, -30:].mean(axis=1) > scores[:, :30].mean(axis=1) + 0.1).all()
