"""``archroute check``: what it says of good configurations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archroute_edge.config import load_config
from tests.cli.conftest import Run

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples" / "configs").glob("*.yaml"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_sound(run: Run, path: Path) -> None:
    result = run("check", str(path))
    config = load_config(path)
    assert result.exit_code == 0
    assert f"{path}: {len(config.table)} routes, default model {config.default_model}" in result.stdout
    for line in result.stderr.splitlines():
        assert line.startswith(f"{path}:")
        assert "warning: " in line


def test_advice_is_a_warning_with_its_line_and_leaves_the_exit_code(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("routing_preferences:\n  - name: a\n    description: all sorts of things\n", encoding="utf-8")
    result = run("check", str(path))
    assert result.exit_code == 0
    assert f"{path}:2: warning: route 'a' has a name that shares no word" in result.stderr
    n_warnings = len(result.stderr.splitlines())
    assert result.stdout.startswith(f"{path}: 1 route, default model none, {n_warnings} warning")


def test_json(run: Run, routes: str) -> None:
    result = run("check", routes, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert report["file"] == routes
    assert report["routes"] == ["bug_fixing", "traducción"]
    assert report["default_model"] == "openai/gpt-4o-mini"
    for warning in report["warnings"]:
        assert {"message", "line"} <= set(warning)
