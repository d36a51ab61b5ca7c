"""The policy factorization: its formula, gradients and training."""

from __future__ import annotations

import numpy as np
import pytest

from archroute_edge.quality import _factorization
from archroute_edge.quality._factorization import train_factorization
from archroute_edge.quality._factorization_training import Weights, _adam, _gradients, learn
from archroute_edge.quality._strengths import comparisons_of
from tests.quality import battles as made


def test_strengths_are_the_formula_s() -> None:
    """delta_m = w . (P_m * W x), x ending in 1; on a prompt strengths come to 0."""
    draw = np.random.default_rng(0)
    rows, projection, scale = draw.standard_normal((3, 5)), draw.standard_normal((5, 4)), draw.standard_normal(5)
    vector = draw.standard_normal(3)
    expected = np.array([scale @ (row * (projection @ np.append(vector, 1))) for row in rows])
    weights = Weights(*(each.astype(np.float32) for each in (rows, projection, scale)))
    (strengths,) = weights.strengths(vector.astype(np.float32)[None])
    np.testing.assert_allclose(strengths, expected - expected.mean(), atol=1e-5)


def test_gradients_are_those_of_the_loss() -> None:
    """Against finite differences, rows being scaled to length 1 inside."""
    draw = np.random.default_rng(1)
    b, k, width, d = 7, 4, 5, 6
    parameters = [draw.standard_normal(shape) for shape in ((k, width), (width, d), (width,))]
    seen = draw.standard_normal((b, d))
    pairs = np.eye(k)[draw.integers(0, 2, b)] - np.eye(k)[draw.integers(2, 4, b)]
    won, weight = draw.random(b), draw.random(b)

    def loss() -> float:
        rows, projection, scale = parameters
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        ahead = ((pairs @ unit) * (seen @ projection.T)) @ scale
        return float((weight * (np.logaddexp(0, ahead) - won * ahead)).mean())

    found = _gradients(parameters, seen, pairs, won, weight)
    for parameter, gradient in zip(parameters, found, strict=True):
        for place in np.ndindex(parameter.shape):
            kept = parameter[place]
            parameter[place] = kept + 1e-6
            above = loss()
            parameter[place] = kept - 1e-6
            below = loss()
            parameter[place] = kept
            assert gradient[place] == pytest.approx((above - below) / 2e-6, abs=1e-7)


def test_adam_follows_its_paper() -> None:
    """Three steps against the formulas as printed."""
    rate, decay, start = 3e-4, 1e-5, np.array([1.0, -2.0])
    slopes = [np.array([0.5, -0.1]), np.array([0.2, 0.3]), np.array([-0.4, 0.0])]
    expected, m, v = start.copy(), np.zeros(2), np.zeros(2)
    ours, moments = [start.astype(np.float32)], [(np.zeros(2, np.float32), np.zeros(2, np.float32))]
    for t, slope in enumerate(slopes, 1):
        g = slope + decay * expected
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected = expected - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        _adam(ours, [slope.astype(np.float32)], moments, t)
    np.testing.assert_allclose(ours[0], expected, atol=1e-6)


def test_training_ends_when_other_prompts_gain_nothing() -> None:
    """Results that are drawn cannot be learned: what is kept is no later than the judge's best round."""
    n = 60
    battles = made.battles(n)
    battles.won[:] = np.random.default_rng(3).integers(0, 2, len(battles.won))
    comparisons = comparisons_of(battles)
    vectors = made.features(n).vectors
    assert vectors is not None
    held_out = comparisons.prompt >= 40
    ended: list[int] = []
    _, best = learn(comparisons.rows(~held_out), vectors, 3, 0, 100, comparisons.rows(held_out), ended.append)
    assert ended[-1] < 100
    assert best <= ended[-1] - 5


def test_another_seed_is_another_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_factorization, "_MOST_ROUNDS", 3)
    battles, features = made.battles(30), made.features(30)
    one, other = (train_factorization(battles, features, seed=seed).expected(features) for seed in (0, 1))
    assert np.abs(one - other).max() > 1e-6
