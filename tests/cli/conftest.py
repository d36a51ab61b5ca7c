"""Running ``archroute``: in this process, where that shows enough, and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from archroute_edge.cli import main

PROGRAM = [sys.executable, "-c", "from archroute_edge.cli import main; main(prog_name='archroute')"]

ROUTES = """\
default_model: openai/gpt-4o-mini
routing_preferences:
  - name: bug_fixing
    description: errors and bugs in code
    models: [openai/gpt-4o, anthropic/claude-sonnet-4-6]
  - name: traducción
    description: translation of texts
    models: [mistral/large]
"""


class Run(Protocol):
    """Run ``archroute`` with arguments, and text or bytes on standard input."""

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Result: ...


@pytest.fixture
def run() -> Run:
    """Run in this process."""

    def call(*args: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(main, args, input=stdin, prog_name="archroute")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return call


@pytest.fixture
def model(random_model: Path) -> tuple[str, ...]:
    """Options for the small random model, as cheap to run as can be."""
    return "--model", str(random_model), "--threads", "1", "--no-prefix-cache"


@pytest.fixture
def routes(tmp_path: Path) -> str:
    """A configuration with two routes."""
    path = tmp_path / "routes.yaml"
    path.write_text(ROUTES, encoding="utf-8")
    return str(path)


@pytest.fixture
def process(tried_kernels: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run as a process of its own, with this test's folders."""

    def call(*args: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *args],
            input=stdin,
            env={**os.environ, "GGML_NO_BACKTRACE": "1", **settings},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return call


def one_line(result: Result | subprocess.CompletedProcess[str]) -> str:
    """What a failed command says: exit code 2, nothing on standard output, one line on standard error."""
    code = result.exit_code if isinstance(result, Result) else result.returncode
    assert (code, result.stdout) == (2, ""), (result.stdout, result.stderr)
    (line,) = result.stderr.splitlines()
    assert line.startswith("archroute: error: ")
    return line.removeprefix("archroute: error: ")
