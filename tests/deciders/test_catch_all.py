"""The bundled encoder gives what fits no other route to the one that says so, in whatever words and language."""

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
        Route("small_talk", "greetings and chit-chat"),
    ],
    ids=lambda route: route.name,
)
def test_a_route_with_a_subject_does_not(router: Router, last: Route) -> None:
    decided = [decision.route for decision in router.route_many(EVERYDAY, routes=[*SPECIFIC, last])]
    assert decided.count(OTHER) >= len(EVERYDAY) - 1


def test_two_such_routes_share_it(router: Router) -> None:
    twice = [Route("general", "anything else"), Route("default", "all other requests")]
    scores = router.route("what should I cook tonight?", routes=[*SPECIFIC, *twice], scores=True).scores
    assert scores is not None and scores[OTHER] == 0
    assert min(scores[route.name] for route in twice) > 0.2
