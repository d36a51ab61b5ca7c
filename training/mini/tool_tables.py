"""Our own tables of routes that belong together (`tables/`, `agents/`), with requests for each and near ones that fit none.

A file holds `tables` (functions of an agent, or classes of questions: `functions`: name, about, ask; `none`) or `domains` of
narrow intents (`domain`, `about`, `intents`: name, names, about, ask; `none`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.tiny.kinds_bank import Kind, split_phrasings
from training.yaml_files import read_yaml

FOLDER: Final = Path(__file__).parent / "tables"
AGENTS_FOLDER: Final = Path(__file__).parent / "agents"
AGENTS: Final = "agents"
"""The source of the functions in `agents/`."""
TERSE: Final = "terse"
"""The source of the narrow intents in `agents/`."""


@dataclass(frozen=True)
class OwnTable:
    """The kinds of one table, and requests that are near to them and belong to none."""

    id: str
    kinds: tuple[Kind, ...]
    none: tuple[str, ...]


def load_own_tables() -> list[OwnTable]:
    """All of `tables/`, in the order of the files."""
    return [table for path in sorted(FOLDER.glob("*.yaml")) for table in _tables(path, "tools", "narrow")]


def load_agents() -> list[OwnTable]:
    """All of `agents/`, in the order of the files."""
    return [table for path in sorted(AGENTS_FOLDER.glob("*.yaml")) for table in _tables(path, AGENTS, TERSE)]


def _tables(path: Path, tools: str, intents: str) -> Iterator[OwnTable]:
    content = read_yaml(path)
    for number, table in enumerate(content.get("tables", []), 1):
        yield _table(f"{path.stem}.{number}", tools, table["functions"], table["none"])
    for domain in content.get("domains", []):
        # A domain of `agents/` may be called like one of `tables/`.
        identity = domain["domain"].replace(" ", "_")
        yield _table(identity if intents == "narrow" else f"{intents} {identity}", intents, domain["intents"], domain["none"])


def _table(identity: str, source: str, routes: list[dict[str, Any]], none: list[str]) -> OwnTable:
    kinds = []
    for route in routes:
        about = route.get("about") or []
        train, held = split_phrasings([str(text) for text in route["ask"]])
        names = [str(route["name"]), *(str(name) for name in route.get("names", []))]
        described = [about] if isinstance(about, str) else [str(text) for text in about]
        kind = Kind(f"{identity}/{route['name']}", source, names, described or [""], train or held, held)
        kind.domain = identity
        kinds.append(kind)
    for kind in kinds:
        kind.near = {other.id for other in kinds} - {kind.id}
    return OwnTable(identity, tuple(kinds), tuple(str(text) for text in none))
