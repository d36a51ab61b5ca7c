"""Intervals of differences: against published numbers, and how often they hold the true difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from archroute_edge.record._intervals import (
    Difference,
    Floats,
    design_effect,
    mean_difference,
    median_difference,
    paired_median,
    share_difference,
)


def ones(count: int, total: int) -> Floats:
    return np.array([1.0] * count + [0.0] * (total - count))


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((5, 56), (0, 29), -0.0381, 0.1926)],
)
def test_shares_differ_as_newcombe_says(one: tuple[int, int], other: tuple[int, int], low: float, high: float) -> None:
    """Table II of his paper, method 10."""
    found = share_difference(ones(*one), np.arange(one[1]), ones(*other), np.arange(other[1]))
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


def test_a_request_that_is_repeated_in_its_conversation_says_nothing_new() -> None:
    values = np.random.default_rng(1).normal(size=200)
    assert design_effect(values, np.arange(200)) == pytest.approx(1.0, abs=0.01)
    assert design_effect(np.repeat(values, 5), np.repeat(np.arange(200), 5)) == pytest.approx(5.0, rel=0.01)
    once = mean_difference(values, np.arange(200), values + 1, np.arange(200))
    clusters = np.repeat(np.arange(200), 5)
    often = mean_difference(np.repeat(values, 5), clusters, np.repeat(values + 1, 5), clusters)
    assert [often.low, often.high] == pytest.approx([once.low, once.high], rel=0.01)


def of_medians(random: np.random.Generator, n: int) -> Difference:
    alone = np.arange(n)
    return median_difference(random.lognormal(6.5, 0.6, n), alone, random.lognormal(6.5, 0.3, n), alone)


def of_means(random: np.random.Generator, n: int) -> Difference:
    alone = np.arange(n)
    return mean_difference(random.exponential(2.0, n), alone, random.normal(2.0, 1.0, n), alone)


def of_pairs(random: np.random.Generator, n: int) -> Difference:
    return paired_median(random.standard_cauchy(n))


@pytest.mark.parametrize("draw", [of_medians, of_means, of_pairs])
@pytest.mark.parametrize("n", [40, 1200])
def test_an_interval_holds_the_true_difference_nineteen_times_in_twenty(
    draw: Callable[[np.random.Generator, int], Difference], n: int
) -> None:
    random = np.random.default_rng(n)
    found = [draw(random, n) for _ in range(300)]
    held = sum(not each.is_one for each in found)
    assert 0.91 * 300 <= held <= 0.99 * 300


def test_too_few_have_no_interval() -> None:
    few = np.array([1.0, 2.0, 3.0])
    for found in (median_difference(few, np.arange(3), few, np.arange(3)), paired_median(few)):
        assert found.low is None
        assert not found.is_one
