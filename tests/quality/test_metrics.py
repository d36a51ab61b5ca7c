"""Figures of predictors of quality, held against figures worked out by hand or in the slow and obvious way."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.quality._frontier import Frontier, PricedChoices, against_singles, mixtures
from archroute_edge.quality._metrics import (
    N_BINS,
    Calibration,
    Estimate,
    Floats,
    PairFigures,
    PairOrder,
    bootstrapped,
    estimated,
    resamples,
)

SCORES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
PROMPTS = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), SCORES, SCORES), min_size=1, max_size=12)


def array(*numbers: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(numbers, np.float64)


def once(ranked: PairOrder, n: int) -> PairFigures:
    return ranked.figures(np.ones((1, n)))


# Four prompts: only the strong one is right on the first, both on the second, only the weak one on the third, none on the last.
GAINS = array(1, 0, -1, 1)


def test_a_curve_worked_out_by_hand() -> None:
    """In the order given, calls of the strong model recover 1, 1, 0 and 1 of a gap of 1."""
    curve = PairOrder(array(4, 3, 2, 1), GAINS).curve()
    assert curve is not None
    assert curve.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.recovered.tolist() == [0, 1, 1, 0, 1]
    figures = once(PairOrder(array(4, 3, 2, 1), GAINS), 4)
    # Trapezoids of a quarter each: 1/2, 1, 1/2, 1/2.
    assert figures.apgr[0] == pytest.approx(2.5 / 4)
    assert figures.calls[0.5][0] == pytest.approx(0.125)
    assert figures.calls[0.8][0] == pytest.approx(0.2)
    # Better: prompts 1 and 4; of the four pairs with the others, 1 is before both, 4 behind both.
    assert figures.auc[0] == pytest.approx(0.5)


def test_a_predictor_that_tells_no_prompts_apart_has_an_apgr_of_exactly_one_half() -> None:
    """A constant must not gain from the order of the file, in which here all gains stand first."""
    for n in (1, 3, 7, 1000):
        gains = np.concatenate([np.full(n, 0.3), np.zeros(2 * n)])
        figures = once(PairOrder(np.full(3 * n, 0.25), gains), 3 * n)
        assert figures.apgr[0] == 0.5
        assert figures.auc[0] == 0.5
        assert figures.calls[0.5][0] == pytest.approx(0.5)
        assert figures.calls[0.8][0] == pytest.approx(0.8)


@given(PROMPTS)
def test_equal_orders_count_as_their_average_over_all_ways_to_break_ties(prompts: list[tuple[float, float, float]]) -> None:
    """Breaking ties in one way, such as the file's, gives a figure that another order of the same file does not."""
    prompts = prompts[:6]
    order, weak, strong = (np.array(each) for each in zip(*prompts, strict=True))
    gains = strong - weak
    found = once(PairOrder(order, gains), len(order))
    areas = []
    for places in itertools.permutations(range(len(order))):
        if all(order[one] >= order[two] for one, two in itertools.pairwise(places)):
            recovered = np.append(0, np.cumsum(gains[list(places)]))
            areas.append(np.mean((recovered[1:] + recovered[:-1]) / 2))
    if gains.mean() <= 1e-9:
        assert math.isnan(found.apgr[0])
    else:
        assert found.apgr[0] == pytest.approx(np.mean(areas) / gains.sum())


