"""Rates from shares and budgets: against brute force over every break point, and at the edges."""

from __future__ import annotations

import itertools
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.errors import QualityError
from archroute_edge.quality import OperatingPoint, Trade

Array = npt.NDArray[np.float64]


def random_case(seed: int, n: int = 60, k: int = 4) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.random((n, k)), rng.choice([0.0, 0.001, 0.001, 0.004, 0.02], k)


def break_points(scores: Array, prices: Array) -> list[float]:
    """Every rate at which two models of a prompt have equal values."""
    wide = np.broadcast_to(prices, scores.shape)
    found = {0.0}
    for row, costs in zip(scores, wide, strict=True):
        for a, b in itertools.permutations(range(len(row)), 2):
            if costs[a] > costs[b] and row[a] > row[b]:
                found.add(float((row[a] - row[b]) / (costs[a] - costs[b])))
    return sorted(found)


def just_above(rate: float) -> float:
    return rate * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.999, 1.0])
def test_the_rate_of_a_share_is_the_smallest_break_point_that_keeps_it(seed: int, share: float) -> None:
    scores, prices = random_case(seed)
    if len(set(prices)) == 1:
        prices[0] += 0.001
    trade = Trade(scores, prices)
    found = trade.rate_for_share(share)
    assert trade.at(found).dear_share <= share + 1e-9
    expected = next(rate for rate in break_points(scores, prices) if trade.at(just_above(rate)).dear_share <= share + 1e-9)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_rate_of_a_budget_is_the_smallest_break_point_that_keeps_it(seed: int, part: float) -> None:
    scores, prices = random_case(seed)
    trade = Trade(scores, prices)
    most, least = trade.at(0.0).cost_per_1k, trade.at(1e12).cost_per_1k
    budget = least + part * (most - least)
    found = trade.rate_for_cost(budget)
    assert trade.at(found).cost_per_1k <= budget * (1 + 1e-8)
    within = (rate for rate in break_points(scores, prices) if trade.at(just_above(rate)).cost_per_1k <= budget * (1 + 1e-9))
    assert found == pytest.approx(next(within), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), per_prompt=st.booleans())
def test_share_cost_and_score_only_fall_as_the_rate_grows(seed: int, k: int, per_prompt: bool) -> None:
    """A rate that is found by halving is only right if it does; prices of each prompt must not break it."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (30, k)) / 3
    prices = rng.integers(0, 3, (30, k) if per_prompt else k) / 100
    points = [Trade(scores, prices).at(rate) for rate in np.linspace(0, 200, 37)]
    for before, after in itertools.pairwise(points):
        assert after.dear_share <= before.dear_share
        assert after.cost_per_1k <= before.cost_per_1k + 1e-12
        assert after.expected_score <= before.expected_score + 1e-12
        assert sum(after.shares) == pytest.approx(1.0)


def test_equal_values_go_to_the_first_model_and_a_share_is_still_kept() -> None:
    """At the break point itself values are equal: a rate that stops there would leave every prompt with the first model."""
    scores = np.tile([0.9, 0.5], (10, 1))
    trade = Trade(scores, [0.01, 0.0])
    assert trade.at(0.0).shares == (1.0, 0.0)
    found = trade.rate_for_share(0.3)
    assert found == pytest.approx(40.0, rel=1e-9)
    assert trade.at(found) == OperatingPoint(found, (0.0, 1.0), 0.0, 0.0, 0.5)
    same = Trade(np.full((10, 2), 0.5), [0.01, 0.0])
    assert same.at(same.rate_for_share(0.5)).shares == (0.0, 1.0)
    assert same.rate_for_share(1.0) == 0.0


def test_one_model_and_equal_prices_have_no_rate_but_0() -> None:
    for scores, prices in ((np.full((5, 1), 0.4), [0.01]), (np.array([[0.4, 0.6]]), [0.01, 0.01])):
        trade = Trade(scores, prices)
        assert trade.rate_for_share(1.0) == 0.0
        assert trade.rate_for_cost(10.0) == 0.0
        with pytest.raises(QualityError, match=r"50\.0% cannot be kept: for 100\.0% of the prompts no model costs less"):
            trade.rate_for_share(0.5)
        with pytest.raises(QualityError, match=r"\$9\.9 cannot be had: the cheapest models cost \$10 already"):
            trade.rate_for_cost(9.9)


def test_a_price_of_next_to_nothing_has_a_rate_that_is_a_number() -> None:
    scores = np.array([[0.4, 0.6]] * 10)
    with pytest.raises(QualityError, match="cannot be kept"):
        Trade(scores, [0.0, 1e-310]).rate_for_share(0.5)
    assert np.isfinite(Trade(scores, [0.0, 1e-290]).rate_for_share(0.5))


def test_free_models_take_what_a_budget_of_nothing_leaves() -> None:
    rng = np.random.default_rng(3)
    trade = Trade(rng.random((50, 3)), [0.0, 0.0, 0.002])
    point = trade.at(trade.rate_for_cost(0.0))
    assert point.cost_per_1k == 0.0
    assert point.shares[2] == 0.0
    assert 0 < point.shares[0] < 1


def test_a_price_of_each_prompt_counts() -> None:
    """A long prompt is dear where a short one is not."""
    scores = np.array([[0.5, 0.6], [0.5, 0.6]])
    prices = np.array([[0.0, 0.001], [0.0, 0.1]])
    assert Trade(scores, prices).chosen(10.0).tolist() == [1, 0]
    assert Trade(scores, prices).rate_for_cost(1.0) == pytest.approx(1.0)


def test_the_curve_falls_from_the_best_to_the_cheapest() -> None:
    scores, _ = random_case(1, n=400, k=2)
    prices = np.array([0.0, 0.01])
    curve = Trade(scores, prices).curve([0.0, 0.25, 0.5, 1.0])
    assert [point.rate for point in curve] == sorted({point.rate for point in curve})
    assert [point.dear_share for point in curve][1:] == pytest.approx([0.5, 0.25, 0.0], abs=1 / 400)
    assert curve[-1].cost_per_1k == 0.0
    assert Trade(scores, [0.01, 0.01]).curve([0.0, 1.0]) == [Trade(scores, [0.01, 0.01]).at(0.0)]


def test_one_model_for_all() -> None:
    scores = np.array([[0.2, 0.8], [0.4, 0.6]])
    assert Trade(scores, [0.001, 0.002]).alone(1) == OperatingPoint(0.0, (0.0, 1.0), 1.0, 2.0, 0.7)


@pytest.mark.parametrize(
    ("scores", "prices", "message"),
    [
        (np.empty((0, 2)), [1.0, 2.0], "no expected scores"),
        (np.empty((3, 0)), [], "no expected scores"),
        (np.zeros((3, 2)), [1.0], "prices of shape"),
        (np.zeros((3, 2)), [1.0, -1.0], "not below 0"),
        (np.zeros((3, 2)), [1.0, np.nan], "finite"),
        (np.full((3, 2), np.inf), [1.0, 2.0], "finite"),
    ],
)
def test_what_cannot_be_weighed_is_refused(scores: Array, prices: list[float], message: str) -> None:
    with pytest.raises(QualityError, match=message):
        Trade(scores, prices)


def test_a_rate_of_many_prompts_is_found_soon() -> None:
    """At the start of a server; the bound leaves room for a busy machine."""
    rng = np.random.default_rng(0)
    trade = Trade(rng.random((5000, 3)), rng.random(3) / 100)
    started = time.perf_counter()
    trade.rate_for_share(0.3)
    assert time.perf_counter() - started < 5.0
