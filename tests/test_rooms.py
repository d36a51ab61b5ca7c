"""The rooms of the package: what may import what, and how large they are."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import archroute_edge

PACKAGE = Path(archroute_edge.__file__).parent
ROOMS = [
    "system",
    "http_client",
    "report",
    "config",
    "engine",
    "prompts",
    "models",
    "decoding",
    "deciders",
    "quality",
    "targets",
    "routing",
    "label",
    "quantize",
    "evaluation",
    "bench",
    "record",
    "gateway",
    "server",
    "server.http",
    "server.stdio",
    "cli",
]
"""From the top: a room imports the package's root and rooms that stand before it."""
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pyinstaller" not in path.parts)


def room_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).parent.parts)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The room and the rest of the path of every module of the package that a file imports, in functions, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("archroute_edge."):
            parts = node.module.split(".")[1:]
            room = ".".join(part for part in parts if not part.startswith("_"))
            yield (room if room in ROOMS else "", ".".join(part for part in parts if part.startswith("_")))


def test_every_folder_is_a_room() -> None:
    assert {room_of(path) for path in MODULES} == {"", *ROOMS}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_the_exports_of_rooms_before_it(path: Path) -> None:
    """An arrow that runs up ties two rooms into one; a private module that another room imports cannot be changed alone."""
    room = room_of(path)
    before = ROOMS if not room else ROOMS[: ROOMS.index(room)]
    for other, private in imports(path):
        if other and other != room and not (path.name == "__init__.py" and path.parent == PACKAGE):
            assert other in before, f"{room} imports {other}, which stands after it"
            assert not private, f"{room} imports {other}.{private}, which {other} keeps to itself"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_a_room_exports_what_it_tells_type_checkers(room: str) -> None:
    """The names are imported lazily, from a table beside the imports that type checkers read."""
    module = importlib.import_module(f"archroute_edge.{room}")
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    told = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"archroute_edge.{room}._")
        for alias in node.names
    }
    assert set(getattr(module, "__all__", ())) == told
    for name in told:
        assert getattr(module, name) is not None


def test_the_root_has_only_words_that_every_room_uses() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "_exports.py",
        "_unicode.py",
        "conversation.py",
        "decision.py",
        "errors.py",
        "routes.py",
    }


def test_no_module_is_longer_than_can_be_read_at_a_sitting() -> None:
    long = {path.name: lines for path in MODULES if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 450}
    assert long == {}


def test_only_the_engine_and_quantization_import_llama_cpp() -> None:
    found = {
        room_of(path)
        for path in MODULES
        if re.search(r"^\s*(?:import|from) llama_cpp\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == {"engine", "quantize"}


def test_the_picture_shows_every_room() -> None:
    picture = (PACKAGE.parent / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert [room for room in ROOMS if room != "server" and f">{room}</text>" not in picture] == []
