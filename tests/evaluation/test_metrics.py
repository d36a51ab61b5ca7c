"""Metrics of decisions, held against figures worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.evaluation import Case, Share, accuracy
from archroute_edge.evaluation._metrics import (
    accuracy_by_tag,
    confusion_counts,
    conversation_scores,
    figures_by_route,
    folded_confusions,
    macro_f1,
    wilson_interval,
    worst_confusions,
)
from archroute_edge.routes import Route, RouteTable

EXPECTED = ["a", "a", "a", "b", "b", "other"]
DECIDED = ["a", "b", "a", "b", "c", "a"]

TABLE = RouteTable([Route("a"), Route("b")])

NAMES = st.sampled_from(["a", "b", "c", "other"])
PAIRS = st.lists(st.tuples(NAMES, NAMES), max_size=40)


def turn(line: int, conversation: str | None, number: int, route: str, span: str | None = None) -> Case:
    return Case(line, "hello", TABLE, route, conversation, number, span)


def test_accuracy_and_the_figures_of_each_route() -> None:
    assert accuracy(EXPECTED, DECIDED) == Share(3, 6)
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
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(total - right, total) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(st.integers(0, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    share = Share(*counts).share
    assert 0 <= low <= high <= 1
    assert share is None or low <= share <= high


def test_a_case_counts_under_each_of_its_tags_once() -> None:
    tags = [("x", "y"), ("x", "x"), (), ("y",), ("y",), ("y",)]
    assert accuracy_by_tag(tags, EXPECTED, DECIDED) == {"x": Share(1, 2), "y": Share(2, 4)}


def test_confusions() -> None:
    counts = confusion_counts(EXPECTED, DECIDED)
    assert counts == {"a": {"a": 2, "b": 1}, "b": {"b": 1, "c": 1}, "other": {"a": 1}}
    worst = worst_confusions([*EXPECTED, "b"], [*DECIDED, "c"], 2)
    assert [(each.expected, each.decided, each.count, each.cases) for each in worst] == [
        ("b", "c", 2, (4, 6)),
        ("a", "b", 1, (1,)),
    ]


def test_rare_routes_are_folded_into_one() -> None:
    names, square = folded_confusions(confusion_counts(EXPECTED, DECIDED), 3, "rest")
    assert names == ["a", "b", "rest"]
    assert square == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]


@given(PAIRS, st.integers(2, 6))
def test_folding_loses_no_case(pairs: list[tuple[str, str]], most: int) -> None:
    counts = confusion_counts([one for one, _ in pairs], [two for _, two in pairs])
    names, square = folded_confusions(counts, most, "rest")
    assert sum(map(sum, square)) == len(pairs)
    assert len(names) <= most


@given(PAIRS)
def test_a_perfect_router_has_perfect_figures(pairs: list[tuple[str, str]]) -> None:
    expected = [one for one, _ in pairs]
    assert all(each.precision == each.recall == each.f1 == 1 for each in figures_by_route(expected, expected))
    assert worst_confusions(expected, expected) == []


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
