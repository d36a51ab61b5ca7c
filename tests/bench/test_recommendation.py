"""The Pareto front and the choice on it, on tables small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archroute_edge.bench._recommendation import Figures, pareto_front, recommend
from archroute_edge.bench._timing import Times

MB = 10**6


def figures(label: str, ms: float, megabytes: float, bits: float, right: int | None = None, spread: float = 0.01) -> Figures:
    """Nine times of a spread (a share) around ``ms``; of 200 cases the first ``right`` are right."""
    times = Times((tuple(ms * (1 + spread * step / 4) for step in range(-4, 5)),))
    decided = None if right is None else tuple(case < right for case in range(200))
    return Figures(label, times, int(megabytes * MB), bits, decided)


def noisy(label: str, ms: float, right: int | None = 29, megabytes: float = 60, n_bytes: int = 0) -> Figures:
    """Twelve times that vary by more than a tenth; of 120 cases the first ``right`` are right."""
    times = Times(((ms - 9, ms - 3, ms + 3, ms + 9),) * 3)
    decided = None if right is None else tuple(case < right for case in range(120))
    return Figures(label, times, int(megabytes * MB), 4.8, decided, n_bytes)


def labels(found: list[Figures]) -> list[str]:
    return [each.label for each in found]


def test_the_front_is_what_nothing_beats() -> None:
    levels = [
        figures("Q2_K", 120, 700, 3.4),
        figures("Q4_0", 100, 950, 4.8),
        figures("Q4_K_M", 130, 990, 5.1),
        figures("Q8_0", 190, 1700, 8.5),
        figures("F16", 150, 3100, 16.0),
        figures("BF16", 160, 3100, 16.0),  # as F16, and slower
    ]
    assert labels(pareto_front(levels)) == ["Q4_0", "Q2_K", "Q4_K_M", "F16", "Q8_0"]


def test_what_noise_hides_beats_nothing() -> None:
    """Would break if a level were left aside for a difference that the next run turns around."""
    levels = [figures("A", 100, 900, 4.8, spread=0.2), figures("B", 104, 900, 4.8, spread=0.2)]
    assert labels(pareto_front(levels)) == ["A", "B"]
    assert labels(pareto_front([figures("A", 100, 900, 4.8), figures("B", 104, 900, 4.8)])) == ["A"]


def test_accuracy_that_differs_by_chance_beats_nothing() -> None:
    """190 and 192 of 200 differ on two cases (p = 0.5), 192 and 180 on twelve (p = 0.0005)."""
    chance = [figures("A", 100, 900, 4.8, 190), figures("B", 100, 900, 5.0, 192)]
    real = [figures("A", 100, 900, 4.8, 180), figures("B", 100, 900, 5.0, 192)]
    assert labels(pareto_front(chance)) == ["A", "B"]
    assert labels(pareto_front(real)) == ["B"]


def test_without_cases_few_bits_are_left_aside_and_the_report_says_that_it_is_a_guess() -> None:
    chosen = recommend([figures("Q2_K", 80, 700, 3.4), figures("Q4_0", 100, 950, 4.8), figures("F16", 150, 3100, 16.0)])
    assert chosen.level == "Q4_0"
    assert not chosen.quality_measured
    assert "quality was not measured" in chosen.reasons[0]
    assert "Q2_K" in chosen.reasons[0]
    assert "F16, takes 1.50 times as long" in chosen.reasons[1]
    assert chosen.front == ("Q2_K", "Q4_0", "F16")


def test_few_bits_are_chosen_where_there_is_nothing_else() -> None:
    chosen = recommend([figures("Q2_K", 80, 700, 3.4), figures("Q3_K_M", 90, 800, 4.2)])
    assert chosen.level == "Q3_K_M"


def test_with_cases_accuracy_decides_what_keeps_the_quality() -> None:
    levels = [
        figures("Q2_K", 80, 700, 3.4, 150),
        figures("Q3_K_M", 90, 800, 4.2, 190),  # nine cases less than the best: a real loss
        figures("Q4_0", 100, 950, 4.8, 198),  # a case less: within a point
        figures("F16", 150, 3100, 16.0, 199),
    ]
    chosen = recommend(levels)
    assert chosen.level == "Q4_0"
    assert chosen.quality_measured
    assert "left aside for losing more: Q2_K, Q3_K_M" in chosen.reasons[0]


def test_a_small_level_that_lost_nothing_is_chosen() -> None:
    """Would break if bits a weight counted although accuracy was measured."""
    assert recommend([figures("Q2_K", 80, 700, 3.4, 199), figures("F16", 150, 3100, 16.0, 199)]).level == "Q2_K"


@pytest.mark.parametrize(("ms", "spread", "expected"), [(108, 0.01, "small"), (115, 0.01, "large"), (115, 0.3, "small")])
def test_a_little_time_is_given_for_much_memory(ms: float, spread: float, expected: str) -> None:
    """Up to a tenth, and as much as the noise hides."""
    chosen = recommend([figures("large", 100, 3100, 16.0, spread=spread), figures("small", ms, 950, 4.8, spread=spread)])
    assert chosen.level == expected


def test_one_level_is_recommended_for_want_of_others() -> None:
    chosen = recommend([figures("tiny", 80, 60, 8.5)])
    assert (chosen.level, chosen.front, chosen.reasons) == ("tiny", ("tiny",), ("it is the only level measured",))


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("right", [29, None])
def test_of_levels_that_are_equal_but_for_time_the_one_with_the_lowest_is_chosen(is_first: bool, right: int | None) -> None:
    """Would break if their order decided, or if a reason claimed an accuracy, or a speed, that was not measured."""
    levels = [noisy("fast", 35, right), noisy("slow", 40, right)]
    chosen = recommend(levels if is_first else levels[::-1])
    assert chosen.level == "fast"
    if right is not None:
        assert chosen.reasons[0] == "all levels have the same accuracy, 24.2 %"
    assert chosen.reasons[1] == (
        "no level that keeps the quality has a lower median time; its difference from these may be chance: slow"
    )


def test_accuracy_that_differs_by_chance_is_no_reason() -> None:
    chosen = recommend([noisy("slow", 40, 30), noisy("fast", 35, 29)])
    assert chosen.level == "fast"
    assert chosen.reasons[0] == "all levels have an accuracy within a point of the best (slow: 25.0 %), or not told from it"


def test_more_bits_in_the_same_memory_are_no_reason_for_a_slower_level() -> None:
    levels = [figures("Q8_0", 108, 60, 8.5, spread=0.3), figures("Q4_0", 100, 60, 4.8, spread=0.3)]
    assert recommend(levels).level == recommend(levels[::-1]).level == "Q4_0"


def test_accuracy_that_is_really_higher_is_worth_a_tenth_of_the_time() -> None:
    """Of 1,000 cases eight more are right and none is wrong instead: less than a point, and no chance (p = 0.008)."""
    slow, fast = figures("slow", 105, 900, 4.8), figures("fast", 100, 900, 4.8)
    levels = [
        replace(slow, right=tuple(case < 908 for case in range(1000))),
        replace(fast, right=tuple(case < 900 for case in range(1000))),
    ]
    for order in (levels, levels[::-1]):
        chosen = recommend(order)
        assert chosen.level == "slow"
        assert chosen.reasons[1] == "1.05 times the time of the fastest (fast), with an accuracy of 90.8 % for its 90.0 %"


@pytest.mark.parametrize("is_first", [True, False])
def test_the_smaller_file_is_chosen_where_all_else_is_equal(is_first: bool) -> None:
    levels = [noisy("large", 35, n_bytes=10_500_000), noisy("small", 35, n_bytes=7_200_000)]
    assert recommend(levels if is_first else levels[::-1]).level == "small"


def test_a_little_memory_is_no_reason_for_much_time_that_noise_hides() -> None:
    """1.29 times the time and 0.95 of the memory."""
    levels = [noisy("small", 45, megabytes=57), noisy("large", 35, megabytes=60)]
    assert recommend(levels).level == recommend(levels[::-1]).level == "large"


def test_a_smaller_level_says_whether_its_time_is_told_from_the_fastest() -> None:
    told = recommend([figures("large", 100, 3100, 16.0), figures("small", 108, 950, 4.8)])
    assert told.reasons[1] == "1.08 times the time of the fastest (large), with 0.31 of its memory"
    hidden = recommend([figures("large", 100, 3100, 16.0, spread=0.3), figures("small", 108, 950, 4.8, spread=0.3)])
    assert "the fastest (large), a difference that may be chance, with 0.31" in hidden.reasons[1]


def test_levels_that_are_the_best_alike_are_all_named() -> None:
    """Would break if the first of them were called the best."""
    levels = [figures("A", 100, 900, 4.8, 198), figures("B", 130, 900, 5.0, 198), figures("C", 90, 900, 3.4, 150)]
    assert "of the best (A, B: 99.0 %)" in recommend(levels).reasons[0]
    few = recommend([figures("A", 120, 700, 3.4), figures("B", 80, 700, 3.4), figures("C", 70, 600, 3.0)])
    assert few.level == "B"
    assert few.reasons[0].endswith("all levels have fewer than 4.5, so the most count: 3.40")
    assert few.reasons[1].startswith("the fastest that keeps the quality; the next, A, takes 1.50 times")


def test_the_only_level_that_keeps_the_quality_is_compared_with_none() -> None:
    chosen = recommend([figures("A", 100, 900, 4.8, 198), figures("B", 80, 900, 3.4, 150)])
    assert (chosen.level, chosen.reasons[1]) == ("A", "no other level keeps the quality")
