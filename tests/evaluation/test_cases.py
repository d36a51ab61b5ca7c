"""Files of labelled cases: the format, and the file that comes with the package."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.errors import CaseError
from archroute_edge.evaluation import Case, read_cases, shipped_cases
from archroute_edge.routes import Route, RouteTable

ROUTES = [{"name": "returns", "description": "Returns of goods"}, {"name": "delivery", "description": "Dates of deliveries"}]
GOOD: dict[str, Any] = {"messages": "where is it?", "route": "delivery", "routes": ROUTES}
TAGS = {
    "single-turn", "multi-turn", "topic-shift", "short-reply", "other", "finished", "non-english", "long", "code", "typos",
}  # fmt: skip


def written(folder: Path, *lines: object) -> Path:
    path = folder / "cases.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_all_fields(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    full = {"messages": turns, "route": "other", "conversation_id": 7, "turn": 2, "span": 1, "tags": ["shop", "late"]}
    one, other = read_cases(written(tmp_path, GOOD, "", {**full, "routes": ROUTES}))
    assert one == Case(1, "where is it?", other.table, "delivery")
    assert other == Case(3, turns, one.table, "other", "7", 2, "1", ("shop", "late"))
    assert one.table is other.table
    assert one.table.names == ("returns", "delivery")


def test_a_table_for_the_whole_file(tmp_path: Path) -> None:
    table = RouteTable([Route("delivery", "Dates of deliveries")])
    path = written(tmp_path, {"messages": "where?", "route": "delivery"}, GOOD)
    assert [case.table.names for case in read_cases(path, table)] == [("delivery",), ("returns", "delivery")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": "a", ', "not JSON"),
        ("[" * 100_000, "JSON that cannot be used: nested too deep"),
        ("[]", "a case must be a mapping"),
        ('{"messages": "a", "turn": NaN, "route": "other"}', "not JSON: NaN is no value of it"),
        ('{"messages": "a", "route": "other", "route": "returns"}', "the key 'route' appears twice in one object"),
        ({**GOOD, "label": "delivery"}, "unknown key 'label'"),
        ({"route": "delivery", "routes": ROUTES}, "a case without 'messages'"),
        ({"messages": "a", "routes": ROUTES}, "a case without 'route'"),
        ({"messages": "a", "route": "delivery"}, "no routes; give them"),
        ({**GOOD, "messages": []}, "there are no messages"),
        ({**GOOD, "messages": [{"role": "assistant", "content": "a"}]}, "no user message with text"),
        ({**GOOD, "routes": {"delivery": "Dates"}}, "routes must be a list, not a mapping"),
        ({**GOOD, "routes": [*ROUTES, ROUTES[0]]}, "two routes are called 'returns'"),
        ({**GOOD, "route": "refunds"}, "the right route is 'refunds', but the routes are returns, delivery and other"),
        ({**GOOD, "route": ["delivery"]}, "a case: route must be text, not a list"),
        ({**GOOD, "conversation_id": True}, "conversation_id must be a whole number, not true or false"),
        ({**GOOD, "span": [1]}, "span must be a whole number, not a list"),
        ({**GOOD, "turn": "1"}, "turn must be a whole number, not text"),
        ({**GOOD, "tags": "shop"}, "tags must be a list, not text"),
        ({**GOOD, "tags": [1]}, "tags must be text, not a number"),
    ],
)
def test_a_malformed_line_is_named_with_its_place(tmp_path: Path, line: object, message: str) -> None:
    path = written(tmp_path, GOOD, "", line)
    with pytest.raises(CaseError) as caught:
        read_cases(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "holds no cases"), (b"\n \n", "holds no cases"), (b'{"a": "\xff"}', "not UTF-8 (byte 7)"), (None, "cannot be read")],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "cases.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_cases(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def shipped() -> list[Case]:
    return shipped_cases()


@pytest.fixture(scope="module")
def conversations(shipped: list[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for case in shipped:
        if case.conversation_id is not None:
            found[case.conversation_id].append(case)
    return found


def last_message(case: Case) -> str:
    return str(case.messages[-1]["content"])  # type: ignore[index]


def test_what_ships(shipped: list[Case], conversations: dict[str, list[Case]]) -> None:
    tables = {case.table for case in shipped}
    assert len(shipped) >= 480
    assert len(tables) >= 28
    assert {2, 3, 5, 12, 40} <= {len(table) for table in tables}
    assert len(conversations) >= 60
    counts = Counter(tag for case in shipped for tag in case.tags)
    assert 0.12 <= counts["other"] / len(shipped) <= 0.15
    assert counts["non-english"] >= 40
    least = {"finished": 30, "topic-shift": 60, "short-reply": 40, "long": 10, "code": 20, "typos": 20}
    assert {tag: counts[tag] for tag in least if counts[tag] < least[tag]} == {}
    assert len({case.tags[0] for case in shipped}) >= 25


def test_nothing_ships_twice(shipped: list[Case]) -> None:
    asked = Counter((str(case.messages), case.table) for case in shipped)
    assert [messages for (messages, _), count in asked.items() if count > 1] == []


def test_every_route_of_a_table_is_asked_for(shipped: list[Case]) -> None:
    asked: dict[RouteTable, set[str]] = defaultdict(set)
    for case in shipped:
        asked[case.table].add(case.route)
    assert [table for table, routes in asked.items() if routes != {*table.names, "other"}] == []


def test_tags_are_those_of_the_documents_and_hold(shipped: list[Case]) -> None:
    for case in shipped:
        domain, *tags = case.tags
        assert domain not in TAGS
        assert set(tags) <= TAGS
        assert len(set(tags)) == len(tags)
        assert ("other" in tags) == (case.route == "other")
        assert ("multi-turn" in tags, "single-turn" in tags) == (bool(case.conversation_id), not case.conversation_id)
        assert ("long" in tags) == (len(last_message(case).split()) >= 150)
        assert "short-reply" not in tags or len(last_message(case).split()) <= 8
        assert "finished" not in tags or case.route == "other"


def test_conversations_grow_turn_by_turn(conversations: dict[str, list[Case]]) -> None:
    for name, cases in conversations.items():
        assert [case.turn for case in cases] == list(range(1, len(cases) + 1)), name
        assert len(cases) >= 2, name
        assert len({case.table for case in cases}) == 1, name
        last = cases[-1].messages
        assert [message["role"] for message in last] == ["user", "assistant"] * (len(cases) - 1) + ["user"], name  # type: ignore[index]
        assert [case.messages for case in cases] == [last[: 2 * number + 1] for number in range(len(cases))], name


def test_a_span_is_a_stretch_of_turns_on_one_route(conversations: dict[str, list[Case]]) -> None:
    for name, cases in conversations.items():
        for one, other in pairwise(cases):
            assert (one.span == other.span) == (one.route == other.route), name
            shifts = one.route != other.route and other.route != "other"
            assert ("topic-shift" in other.tags) == shifts, name
            assert "short-reply" not in other.tags or one.route == other.route, name
        assert [case.span for case in cases] == sorted((str(case.span) for case in cases), key=int), name
