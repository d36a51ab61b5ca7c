"""The bundled encoder gives what fits no other route to a catch-all, a route that says that it takes this."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from archroute_edge import OTHER, Route, Router

SPECIFIC = [Route("bug_fixing", "identifying and fixing errors in code"), Route("contracts", "questions on contracts and law")]
EVERYDAY = [
    "what should I cook tonight?",
    "how tall is mount everest",
    "plan a weekend in Rome for us",
    "was soll ich heute kochen?",
    "今天晚饭吃什么",
]
CODE = "my test fails with an IndexError"


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Router(SPECIFIC, model="mini", threads=1, prefix_cache=False) as router:
        yield router


@pytest.mark.parametrize(
    "last",
    [
        Route("default", "all other requests"),
        Route("general", "anything else"),
        Route("general_questions", "everyday questions that are neither about code nor about law"),
        Route("everything_else"),
        Route("gpt-mini", "use this if none of the other routes fits"),
        Route("Sonstiges", "alles, was in keine andere Kategorie passt"),
        Route("その他", "上記のどれにも当てはまらない質問"),
    ],
    ids=lambda route: route.name,
)
def test_it_takes_what_fits_no_other_and_nothing_else(router: Router, last: Route) -> None:
    routes = [*SPECIFIC, last]
    assert [decision.route for decision in router.route_many(EVERYDAY, routes=routes)] == [last.name] * len(EVERYDAY)
    decision = router.route(CODE, routes=routes, scores=True)
    assert decision.route == "bug_fixing"
    assert decision.scores is not None and decision.scores[OTHER] == 0


@pytest.mark.parametrize(
    "last",
    [
        Route("general_programming", "general questions on programming as a profession"),
        Route("other_contracts", "all other questions on contracts"),
        Route("smalltalk", "says hello and chats a little"),
    ],
    ids=lambda route: route.name,
)
def test_a_route_with_a_subject_does_not(router: Router, last: Route) -> None:
    decided = router.route_many(EVERYDAY, routes=[*SPECIFIC, last], scores=True)
    assert all(decision.scores is not None and decision.scores[OTHER] > 0 for decision in decided)
    assert [decision.route for decision in decided].count(OTHER) >= len(EVERYDAY) - 1


def test_the_first_by_name_stands_for_those_that_read_alike(router: Router) -> None:
    alike = [Route("anything_else", "all other requests"), Route("anythingElse", "all other requests")]
    for last in (alike, alike[::-1]):
        decision = router.route("what should I cook tonight?", routes=[*SPECIFIC, *last], scores=True)
        assert decision.route == "anythingElse"
        assert decision.scores is not None and decision.scores["anythingElse"] > decision.scores["anything_else"]


def test_a_second_one_leaves_no_request_to_a_route_with_a_subject(router: Router) -> None:
    """The likelier of both has all that would be `other`: by halves of it, routes near to the request's words would win."""
    specific = [
        Route("code", "writing or fixing program code"),
        Route("travel", "booking flights and hotels"),
        Route("cooking", "recipes and cooking advice"),
        Route("law", "contracts and law"),
        Route("health", "illness and symptoms"),
        Route("sports", "sport results"),
    ]
    default, rest = Route("default", "all other requests"), Route("Sonstiges", "alles andere")
    for message in ("what is wine", "what is insurance", "best vitamins", "price of marathons"):
        alone = router.route(message, routes=[*specific, default])
        both = router.route(message, routes=[*specific, default, rest], scores=True)
        assert alone.route == "default"
        assert both.route in ("default", "Sonstiges")
        assert both.scores is not None and both.scores[OTHER] == 0
