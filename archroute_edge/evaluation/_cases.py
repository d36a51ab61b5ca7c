"""Labelled cases: a conversation, the routes it is to be held against, and the route that is right.

A file has one JSON object a line::

    {"messages": [{"role": "user", "content": "..."}], "routes": [{"name": "...", "description": "..."}], "route": "..."}

``route`` may be ``other``. ``conversation_id`` and ``turn`` say that a case is one turn of a conversation, ``span`` which
stretch of turns on one route it belongs to, ``tags`` (a list of words) what to report separately. ``messages`` may be a
plain string; ``routes`` may be left out where a table is given for the whole file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from archroute_edge.conversation import Messages, read_user_text
from archroute_edge.errors import ArchRouteError, CaseError
from archroute_edge.routes import OTHER, Route, RouteTable

_KEYS: Final = {"messages", "routes", "route", "conversation_id", "turn", "span", "tags"}


@dataclass(frozen=True)
class Case:
    """One labelled decision.

    Attributes:
        line: where it stands in its file, counted from 1.
        messages: the conversation, as :meth:`archroute_edge.Router.route` takes it.
        table: the routes.
        route: the name of the right one, or ``other``.
        conversation_id: what the turns of one conversation share; None for a case that stands alone.
        turn: order within the conversation.
        span: number or name of the stretch of turns on one route; None where the file does not say.
        tags: words to report by.
    """

    line: int
    messages: Messages
    table: RouteTable
    route: str
    conversation_id: str | None = None
    turn: int = 0
    span: str | None = None
    tags: tuple[str, ...] = ()


def read_cases(path: Path, table: RouteTable | None = None) -> list[Case]:
    """Read every case of a file; ``table`` stands in where a case has no routes of its own.

    Raises:
        CaseError: the file cannot be read, is empty, or a line is no case; the message has file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CaseError(f"{path}: not UTF-8 (byte {exc.start})") from exc
    except OSError as exc:
        raise CaseError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    tables: dict[str, RouteTable] = {}
    cases = [
        _read_case(line, f"{path}:{number}", number, table, tables)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not cases:
        raise CaseError(f"{path}: holds no cases")
    return cases


def shipped_cases() -> list[Case]:
    """The cases that come with the package, written for it; ``docs/cases.md`` says what is among them."""
    with resources.as_file(resources.files("archroute_edge") / "data" / "cases.jsonl") as path:
        return read_cases(path)


def _read_case(line: str, place: str, number: int, table: RouteTable | None, tables: dict[str, RouteTable]) -> Case:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise CaseError(f"{place}: not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise CaseError(f'{place}: expected an object with "messages" and "route"')
    if unknown := sorted(fields.keys() - _KEYS):
        raise CaseError(f"{place}: unknown key {unknown[0]!r}; a case has {', '.join(sorted(_KEYS))}")
    if missing := sorted({"messages", "route"} - fields.keys()):
        raise CaseError(f"{place}: {missing[0]!r} is missing")
    try:
        read_user_text(fields["messages"])
        if "routes" in fields:
            # Cases of one table share one object, so that its prefix is looked up once.
            key = json.dumps(fields["routes"], sort_keys=True)
            own = tables.get(key) or tables.setdefault(key, _read_table(fields["routes"]))
        elif table is not None:
            own = table
        else:
            raise CaseError("has no routes; give them in the case, or a configuration for the whole file")
    except ArchRouteError as exc:
        raise CaseError(f"{place}: {exc}") from exc
    names = [route.name for route in own]
    if fields["route"] != OTHER and fields["route"] not in names:
        raise CaseError(f"{place}: the right route is {fields['route']!r}, but the routes are {', '.join(names)} and {OTHER}")
    return Case(
        number,
        fields["messages"],
        own,
        fields["route"],
        _text(fields, "conversation_id", place),
        _turn(fields, place),
        _text(fields, "span", place),
        _tags(fields, place),
    )


def _read_table(routes: Any) -> RouteTable:
    if not isinstance(routes, list) or not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in routes):
        raise CaseError("routes must be a list of objects with name and description")
    return RouteTable(Route(each["name"], each.get("description", "")) for each in routes)


def _text(fields: dict[str, Any], key: str, place: str) -> str | None:
    value = fields.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
        raise CaseError(f"{place}: {key!r} must be a text or a number, not {value!r}")
    return None if value is None else str(value)


def _turn(fields: dict[str, Any], place: str) -> int:
    turn = fields.get("turn", 0)
    if isinstance(turn, bool) or not isinstance(turn, int):
        raise CaseError(f"{place}: 'turn' must be a whole number, not {turn!r}")
    return turn


def _tags(fields: dict[str, Any], place: str) -> tuple[str, ...]:
    tags = fields.get("tags", [])
    if not isinstance(tags, Sequence) or isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise CaseError(f"{place}: 'tags' must be a list of words, not {tags!r}")
    return tuple(tags)
