"""The Pareto front and the choice on it, on tables small enough to work out by hand."""

from __future__ import annotations

import pytest

from archroute_edge.benchmark.recommendation import Figures, pareto_front, recommend
from archroute_edge.benchmark.timing import Times

MB = 10**6


def figures(label: str, ms: float, megabytes: float, bits: float, right: int | None = None, spread: float = 0.01) -> Figures:
    """Nine times of a spread (a share) around ``ms``; of 200 cases the first ``right`` are right."""
    times = Times((tuple(ms * (1 + spread * step / 4) for step in range(-4, 5)),))
    decided = None if right is None else tuple(case < right for case in range(200))
    return Figures(label, times, int(megabytes * MB), bits, decided)


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