@given(PROMPTS, st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order_of_the_file(prompts: list[tuple[float, float, float]], random: Any) -> None:
    shuffled = random.sample(prompts, len(prompts))
    ones, others = (
        once(PairOrder(np.array([each[0] for each in some]), np.array([each[2] - each[1] for each in some])), len(some)).named()
        for some in (prompts, shuffled)
    )
    for name, one in ones.items():
        assert one[0] == pytest.approx(others[name][0], nan_ok=True)


@given(PROMPTS, st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_weight_counts_as_so_many_equal_prompts(prompts: list[tuple[float, float, float]], weights: list[int]) -> None:
    """The bootstrap weighs prompts instead of copying them; what comes out must be the same."""
    counts = weights[: len(prompts)]
    copied = [each for each, count in zip(prompts, counts, strict=True) for _ in range(count)]
    if not copied:
        return
    weighed = PairOrder(np.array([each[0] for each in prompts]), np.array([each[2] - each[1] for each in prompts]))
    plain = PairOrder(np.array([each[0] for each in copied]), np.array([each[2] - each[1] for each in copied]))
    found = weighed.figures(np.array([counts], np.float64)).named()
    for name, wanted in once(plain, len(copied)).named().items():
        assert found[name][0] == pytest.approx(wanted[0], nan_ok=True), name


def test_the_reverse_order_has_what_is_left() -> None:
    rng = np.random.default_rng(1)
    order, gains = rng.random(200), rng.choice([-1.0, 0.0, 1.0], 200, p=[0.1, 0.5, 0.4])
    forwards, backwards = once(PairOrder(order, gains), 200), once(PairOrder(-order, gains), 200)
    assert forwards.apgr[0] + backwards.apgr[0] == pytest.approx(1)
    assert forwards.auc[0] + backwards.auc[0] == pytest.approx(1)


@pytest.mark.parametrize("gains", [array(0, 0), array(1, -1), array(-1, 0), array(1e-10, 0)])
def test_without_a_gap_there_is_no_figure(gains: Any) -> None:
    """RouteLLM's formula divides by the gap: 0 of 0, or a sign that turns good into bad."""
    ranked = PairOrder(array(2, 1), gains)
    figures = once(ranked, 2)
    assert ranked.curve() is None
    assert math.isnan(figures.apgr[0])
    assert all(math.isnan(each[0]) for each in figures.calls.values())


def test_no_number_is_no_order() -> None:
    with pytest.raises(ValueError, match="NaN"):
        PairOrder(array(1, math.nan), array(1, 0))
    with pytest.raises(ValueError, match="one at least"):
        PairOrder(array(), array())


def test_resamples_are_the_same_each_time_and_of_the_same_size() -> None:
    ones, others = (np.concatenate(list(resamples(50, 20, seed=3))) for _ in range(2))
    assert ones.tolist() == others.tolist()
    assert ones.sum(axis=1).tolist() == [50] * 20
    assert np.concatenate(list(resamples(50, 20, seed=4))).tolist() != ones.tolist()


def test_an_interval_holds_what_the_bootstrap_of_a_mean_is_known_to_hold() -> None:
    """Of a mean the interval is about 1.96 standard errors to either side."""
    values = np.random.default_rng(5).random(400)

    def mean(weights: Any) -> dict[str, Any]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    found = bootstrapped(mean, 400, 4000)["mean"]
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_intervals_of_two_thousand_prompts_take_seconds_at_most() -> None:
    rng = np.random.default_rng(6)
    ranked = PairOrder(rng.random(2000), rng.choice([-1.0, 0.0, 1.0], 2000, p=[0.1, 0.5, 0.4]))
    begun = time.process_time()
    found = bootstrapped(lambda weights: ranked.figures(weights).named(), 2000, 1000)
    assert time.process_time() - begun < 5
    assert all(each.low is not None and each.value is not None and each.low <= each.value for each in found.values())


@pytest.mark.parametrize(
    ("value", "drawn", "expected"),
    [
        (0.5, [], Estimate(0.5)),
        (math.nan, [0.1, 0.2], Estimate(None)),
        (0.5, [0.4] * 39 + [math.nan], Estimate(0.5, 0.4, 0.4)),
        (0.5, [0.4] * 38 + [math.nan] * 2, Estimate(0.5)),
    ],
)
def test_a_figure_that_many_draws_lack_has_no_interval(value: float, drawn: list[float], expected: Estimate) -> None:
    """An interval over the draws that happen to have the figure would be too narrow, and say nothing of the others."""
    assert estimated(value, np.array(drawn)) == expected


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(None), "–"),
        (Estimate(0.5), "0.500"),
        (Estimate(0.5, 0.25, 0.75), "0.500 (0.250 to 0.750)"),
    ],
)
def test_an_estimate_in_words(estimate: Estimate, text: str) -> None:
    assert estimate.text() == text


