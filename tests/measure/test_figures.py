"""The verdict against each bar, from given times."""

from __future__ import annotations

import pytest

from tools.measure.peers.figures import Bar, Comparison

STEADY = [2.0, 2.01, 1.99, 2.0, 2.02, 1.98, 2.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "bar", "same", "ratio", "verdict"),
    [
        pytest.param(1.6, 2.0, Bar(0.88), True, 0.8, "met", id="below the most"),
        pytest.param(1.9, 2.0, Bar(0.88), True, 0.95, "missed", id="above the most"),
        pytest.param(2.0, 6.0, Bar(2.5, at_least=True), None, 3.0, "met", id="above the least"),
        pytest.param(2.0, 4.0, Bar(2.5, at_least=True), None, 2.0, "missed", id="below the least"),
        pytest.param(1.6, 2.0, Bar(0.88), False, 0.8, "other answers", id="not the same work"),
        pytest.param(1.6, 2.0, None, None, 0.8, "", id="no bar"),
    ],
)
@pytest.mark.parametrize("paired", [True, False])
def test_verdicts(
    ours: float, theirs: float, bar: Bar | None, same: bool | None, ratio: float, verdict: str, paired: bool
) -> None:
    """A ratio the wrong way round, or a bar read as a most where it is a least, would praise what is slow."""
    mine, others = ([scale * second / 2 for second in STEADY] for scale in (ours, theirs))
    found = Comparison("time", mine, others, bar, paired=paired, same_answers=same)
    assert found.ratio == pytest.approx(ratio)
    assert found.verdict == verdict
    low, high = found.interval
    assert low <= found.ratio <= high


def test_noise_is_said() -> None:
    """Figures that scatter about the bar show nothing, whatever side their medians fall on."""
    noisy = [1.0, 2.6, 1.4, 1.7, 3.0, 1.2, 1.6]
    assert Comparison("time", noisy, STEADY, Bar(0.88)).verdict == "met, within noise"
    assert Comparison("time", noisy, STEADY, Bar(0.7)).verdict == "missed, within noise"


def test_rounds_that_drift_together_are_no_noise() -> None:
    """On a machine that slows down, both sides of a round slow down: only the pairs show what differs."""
    theirs = [1.0, 1.3, 1.7, 2.2, 2.9, 3.7, 4.8]
    ours = [0.8 * second for second in theirs]
    assert Comparison("time", ours, theirs, Bar(0.88)).verdict == "met"
    assert Comparison("time", ours, theirs, Bar(0.88), paired=False).verdict == "met, within noise"
