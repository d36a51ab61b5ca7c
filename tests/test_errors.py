"""The exception tree: drawn in one docstring, rooted in one class, and every class in use."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from archroute_edge import errors
from archroute_edge.errors import ArchRouteError, ConfigError

ROOT = Path(__file__).parent.parent
CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}


def drawn_tree() -> dict[str, str | None]:
    """Class name to the name of its parent, as drawn in the module's docstring."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    lines = iter((errors.__doc__ or "").split("::\n\n")[1].splitlines())
    for line in lines:
        if not line.strip():
            break
        name = line.strip("│├└─ ").split()[0]
        depth = line.index(name) // 4 - 1
        del above[depth:]
        parents[name] = above[-1] if above else None
        above.append(name)
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    """People choose what to catch from the drawing."""
    real = {name: None if each is ArchRouteError else each.__bases__[0].__name__ for name, each in CLASSES.items()}
    assert drawn_tree() == real


@pytest.mark.parametrize("name", CLASSES)
def test_one_except_clause_catches_everything(name: str) -> None:
    """An exception outside the tree goes through `except ArchRouteError` and kills a server."""
    assert issubclass(CLASSES[name], ArchRouteError)
    assert CLASSES[name].__doc__


def test_every_class_is_raised_somewhere() -> None:
    """A class that nothing raises is a promise that no caller can rely on."""
    sources = [*(ROOT / "archroute_edge").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    # Or returned: made in one place for those who raise it, and for the future that gets it.
    raised = {name for path in sources for name in re.findall(r"\b(?:raise|return) (\w+)\(", path.read_text(encoding="utf-8"))}
    leaves = {name for name in CLASSES if not any(other.__bases__[0].__name__ == name for other in CLASSES.values())}
    assert leaves - raised == set()


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [
        (None, None, "bad"),
        ("r.yaml", None, "r.yaml: bad"),
        ("r.yaml", 7, "r.yaml:7: bad"),
        (Path("dir") / "r.yaml", 1, f"{Path('dir') / 'r.yaml'}:1: bad"),
    ],
)
def test_config_errors_begin_with_the_place(path: str | Path | None, line: int | None, text: str) -> None:
    """Editors and people jump to `path:line`."""
    error = ConfigError("bad", path=path, line=line)
    assert str(error) == text
    assert (error.message, error.path, error.line) == ("bad", None if path is None else Path(path), line)