def test_whether_chance_could_have_made_it() -> None:
    assert Estimate(0.1, 0.05, 0.2).is_above_zero
    assert not Estimate(0.1, -0.05, 0.2).is_above_zero
    assert not Estimate(0.1).is_above_zero
    assert Estimate(0.1, 0.05, 0.2).less == Estimate(-0.1, -0.2, -0.05)
    assert Estimate(0.1, 0.05, 0.2).less.is_below_zero


def test_calibration_worked_out_by_hand() -> None:
    found = Calibration(array(0.05, 0.1, 0.95, 0.95, 0.5), array(0, 0, 1, 0, math.nan))
    assert found.count == 4
    assert found.mean_score == 0.25
    assert found.mean_expected == pytest.approx(2.05 / 4)
    assert found.brier == pytest.approx((0.05**2 + 0.1**2 + 0.05**2 + 0.95**2) / 4)
    assert found.constant_brier == pytest.approx(0.1875)
    # 0.1 belongs to the bin up to 0.1.
    assert [each.count for each in found.bins] == [2, *[0] * (N_BINS - 2), 2]
    assert found.ece == pytest.approx((2 * 0.075 + 2 * 0.45) / 4)


def test_calibration_of_a_model_that_was_never_asked() -> None:
    found = Calibration(array(0.5), array(math.nan))
    assert (found.count, found.brier, found.ece, found.mean_score, found.constant_brier) == (0, None, None, None, None)


@pytest.mark.parametrize("expected", [0.0, 1.0])
def test_the_ends_belong_to_a_bin(expected: float) -> None:
    assert sum(each.count for each in Calibration(array(expected), array(1)).bins) == 1


def test_mixtures_are_the_upper_hull_up_to_the_best_model() -> None:
    costs, qualities = array(1, 2, 3, 5, 9, 2), array(0.2, 0.3, 0.6, 0.7, 0.65, 0.1)
    hull, corners = mixtures(costs, qualities)
    # The second lies below the line from the first to the third, the fifth costs more and is worse.
    assert corners == [0, 2, 3]
    assert hull.at(array(0, 2, 3, 4, 100)).tolist() == pytest.approx([0.2, 0.4, 0.6, 0.65, 0.7])
    assert hull.cost_of(0.65) == pytest.approx(4)
    assert hull.cost_of(0.1) == 1
    assert hull.cost_of(0.8) is None


def test_mixtures_of_equal_models() -> None:
    hull, corners = mixtures(array(1, 1, 1), array(0.5, 0.5, 0.5))
    assert (len(corners), hull.costs.tolist(), hull.qualities.tolist()) == (1, [1], [0.5])


CHOICES = st.integers(1, 8).flatmap(
    lambda n: st.integers(1, 4).flatmap(
        lambda k: st.tuples(
            *(
                st.lists(st.lists(values, min_size=k, max_size=k), min_size=n, max_size=n)
                for values in (st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.9]), SCORES, st.sampled_from([0.0, 1.0, 2.0, 5.0]))
            )
        )
    )
)


def chosen_at(rate: float, expected: Floats, costs: Floats) -> npt.NDArray[np.intp]:
    """The choices of the formula: of equal ones the cheapest, then the first."""
    value = expected - rate * costs
    found: npt.NDArray[np.intp] = np.where(value >= value.max(axis=1, keepdims=True) - 1e-12, costs, np.inf).argmin(axis=1)
    return found


@given(CHOICES, st.sampled_from([0.001, 0.013, 0.07, 0.11, 0.3, 1.7, 50]))
def test_the_steps_are_the_choices_of_the_formula(drawn: Any, rate: float) -> None:
    """Best expected score less rate times cost: the list of steps must tell every rate what the formula does."""
    expected, scores, costs = (np.array(each, np.float64) for each in drawn)
    choices = PricedChoices(expected, scores, costs)
    rows, chosen = np.arange(len(expected)), chosen_at(rate, expected, costs)
    frontier = choices.frontier(np.ones(len(expected)))
    place = int((choices.rates <= rate + 1e-12).sum())
    assert frontier.costs[::-1][place] == pytest.approx(costs[rows, chosen].mean())
    assert frontier.qualities[::-1][place] == pytest.approx(scores[rows, chosen].mean())


