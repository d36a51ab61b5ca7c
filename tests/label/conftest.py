"""Files of conversations to label, and labels read back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.config import RoutingConfig
from archroute_edge.label import Claims, Fields, LabelFolder, Labeller, LabelRun, find_inputs
from archroute_edge.routing import Router

# Takes a claim, says so, and ends without giving it back.
DIES = """
import os, sys
from pathlib import Path
from archroute_edge.label import Claims
Claims().take(Path(sys.argv[1]))
os._exit(9)
"""


def die_with(output: Path) -> None:
    assert subprocess.run([sys.executable, "-c", DIES, str(output)], check=False).returncode == 9


def line(text: str, **more: object) -> str:
    return json.dumps({**more, "messages": [{"role": "user", "content": text}]})


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]


def names(folder: Path) -> set[str]:
    """The files below a folder, all of them."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def encoder(random_encoder: Path, card_config: RoutingConfig) -> Iterator[Router]:
    with Router(config=card_config, model=random_encoder, threads=1, prefix_cache=False) as router:
        yield router


def make_run(router: Router, given: Path | str, output: Path, *, takeover_s: float = 60.0, **settings: Any) -> LabelRun:
    found = find_inputs([str(given)], output)
    folder = LabelFolder(output, {"run": 1}, found, scores=settings.get("scores", False))
    labeller = Labeller(router, scores=settings.pop("scores", False))
    return LabelRun(labeller, found, folder, fields=settings.pop("fields", Fields()), claims=Claims(takeover_s), **settings)
