"""What is measured with: requests and other words for the same, from the YAML files beside, and the shipped cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from archroute_edge import OTHER, Route, RouteTable
from archroute_edge.conversation import read_messages
from archroute_edge.evaluation import Case, shipped_cases

FOLDER: Final = Path(__file__).parent
LANGUAGES: Final = {
    "de": "German",
    "es": "Spanish",
    "zh": "Chinese",
    "ar": "Arabic",
    "hi": "Hindi",
    "ja": "Japanese",
    "tr": "Turkish",
    "id": "Indonesian",
}


@dataclass(frozen=True)
class Request:
    """A message in English, and the right route of a table for it; the same in other words, and in other languages."""

    table: RouteTable
    route: str
    text: str
    paraphrases: tuple[str, ...] = ()
    translations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wording:
    """Other words for the routes of a table: names with the same meaning, and descriptions by language, both by name."""

    synonyms: Mapping[str, str]
    descriptions: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Data:
    """The requests written for this, the shipped cases that are one message in English, and wordings by table."""

    written: tuple[Request, ...]
    shipped: tuple[Request, ...]
    wordings: Mapping[RouteTable, Wording]


def load(*, with_shipped: bool = True, every: int = 1) -> Data:
    """Read everything, or all but the shipped cases; of the requests take each ``every``-th only."""
    cases = shipped_cases()
    tables = _Tables(cases)
    wordings = {}
    for entry in _entries("tables.yaml"):
        synonyms, descriptions = entry.get("synonyms", {}), entry.get("descriptions", {})
        if "routes" in entry:
            tables.add(entry["table"], RouteTable(Route(*each) for each in entry["routes"].items()))
        wordings[tables.find(entry["table"], synonyms)] = Wording(synonyms, descriptions)
    written = []
    for entry in _entries("requests.yaml"):
        table = tables.find(entry["table"], (each["route"] for each in entry["requests"]))
        written += [
            Request(table, each["route"], each["text"], tuple(each["paraphrases"]), each.get("in", {}))
            for each in entry["requests"]
        ]
    shipped = [
        Request(case.table, case.route, read_messages(case.messages)[-1].content)
        for case in cases
        if "single-turn" in case.tags and "non-english" not in case.tags
    ]
    return Data(tuple(written[::every]), tuple(shipped[::every]) if with_shipped else (), wordings)


class _Tables:
    """Tables by the name of their own, or by the domain of the shipped cases that have them."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._by_name: dict[str, list[RouteTable]] = {}
        for case in cases:
            self.add(case.tags[0], case.table)

    def add(self, name: str, table: RouteTable) -> None:
        there = self._by_name.setdefault(name, [])
        if table not in there:
            there.append(table)

    def find(self, name: str, routes: Iterable[str]) -> RouteTable:
        """The one table called ``name`` that has the routes: a domain may have several."""
        wanted = set(routes) - {OTHER}
        fitting = [table for table in self._by_name.get(name, ()) if wanted <= set(table.names)]
        if len(fitting) != 1:
            raise ValueError(f"{len(fitting)} tables are called {name!r} and have the routes {', '.join(sorted(wanted))}")
        return fitting[0]


def _entries(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return found