@given(CHOICES)
def test_every_rate_is_one_at_which_prompts_move_to_a_cheaper_model(drawn: Any) -> None:
    """Between neighbours the choices of the formula stay, and those beyond cost less."""
    expected, scores, costs = (np.array(each, np.float64) for each in drawn)
    choices = PricedChoices(expected, scores, costs)
    frontier = choices.frontier(np.ones(len(expected)))
    ends = np.concatenate([[0], choices.rates, [choices.rates.max(initial=0) + 1]])
    # Rates that only rounding tells apart have nothing between them.
    between = [(low + high) / 2 for low, high in itertools.pairwise(ends) if high - low > 1e-9]
    rows = np.arange(len(expected))
    spent = np.array([costs[rows, chosen_at(rate, expected, costs)].mean() for rate in between])
    assert (np.diff(choices.rates) > 0).all()
    assert (np.diff(spent) < 0).all()
    places = [int((choices.rates <= rate).sum()) for rate in between]
    np.testing.assert_allclose(frontier.costs[::-1][places], spent, atol=1e-12)
    assert frontier.costs[0] == pytest.approx(costs.min(axis=1).mean())
    assert frontier.costs[-1] <= costs.max(axis=1).mean() + 1e-9


def test_the_rate_of_a_budget_is_the_smallest_that_keeps_within() -> None:
    expected = array(0.9, 0.8, 0.5)[:, None] * array(0, 1)
    choices = PricedChoices(expected, expected, np.array([[1.0, 3.0]] * 3))
    frontier = choices.frontier(np.ones(3))
    assert choices.rates.tolist() == pytest.approx([0.25, 0.4, 0.45])
    assert choices.rate_for(3.0, frontier) == 0
    assert choices.rate_for(2.9, frontier) == pytest.approx(0.25)
    assert choices.rate_for(7 / 3, frontier) == pytest.approx(0.25)
    assert choices.rate_for(1.0, frontier) == pytest.approx(0.45)


def test_gains_over_single_models_worked_out_by_hand() -> None:
    """Two prompts, each of which one model alone gets right; the dear one costs 3, the cheap one 1."""
    scores, costs = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 3.0], [1.0, 3.0]])
    found = against_singles({"oracle": PricedChoices(scores, scores, costs)}, scores, costs, np.ones((1, 2)))
    # The single models are equally good, so the cheap one is the best; for its cost, the oracle has no dear call.
    assert found["oracle/gain"][0] == pytest.approx(0)
    assert found["oracle/gain_at_best"][0] == pytest.approx(0)
    assert found["oracle/cost_at_best"][0] == pytest.approx(1)
    better = np.array([[1.0, 1.0], [0.0, 1.0]])
    found = against_singles({"oracle": PricedChoices(better, better, costs)}, better, costs, np.ones((1, 2)))
    # The best costs 3 and is always right; one dear call of two is enough.
    assert found["oracle/cost_at_best"][0] == pytest.approx(2 / 3)
    # Mixtures go from 0.5 to 1 over costs 1 to 3, the oracle over costs 1 to 2: a triangle between them, less rounding.
    assert found["oracle/gain"][0] == pytest.approx(0.125, abs=1e-3)


def test_the_best_model_for_all_reaches_its_own_quality() -> None:
    """Qualities are summed in another order than means, and rounding must not keep a policy below what it is."""
    draw = np.random.default_rng(0)
    for n in range(20, 120):
        # The last model is the best on every prompt.
        scores, costs = np.sort(draw.random((n, 3)), axis=1), draw.random((n, 3)) + array(1, 2, 3)
        sure = np.tile(array(0, 0, 1), (n, 1))
        found = against_singles({"sure": PricedChoices(sure, scores, costs)}, scores, costs, np.ones((1, n)))
        assert found["sure/cost_at_best"][0] == pytest.approx(1)


def test_free_models_have_no_share_of_cost() -> None:
    scores, costs = np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros((2, 2))
    found = against_singles({"oracle": PricedChoices(scores, scores, costs)}, scores, costs, np.ones((1, 2)))
    assert found["oracle/gain"][0] == pytest.approx(0.5)
    assert math.isnan(found["oracle/cost_at_best"][0])


def test_a_frontier_reaches_a_quality_between_its_points() -> None:
    assert Frontier(array(1, 2), array(0.2, 0.6)).cost_of(0.3) == pytest.approx(1.25)
