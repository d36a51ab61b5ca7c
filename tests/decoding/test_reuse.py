"""Reuse changes nothing: decisions with the cache cold, warm, evicted, loaded from disk and interleaved are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from archroute_edge import Decision, Router, RouteTable
from archroute_edge.conversation import Turn
from archroute_edge.decoding import KVCache
from archroute_edge.engine import LoadedModel
from archroute_edge.prompts import CARD, PromptBuilder
from archroute_edge.routes import Route

TABLES = [
    RouteTable(Route(name, description) for name, description in table)
    for table in (
        (
            ("bug_fixing", "Identifying and fixing errors or bugs in the provided code"),
            ("code_generation", "Generating new code snippets, functions, or boilerplate"),
            ("api_help", "Assisting with understanding or integrating external APIs and libraries"),
        ),
        (("translation", "Translating text between languages"), ("summarisation", "Summarising articles and notes")),
        (
            ("caf\u00e9", "Coffee and \u65e5\u672c\u8a9e"),
            ("travel", "Planning trips"),
            ("cafe", "Cheap coffee"),
            ("code", "Code"),
        ),
    )
]

CONVERSATIONS = [
    ["fix this bug", "Which one?", "the IndexError in line 3", "Done.", "thanks, now write a function"],
    ["plan a trip to \u4eac\u90fd", "When?", "in May", "Here is a plan.", "find me a caf\u00e9"],
    ["fix this bug", "Which one?", "the other one", "OK.", "yes"],
]

# How far rounding may move a route's probability. Q8_0 rounds activations to 8 bits, which a trained model's sharper
# scores show.
TOLERANCE = {"random": 2e-3, "bundled": 0.08}


def messages_of(conversation: list[str], n_turns: int) -> list[dict[str, str]]:
    roles = itertools.cycle(["user", "assistant"])
    return [{"role": role, "content": text} for role, text in zip(roles, conversation[: 2 * n_turns - 1], strict=False)]


@pytest.fixture(scope="module", params=["random", "bundled"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which model a test runs on."""
    return str(request.param)


@pytest.fixture(scope="module", params=["llama.cpp", "ik"])
def make_router(request: pytest.FixtureRequest, kind: str, random_model: Path, bundled_model: Path) -> Callable[..., Router]:
    path = random_model if kind == "random" else bundled_model

    def make(table: int = 0, **settings: object) -> Router:
        settings = {"prefix_cache": False, "threads": 1, "engine": request.param, **settings}
        return Router(TABLES[table], model=path, prompt_format="card", **settings)  # type: ignore[arg-type]

    return make


def assert_same(one: Decision, two: Decision, tolerance: float) -> None:
    assert one.scores is not None
    assert two.scores is not None
    assert one.scores.keys() == two.scores.keys()
    for route, score in one.scores.items():
        assert abs(score - two.scores[route]) < tolerance, route
    if gap(one.scores) > 2 * tolerance:
        assert one.route == two.route


def gap(scores: Mapping[str, float]) -> float:
    *_, second, best = sorted(scores.values())
    return best - second


Case = tuple[int, int, int]

CASES = [(table, talk, n_turns) for n_turns in (1, 2, 3) for table in range(3) for talk in range(len(CONVERSATIONS))]
"""For each case the numbers of its table and conversation, and how many turns of it there are."""


@pytest.fixture(scope="module")
def cases(kind: str) -> list[Case]:
    """The trained model, twenty times as large, shows no more than that its sharp scores stay: it decides the fewer."""
    return CASES if kind == "random" else [case for case in CASES if case[0] < 2 and case[1] != 1 and case[2] < 3]


@pytest.fixture(scope="module")
def cold(make_router: Callable[..., Router], cases: list[Case], kernel_verdict: Path) -> dict[Case, Decision]:
    """Every case decided by a router that has decided nothing before."""
    found = {}
    for table, talk, n_turns in cases:
        with make_router() as router:
            found[table, talk, n_turns] = router.route(
                messages_of(CONVERSATIONS[talk], n_turns), routes=TABLES[table], scores=True
            )
            assert found[table, talk, n_turns].tokens.reused == 0
    return found


