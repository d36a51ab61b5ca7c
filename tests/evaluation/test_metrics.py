"""Figures of decisions, held against figures worked out by hand or published."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.evaluation import Case, equal, mcnemar, mean_kl_divergence
from archroute_edge.evaluation._metrics import (
    CoveragePoint,
    PairedTest,
    accuracy_by_tag,
    at_coverage,
    brier_score,
    confusion_counts,
    conversation_scores,
    coverage_curve,
    expected_calibration_error,
    figures_by_route,
    kl_divergence,
    macro_f1,
    negative_log_likelihood,
    reliability_bins,
    worst_confusions,
)
from archroute_edge.report import Share
from archroute_edge.routes import Route, RouteTable

EXPECTED = ["a", "a", "a", "b", "b", "other"]
DECIDED = ["a", "b", "a", "b", "c", "a"]

TABLE = RouteTable([Route("a"), Route("b")])

NAMES = st.sampled_from(["a", "b", "c", "other"])
PAIRS = st.lists(st.tuples(NAMES, NAMES), max_size=40)


def turn(line: int, conversation: str | None, number: int, route: str, span: str | None = None) -> Case:
    return Case(line, "hello", TABLE, route, conversation, number, span)


def test_accuracy_and_the_figures_of_each_route() -> None:
    assert equal(EXPECTED, DECIDED) == Share(3, 6)
    figures = {each.route: each for each in figures_by_route(EXPECTED, DECIDED)}
    # a: 2 of 3 decided are right, 2 of 3 expected are found. b: 1 of 2 and 1 of 2. c was never expected.
    assert (figures["a"].precision, figures["a"].recall, figures["a"].f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (figures["b"].precision, figures["b"].recall, figures["b"].f1) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert (figures["c"].precision, figures["c"].recall, figures["c"].f1) == (0, None, 0)
    assert (figures["other"].precision, figures["other"].recall, figures["other"].f1) == (None, 0, 0)
    assert list(figures) == ["a", "b", "other", "c"]
    assert macro_f1(list(figures.values())) == pytest.approx((2 / 3 + 1 / 2) / 4)
    assert macro_f1([]) is None


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Of Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_wilson_interval_is_the_published_one(right: int, total: int, low: float, high: float) -> None:
    assert Share(right, total).interval == pytest.approx((low, high), abs=5e-5)
    assert Share(total - right, total).interval == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(st.integers(0, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    low, high = Share(*counts).interval
    share = Share(*counts).share
    assert 0 <= low <= high <= 1
    assert share is None or low <= share <= high


def test_a_case_counts_under_each_of_its_tags_once() -> None:
    tags = [("x", "y"), ("x", "x"), (), ("y",), ("y",), ("y",)]
    assert accuracy_by_tag(tags, [one == two for one, two in zip(EXPECTED, DECIDED, strict=True)]) == {
        "x": Share(1, 2),
        "y": Share(2, 4),
    }


def test_confusions() -> None:
    counts = confusion_counts(EXPECTED, DECIDED)
    assert counts == {"a": {"a": 2, "b": 1}, "b": {"b": 1, "c": 1}, "other": {"a": 1}}
    worst = worst_confusions([*EXPECTED, "b"], [*DECIDED, "c"], 2)
    assert [(each.expected, each.decided, each.count, each.cases) for each in worst] == [
        ("b", "c", 2, (4, 6)),
        ("a", "b", 1, (1,)),
    ]


@given(PAIRS)
def test_a_perfect_router_has_perfect_figures(pairs: list[tuple[str, str]]) -> None:
    expected = [one for one, _ in pairs]
    assert all(each.precision == each.recall == each.f1 == 1 for each in figures_by_route(expected, expected))
    assert worst_confusions(expected, expected, 9) == []


def test_turns_spans_and_conversations() -> None:
    """c: aa b a, the second a wrong, so spans wrong, right, right. d: b b, all right. The last case stands alone."""
    cases = [
        turn(4, "c", 3, "a"),
        turn(1, "c", 0, "a"),
        turn(2, "c", 1, "a"),
        turn(3, "c", 2, "b"),
        turn(5, "d", 0, "b"),
        turn(6, "d", 1, "b"),
        turn(7, None, 0, "a"),
    ]
    scores = conversation_scores(cases, [True, True, False, True, True, True, False])
    assert scores is not None
    assert (scores.turns, scores.spans, scores.conversations) == (Share(5, 6), Share(3, 4), Share(1, 2))
    assert conversation_scores(cases[-1:], [True]) is None


def test_a_given_span_says_where_it_ends() -> None:
    """Two requests on one route are two spans where the file says so."""
    cases = [turn(1, "c", 0, "a", "1"), turn(2, "c", 1, "a", "2"), turn(3, "c", 2, "a", "2")]
    scores = conversation_scores(cases, [True, False, True])
    assert scores is not None
    assert scores.spans == Share(1, 2)


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


def distributions(n_routes: int) -> st.SearchStrategy[dict[str, float]]:
    """Over ``n_routes`` routes; some probabilities may be 0."""
    weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1)), min_size=n_routes, max_size=n_routes)
    return weights.filter(lambda values: sum(values) > 0).map(
        lambda values: {f"route {place}": value / sum(values) for place, value in enumerate(values)}
    )


DISTRIBUTIONS = st.integers(1, 6).flatmap(lambda n_routes: st.tuples(distributions(n_routes), distributions(n_routes)))


def test_divergence() -> None:
    one, two = {"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 0.75}
    assert kl_divergence(one, two) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert kl_divergence(two, one) == pytest.approx(0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2))
    assert mean_kl_divergence([one, one], [two, one]) == pytest.approx(kl_divergence(one, two) / 2)
    assert mean_kl_divergence([], []) is None
    with pytest.raises(ValueError, match="same routes"):
        kl_divergence(one, {"a": 1.0})


@given(DISTRIBUTIONS)
def test_divergence_is_never_negative_nor_infinite(pair: tuple[dict[str, float], dict[str, float]]) -> None:
    assert 0 <= kl_divergence(*pair) < math.inf
    assert kl_divergence(pair[0], pair[0]) == 0


def test_mcnemar() -> None:
    """Ten cases that only the second decides right and two that only the first does: 2 (1 + 12 + 66) / 2^12."""
    first = [True] * 2 + [False] * 10 + [True] * 5 + [False] * 3
    second = [False] * 2 + [True] * 10 + [True] * 5 + [False] * 3
    assert mcnemar(first, second) == PairedTest(2, 10, 2 * 79 / 4096)
    assert mcnemar(second, first).p_value == mcnemar(first, second).p_value


@given(st.lists(st.sampled_from(["a", "b", "other"]), max_size=30), st.lists(st.booleans(), max_size=30))
def test_a_model_does_not_differ_from_itself(decided: list[str], right: list[bool]) -> None:
    assert equal(decided, decided) == Share(len(decided), len(decided))
    assert mcnemar(right, right) == PairedTest(0, 0, 1.0)


def test_very_many_cases_are_no_overflow() -> None:
    right = [True] * 5000
    assert 0 <= mcnemar(right, [False] * 5000).p_value < 1e-300
