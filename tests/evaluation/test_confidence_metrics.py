"""Metrics of probabilities, held against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.evaluation._confidence_metrics import (
    CoveragePoint,
    at_coverage,
    brier_score,
    coverage_curve,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)

JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50)


def test_bins_are_open_below_and_closed_above() -> None:
    bins = reliability_bins([0.0, 0.5, 0.500001, 1.0], [False, True, True, False], 2)
    assert [(each.count, each.accuracy) for each in bins] == [(2, 0.5), (2, 0.5)]
    assert reliability_bins([0.9], [True], 2)[0].accuracy is None


def test_calibration_error() -> None:
    """Of two bins the first is 0.3 from its accuracy of 0.5 with 2 cases, the second 0.1 from 1 with 3: (0.6 + 0.3) / 5."""
    error = expected_calibration_error([0.1, 0.3, 0.9, 0.9, 0.9], [True, False, True, True, True], 2)
    assert error == pytest.approx((2 * 0.3 + 3 * 0.1) / 5)
    assert expected_calibration_error([], []) is None


@given(JUDGED)
def test_calibration_error_is_a_share_and_no_case_is_lost(judged: list[tuple[float, bool]]) -> None:
    confidence, right = [each[0] for each in judged], [each[1] for each in judged]
    assert sum(each.count for each in reliability_bins(confidence, right, 15)) == len(judged)
    error = expected_calibration_error(confidence, right, 15)
    assert error is not None
    assert 0 <= error <= 1


def test_log_likelihood_and_brier() -> None:
    scores = [{"a": 0.5, "b": 0.3, "other": 0.2}, {"a": 0.0, "b": 1.0, "other": 0.0}]
    assert negative_log_likelihood(scores, ["a", "b"]) == pytest.approx(math.log(2) / 2)
    # What was held for impossible costs much, and not everything.
    assert negative_log_likelihood(scores[1:], ["a"]) == pytest.approx(12 * math.log(10))
    assert brier_score(scores, ["a", "a"]) == pytest.approx((0.25 + 0.09 + 0.04 + 2) / 2)
    assert negative_log_likelihood([], []) is None
    assert brier_score([], []) is None


def test_coverage() -> None:
    """Cases of one confidence are answered together."""
    curve = coverage_curve([0.5, 0.9, 0.7, 0.7], [False, True, True, False])
    assert curve == [CoveragePoint(0.9, 0.25, 1.0), CoveragePoint(0.7, 0.75, 2 / 3), CoveragePoint(0.5, 1.0, 0.5)]
    assert at_coverage(curve, 0.5) == curve[1]
    assert at_coverage(curve, 1.0) == curve[2]
    assert at_coverage(coverage_curve([], []), 1.0) is None
