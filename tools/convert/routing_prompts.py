"""Routing prompts to calibrate and to compare models on: route tables with conversations and their right answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from archroute_edge.conversation import Turn, read_user_text
from archroute_edge.deciders import choose_prompt_format
from archroute_edge.engine import LoadedModel
from archroute_edge.errors import ArchRouteError, ImatrixError
from archroute_edge.models import AUTO, ModelFile
from archroute_edge.prompts import PromptBuilder
from archroute_edge.routes import OTHER, Route, RouteTable

_FOLDER: Final = Path(__file__).parent / "calibration"
CALIBRATION: Final = _FOLDER / "calibration.yaml"
VERIFICATION: Final = _FOLDER / "verification.yaml"
_KEYS: Final = {"messages", "routes", "route"}


@dataclass(frozen=True)
class RoutingCase:
    """A table, a conversation, and the name of its route, if that is known."""

    table: RouteTable
    turns: tuple[Turn, ...]
    route: str | None


def shipped_cases(path: Path) -> list[RoutingCase]:
    """The cases of one of the two files that come with this package."""
    return [case for entry in yaml.safe_load(path.read_text(encoding="utf-8")) for case in _cases_of_table(entry)]


def _cases_of_table(entry: dict[str, Any]) -> Iterator[RoutingCase]:
    table = RouteTable(Route(route["name"], route["description"]) for route in entry["routes"])
    by_route = [(route["name"], route["conversations"]) for route in entry["routes"]]
    for name, conversations in [*by_route, (OTHER, entry["other"])]:
        for conversation in conversations:
            texts = [conversation] if isinstance(conversation, str) else conversation
            turns = tuple(Turn("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(texts))
            yield RoutingCase(table, turns, name)


def read_cases(path: Path) -> list[RoutingCase]:
    """The cases of a JSONL file: ``{"routes": [{"name", "description"}], "messages": [...], "route": NAME}`` a line.

    ``messages`` is a text or OpenAI-style messages; ``route`` may be left out.

    Raises:
        ImatrixError: the file cannot be read, or a line is malformed; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ImatrixError(f"{path}: cannot be read ({exc})") from exc
    cases = [_case_of_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise ImatrixError(f"{path}: holds no routing prompt")
    return cases


def _case_of_line(line: str, place: str) -> RoutingCase:
    try:
        entry = json.loads(line)
    except ValueError as exc:
        raise ImatrixError(f"{place}: not valid JSON ({exc})") from None
    if not isinstance(entry, dict) or not {"messages", "routes"} <= entry.keys() <= _KEYS:
        raise ImatrixError(f'{place}: expected an object with "routes", "messages" and perhaps "route"')
    routes = entry["routes"]
    if not isinstance(routes, list) or not all(isinstance(route, dict) and "name" in route for route in routes):
        raise ImatrixError(f"{place}: routes must be a list of objects with name and description")
    try:
        table = RouteTable(Route(route["name"], route.get("description", "")) for route in routes)
        turns = read_user_text(entry["messages"])
    except ArchRouteError as exc:
        raise ImatrixError(f"{place}: {exc}") from exc
    route = entry.get("route")
    if route is not None and route != OTHER and route not in table.names:
        raise ImatrixError(f"{place}: route {route!r} is none of {', '.join(table.names)}, {OTHER}")
    return RoutingCase(table, turns, route)


@dataclass(frozen=True)
class RoutingPrompt:
    """Token ids of a case as a model reads it. ``answer`` is empty if the right route is not known."""

    case: RoutingCase
    prompt: list[int]
    answer: list[int]


def prompt_builder(model: LoadedModel, prompt_format: str = AUTO) -> PromptBuilder:
    """Writes prompts as ``model`` was trained to read them, or in the format that is named.

    Raises:
        PromptFormatError: no such format, or the chat template cannot carry it.
        ModelFileError: the model has no chat template.
    """
    chosen = choose_prompt_format(prompt_format, ModelFile(model.path.name, model.path), model.header)
    return PromptBuilder(model, chosen)


def tokenize_cases(model: LoadedModel, builder: PromptBuilder, cases: list[RoutingCase]) -> list[RoutingPrompt]:
    """The cases as token ids, prompt and answer."""
    prompts = []
    for case in cases:
        texts = [answer.text for answer in builder.answers(case.table) if answer.route == case.route]
        answer = model.vocabulary.tokenize(texts[0]) if texts else []
        prompts.append(RoutingPrompt(case, builder.tokens(case.table, case.turns), answer))
    return prompts
