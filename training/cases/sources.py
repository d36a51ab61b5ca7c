"""The sources of the shipped cases: a route table and its cases in YAML, a file a table, and what they become.

::

    domain: shop
    routes:
      returns: Returns and exchanges of goods that have arrived
      delivery: Dates, addresses and tracking of deliveries
    cases:
      - delivery: where is my parcel?             # a case of one message, under its route
      - other: lol nice weather
        tags: typos
      - - delivery: where is my parcel?           # a conversation: user turns under their routes, assistant turns plain
        - It comes tomorrow.
        - delivery: and the second one?
          tags: short-reply

Every user turn of a conversation becomes a case with the messages up to it. What can be computed is: ``single-turn``,
``multi-turn``, ``topic-shift`` (another route than the turn before, and not ``other``), ``other``, ``long`` (a message of
150 words or more), conversation_id, turn, and span.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from archroute_edge.config import Node, parse_tree
from archroute_edge.errors import CaseError
from archroute_edge.routes import OTHER

SOURCES: Final = Path(__file__).parent / "shipped"
WRITTEN_TAGS: Final = frozenset({"short-reply", "finished", "non-english", "code", "typos"})
COMPUTED_TAGS: Final = frozenset({"single-turn", "multi-turn", "topic-shift", "other", "long"})
LONG_WORDS: Final = 150


def build(folder: Path = SOURCES) -> str:
    """The lines of cases.jsonl that the sources of a folder give, in the order of their names.

    Raises:
        CaseError: a source that is not of the shape above; the message has file and line.
        ConfigError: a source that is not YAML.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise CaseError(f"{folder}: holds no sources (*.yaml)")
    return "".join(json.dumps(case, ensure_ascii=False) + "\n" for path in paths for case in _Source(path).cases())


class _Source:
    def __init__(self, path: Path) -> None:
        self._path = path
        root = self._entries(parse_tree(path.read_text(encoding="utf-8"), path=path))
        if root.keys() != {"domain", "routes", "cases"}:
            raise self._error(1, "a source has domain, routes and cases")
        self._domain = self._text(root["domain"])
        routes = self._entries(root["routes"])
        self._routes = [{"name": name, "description": self._text(each)} for name, each in routes.items()]
        self._names = {OTHER, *routes}
        self._cases = self._items(root["cases"])

    def cases(self) -> Iterator[dict[str, Any]]:
        n_conversations = 0
        for item in self._cases:
            if item.kind == "a list":
                n_conversations += 1
                yield from self._conversation(item, f"{self._path.stem}-{n_conversations}")
            else:
                text, route, tags = self._user_turn(item)
                yield self._case([{"role": "user", "content": text}], route, ["single-turn", *tags])

    def _conversation(self, items: Node, name: str) -> Iterator[dict[str, Any]]:
        messages: list[dict[str, str]] = []
        turn = span = 0
        before: str | None = None
        for item in items.content:
            role = "assistant" if isinstance(item.content, str) else "user"
            if role != ("assistant" if len(messages) % 2 else "user"):
                raise self._error(item.line, f"two turns of the {role} in a row; turns alternate, the user's first")
            if role == "assistant":
                messages.append({"role": role, "content": self._text(item)})
                continue
            text, route, tags = self._user_turn(item)
            messages.append({"role": role, "content": text})
            self._check_reply(item.line, tags, route, before)
            turn, span = turn + 1, span + (route != before)
            if before not in (None, route) and route != OTHER:
                tags.insert(0, "topic-shift")
            before = route
            case = self._case(messages, route, ["multi-turn", *tags])
            yield {**case, "conversation_id": name, "turn": turn, "span": span}
        if turn < 2 or len(messages) % 2 == 0:
            raise self._error(items.line, "a conversation has two user turns or more, and ends with one")

    def _case(self, messages: list[dict[str, str]], route: str, tags: list[str]) -> dict[str, Any]:
        if route == OTHER:
            tags.append(OTHER)
        if len(messages[-1]["content"].split()) >= LONG_WORDS:
            tags.append("long")
        return {"messages": list(messages), "route": route, "tags": [self._domain, *tags], "routes": self._routes}

    def _check_reply(self, line: int | None, tags: list[str], route: str, before: str | None) -> None:
        if "short-reply" in tags and route != before:
            raise self._error(line, "a short-reply stays on the route of the turn before")
        if "finished" in tags and (route != OTHER or before is None):
            raise self._error(line, f"a finished request is {OTHER}, and has turns before it")

    def _user_turn(self, value: Node) -> tuple[str, str, list[str]]:
        entries = self._entries(value)
        tags = self._text(entries.pop("tags")).split() if "tags" in entries else []
        if unknown := sorted(set(tags) - WRITTEN_TAGS):
            raise self._error(value.line, f"no tag {unknown[0]!r}; those to write are {', '.join(sorted(WRITTEN_TAGS))}")
        if len(entries) != 1 or not entries.keys() <= self._names:
            raise self._error(value.line, f"a user turn is one text under a route of the table, not {', '.join(entries)}")
        ((route, text),) = entries.items()
        return self._text(text), route, tags

    def _entries(self, value: Node) -> dict[str, Node]:
        if value.kind != "a mapping":
            raise self._error(value.line, f"expected a mapping, not {value.kind}")
        return {key.content: each for key, each in value.content}

    def _items(self, value: Node) -> tuple[Node, ...]:
        if value.kind != "a list":
            raise self._error(value.line, f"expected a list, not {value.kind}")
        found: tuple[Node, ...] = value.content
        return found

    def _text(self, value: Node) -> str:
        if not isinstance(value.content, str) or not value.content.strip():
            raise self._error(value.line, "expected a text")
        return value.content.strip()

    def _error(self, line: int | None, message: str) -> CaseError:
        return CaseError(f"{self._path}:{line}: {message}")