def test_interleaved_tables_and_conversations_decide_as_alone(
    cold: dict[Case, Decision], cases: list[Case], make_router: Callable[..., Router], kind: str
) -> None:
    """Would break if a cell of one table or conversation were seen by another, or a stale one reused."""
    with make_router() as router:
        for table, talk, n_turns in cases:
            warm = router.route(messages_of(CONVERSATIONS[talk], n_turns), routes=TABLES[table], scores=True)
            assert_same(cold[table, talk, n_turns], warm, TOLERANCE[kind])
            if (n_turns, talk) != (1, 0):
                assert warm.tokens.reused > 0
        assert router.n_evictions == 0


@pytest.mark.parametrize("kind", ["random"], indirect=True, scope="module")
def test_evicted_conversations_decide_as_alone(
    cold: dict[Case, Decision],
    cases: list[Case],
    make_router: Callable[..., Router],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Would break if eviction left cells behind, or freed cells that a resident prefix shares."""
    # Room for little more than one conversation beside the prefixes, and no memory to park the others in.
    monkeypatch.setattr("archroute_edge.deciders._generative.KVCache", partial(KVCache, max_parked_bytes=0))
    with make_router(n_ctx=1024, budget=256) as router:
        for table, talk, n_turns in cases:
            tight = router.route(messages_of(CONVERSATIONS[talk], n_turns), routes=TABLES[table], scores=True)
            assert_same(cold[table, talk, n_turns], tight, TOLERANCE[kind])
        assert router.n_evictions > 3


def test_a_prefix_from_disk_decides_as_one_just_evaluated(
    cold: dict[Case, Decision], cases: list[Case], make_router: Callable[..., Router], kind: str, tmp_path: Path
) -> None:
    """Would break if a saved prefix were loaded for the wrong tokens, or at the wrong positions."""
    for table in range(3):
        with make_router(table, prefix_cache=tmp_path) as router:
            router.warm()
    for table, talk, n_turns in (case for case in cases if case[2] == 1):
        with make_router(prefix_cache=tmp_path) as router:
            loaded = router.route(messages_of(CONVERSATIONS[talk], n_turns), routes=TABLES[table], scores=True)
            assert loaded.tokens.reused > 0
            assert_same(cold[table, talk, n_turns], loaded, TOLERANCE[kind])


def test_the_counts_prove_the_reuse(make_router: Callable[..., Router]) -> None:
    """Would break if reuse were reported and not done, or done and not reported."""
    with make_router() as router:
        with LoadedModel(router.model_file.path) as model:
            builder = PromptBuilder(model, CARD)
            static = builder.static_parts(TABLES[0])
            first_prompt = builder.tokens(TABLES[0], [Turn("user", CONVERSATIONS[0][0])])
        n_static = len(static.prefix)
        router.warm()
        first = router.route(messages_of(CONVERSATIONS[0], 1))
        assert first.tokens.prompt == len(first_prompt)
        assert n_static - 1 <= first.tokens.reused <= n_static
        again = router.route(messages_of(CONVERSATIONS[0], 1))
        assert again.tokens.reused == again.tokens.prompt - 1
        other = router.route("something else entirely")
        assert n_static - 1 <= other.tokens.reused <= n_static + 1
        # The second turn evaluates its new turns and the closing instructions, not the first turn again.
        second = router.route(messages_of(CONVERSATIONS[0], 2))
        assert second.tokens.reused >= first.tokens.prompt - static.n_closing - 1
        for decision in (first, again, other, second):
            counts = decision.tokens
            assert counts.evaluated == counts.prompt - counts.reused + counts.answer
            assert counts.evaluations >= 1


def test_warming_an_unfinished_message_leaves_only_the_rest_to_evaluate(make_router: Callable[..., Router]) -> None:
    """Would break if warming evaluated what typing on changes, or were thrown away by the decision."""
    with make_router() as router:
        warmed = router.warm("please fix the bug in my")
        decision = router.route("please fix the bug in my code")
        assert decision.tokens.reused >= warmed.tokens - 1
        assert warmed.evaluated > 0
        assert router.warm("please fix the bug in my code").evaluated <= 2


def test_more_routes_do_not_mean_more_evaluated_tokens(make_router: Callable[..., Router]) -> None:
    """Would break if a warm decision evaluated any of the routes again."""
    with make_router() as router:
        counts = []
        for n_routes in (5, 60):
            table = RouteTable(Route(f"route {number}", f"requests of the kind {number}") for number in range(n_routes))
            router.warm(routes=table)
            tokens = router.route("please fix this bug", routes=table).tokens
            counts.append(tokens.prompt - tokens.reused)
        assert len(set(counts)) == 1
