"""Labelled cases: a conversation, the routes it is to be held against, and the route that is right.

A file has one JSON object a line::

    {"messages": [{"role": "user", "content": "..."}], "routes": [{"name": "...", "description": "..."}], "route": "..."}

``route`` may be ``other``. ``conversation_id`` and ``turn`` say that a case is one turn of a conversation, ``span`` which
stretch of turns on one route it belongs to, ``tags`` (a list of words) what to report separately. ``messages`` may be a
plain string; ``routes`` may be left out where a table is given for the whole file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from archroute_edge.config import Keys, Node, Source, parse_json, read_routes
from archroute_edge.conversation import Messages, read_user_text
from archroute_edge.errors import CaseError, ConversationError, RouteTableError
from archroute_edge.routes import OTHER, RouteTable

_CASE: Final = Keys(
    "a case",
    read=frozenset({"messages", "routes", "route", "conversation_id", "turn", "span", "tags"}),
    needed=("messages", "route"),
)


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
        value = parse_json(line.encode("utf-8"), "")
    except ConversationError as exc:
        # Its place is that within the line, which is always line 1.
        raise CaseError(f"{place}: {str(exc).removeprefix(':1').removeprefix(': ')}") from exc
    source = Source(error=lambda message, _place, _path: CaseError(f"{place}: {message}"))
    fields = Node.of(value, source, "a case").fields(_CASE, "a case")
    try:
        read_user_text(fields["messages"].content)
        if "routes" in fields:
            # Cases of one table share one object, so that its prefix is looked up once.
            key = json.dumps(value["routes"], sort_keys=True)
            own = tables.get(key) or tables.setdefault(key, read_routes(value["routes"]))
        elif table is not None:
            own = table
        else:
            raise fields["route"].error("no routes; give them in the case, or a configuration for the whole file")
    except (ConversationError, RouteTableError) as exc:
        raise CaseError(f"{place}: {exc}") from exc
    right = fields["route"].text()
    if right != OTHER and right not in own:
        problem = f"the right route is {right!r}, but the routes are {', '.join(own.names)} and {OTHER}"
        raise fields["route"].error(problem)
    return Case(
        number,
        fields["messages"].content,
        own,
        right,
        _label(fields.get("conversation_id")),
        fields["turn"].whole() if "turn" in fields else 0,
        _label(fields.get("span")),
        tuple(each.text() for each in fields["tags"].items()) if "tags" in fields else (),
    )


def _label(value: Node | None) -> str | None:
    """A text, or a number in the place of one."""
    if value is None:
        return None
    return value.text() if value.kind == "text" else str(value.whole())
