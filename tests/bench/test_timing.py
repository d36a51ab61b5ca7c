"""Percentiles, their intervals and the verdict on noise, held against numbers worked out by hand."""

from __future__ import annotations

import random

import pytest

from archroute_edge.bench._figures import Spread
from archroute_edge.bench._timing import Interval, Times, are_told_apart, judge_noise, order_interval, quantile


def rounds(*medians: float) -> Times:
    """Three samples a round, a tenth around their median."""
    return Times(tuple((median - 0.1, median, median + 0.1) for median in medians))


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([7.0], 0.95, 7.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.5),
        # Place 0.95 * 4 = 3.8 of the five from 0 on: four fifths of the way from 40 to 50.
        ([50.0, 10.0, 30.0, 20.0, 40.0], 0.95, 48.0),
    ],
)
def test_quantiles(samples: list[float], share: float, expected: float) -> None:
    assert quantile(samples, share) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "share", "low", "high"),
    [
        # Binomial with a half: all five on one side have 1/32 = 3.1 %, all six 1/64 = 1.6 %.
        (5, 0.5, None, None),
        (6, 0.5, 1, 6),
        # At most one of ten below: 11/1024 = 1.07 %; at most two: 56/1024 = 5.5 %.
        (10, 0.5, 2, 9),
        # The textbook's 25: the median lies between the 8th and the 18th (at most seven below: 2.16 %).
        (25, 0.5, 8, 18),
        # All below: 0.95 ** 71 = 2.62 %, 0.95 ** 72 = 2.49 %. Nine or more above: 0.9 and 1.0 %, eight: 2.52 and 2.7 %.
        (71, 0.95, 63, None),
        (72, 0.95, 64, 72),
        # 1440 over 720 is larger than any float. Means and 1.96 standard deviations: 720 and 37.2, 1368 and 16.2.
        (1440, 0.5, 683, 758),
        (1440, 0.95, 1351, 1385),
    ],
)
def test_intervals_are_the_order_statistics_of_binomial_tails(n: int, share: float, low: int | None, high: int | None) -> None:
    samples = [float(value) for value in range(1, n + 1)]
    random.Random(1).shuffle(samples)
    assert order_interval(samples, share) == Interval(low, high)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """An interval that is too narrow calls chance a difference."""
    draw = random.Random(2)
    held = 0
    for _ in range(400):
        interval = order_interval([draw.expovariate(1.0) for _ in range(24)], 0.5)
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= 0.6931471805599453 <= interval.high
    assert held >= 375


def test_medians_are_told_apart_where_their_intervals_do_not_touch() -> None:
    slow, fast, between = (Times((tuple(start + step for step in range(6)),)) for start in (20.0, 10.0, 15.0))
    assert are_told_apart(slow, fast)
    assert are_told_apart(fast, slow)
    assert not are_told_apart(between, fast)  # 15 is the end of one and the beginning of the other


def test_samples_that_bound_no_median_tell_nothing_apart() -> None:
    """Would break if a run of one decision a level called its differences more than chance."""
    five, six, one = (Times((tuple(10.0 + step for step in range(count)),)) for count in (5, 6, 1))
    higher = Times(((100.0,) * 6,))
    assert are_told_apart(six, higher)
    for few in (five, one):
        assert not are_told_apart(few, higher)
        assert not are_told_apart(higher, few)


def test_a_quiet_run() -> None:
    verdict = judge_noise({"a": rounds(100, 102, 101), "b": rounds(50, 50, 51)})
    assert (verdict.is_noisy, verdict.lost_in_noise) == (False, ())
    assert verdict.spreads == {"a": pytest.approx(2 / 101), "b": pytest.approx(1 / 50)}
    assert verdict.text.startswith("quiet enough")


def test_levels_that_are_equally_fast_are_no_noise() -> None:
    """Would break if two files of one level made every run a noisy one."""
    verdict = judge_noise({"a": rounds(100, 102, 101), "again": rounds(101, 100, 102)})
    assert (verdict.is_noisy, verdict.lost_in_noise) == (False, ())


def test_differences_that_drown_are_named() -> None:
    verdict = judge_noise({"a": rounds(100, 140, 120), "b": rounds(110, 112, 111), "c": rounds(50, 51, 50)})
    assert verdict.is_noisy
    assert verdict.lost_in_noise == (("a", "b"),)
    assert verdict.text == "too noisy to tell apart: a and b (rounds of a differ by 33 %)"


def test_of_many_pairs_a_few_are_named() -> None:
    verdict = judge_noise({label: rounds(100, 140) for label in "abcde"})
    assert len(verdict.lost_in_noise) == 10
    assert "a and b, a and c, a and d, a and e, and 6 pairs more" in verdict.text


def test_a_drifting_machine_is_noisy_with_one_level_too() -> None:
    verdict = judge_noise({"a": rounds(100, 130)})
    assert verdict.is_noisy
    assert "a differ by 26 %" in verdict.text
    assert not judge_noise({"a": rounds(100, 110)}).is_noisy


def test_one_round_says_nothing_about_noise() -> None:
    verdict = judge_noise({"a": rounds(100), "b": rounds(50)})
    assert not verdict.is_noisy
    assert "not known" in verdict.text


@pytest.mark.parametrize(("n", "shown"), [(19, "–"), (20, "1.00")])
def test_a_table_has_no_p95_of_few_decisions(n: int, shown: str) -> None:
    cells = Spread("x", "x", lambda times: times).cells(Times(((1.0,) * n,)))
    assert cells[0] == "1.00" and cells[-1] == shown
