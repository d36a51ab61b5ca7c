"""How a packaged encoder treats routes that take what fits no other, by the tables in `catch_all_tables.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from archroute_edge import OTHER, Route, Router
from training.yaml_files import read_yaml

_FILE: Final = Path(__file__).parent / "catch_all_tables.yaml"


@dataclass(frozen=True)
class TableFigures:
    """Of some tables: how many there are, in how many a route takes what fits no other, and what becomes of requests.

    `rest` are requests that fit no specific route, `specific` the others; each the number asked and that of right answers.
    """

    tables: int
    taken: int
    rest: tuple[int, int]
    specific: tuple[int, int]


def figures_of_catch_alls(model: Path) -> dict[str, TableFigures]:
    """The figures of a GGUF by what the last route of the tables is; raises ArchRouteError if it cannot be used.

    With a catch-all it is right for requests that fit no specific route; with a general one of the table's subject, `other` is.
    """
    tables: list[Mapping[str, Any]] = read_yaml(_FILE)
    with Router([Route("a"), Route("b")], model=model, prefix_cache=False) as router:
        return {
            "a catch-all": _added([_ask(router, table, table["catch_all"], table["catch_all"][0]) for table in tables]),
            "a general route": _added([_ask(router, table, table["general"], OTHER) for table in tables]),
        }


def _ask(router: Router, table: Mapping[str, Any], last: list[str], label: str) -> TableFigures:
    routes = [Route(*route) for route in (*table["routes"], last)]
    rest = router.route_many(table["rest"], routes=routes, scores=True)
    asked = [(message, name) for name, messages in table["specific"].items() for message in messages]
    specific = router.route_many([message for message, _ in asked], routes=routes)
    right = sum(decision.route == name for decision, (_, name) in zip(specific, asked, strict=True))
    taken = any((decision.scores or {}).get(OTHER) == 0 for decision in rest)
    return TableFigures(1, taken, (len(rest), sum(decision.route == label for decision in rest)), (len(asked), right))


def _added(figures: list[TableFigures]) -> TableFigures:
    def total(name: str) -> tuple[int, int]:
        pairs = [getattr(one, name) for one in figures]
        return sum(count for count, _ in pairs), sum(right for _, right in pairs)

    return TableFigures(len(figures), sum(one.taken for one in figures), total("rest"), total("specific"))


def show(figures: dict[str, TableFigures]) -> str:
    """A line for each kind of table."""
    lines = [f"{'the last route is':20}{'tables':>8}{'takes the rest':>16}{'rest right':>14}{'specific right':>16}"]
    for name, one in figures.items():
        (n_rest, rest), (n_specific, specific) = one.rest, one.specific
        lines.append(f"{name:20}{one.tables:>8}{one.taken:>16}{rest:>7} of {n_rest}{specific:>9} of {n_specific}")
    return "\n".join(lines)
