"""What a command loads before it answers: most of a short command's time is imports."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from archroute_edge.cli import main
from tests.conftest import EXAMPLE_ROUTES

# Writes down what the process had at its end, after all that the command has registered for then.
PROGRAM = """
import atexit, gc, json, os, sys
def note(path=sys.argv.pop(1)):
    with open(path, "w") as file:
        blas = os.environ.get("OPENBLAS_NUM_THREADS")
        json.dump({"modules": [*sys.modules], "frozen": gc.get_freeze_count(), "blas": blas}, file)
atexit.register(note)
from archroute_edge.cli import main
main(prog_name="archroute")
"""

HTTP = {"aiohttp", "asyncio", "http.client", "httpx", "httpx2", "requests", "ssl", "urllib.request", "urllib3"}
ENGINE = {"llama_cpp", "numpy", "archroute_edge.deciders._open_decider"}
BENCHMARK = {"archroute_edge.bench", "archroute_edge.evaluation"}
LANGUAGE_MODEL = {"archroute_edge.deciders._generative", "archroute_edge.prompts._chat_template"}


@dataclass(frozen=True)
class End:
    """What a process had loaded and set when it ended."""

    modules: frozenset[str]
    frozen: int
    blas: str


@functools.cache
def at_the_end(arguments: tuple[str, ...], kernels: Path, **settings: str) -> End:
    """Run ``archroute`` as a process of its own, once for all tests."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(note), *arguments],
            env={**environment, "HF_HUB_CACHE": folder, "ARCHROUTE_CACHE_DIR": str(kernels), **settings},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(note.read_text())
    return End(frozenset(found["modules"]), found["frozen"], found["blas"])


CHECK = ("check", str(EXAMPLE_ROUTES))
ENCODER = ("route", "hello", "--model", "mini")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--help",), ENGINE | HTTP | BENCHMARK | {"huggingface_hub", "yaml", "archroute_edge.routing._router"}),
        (("serve", "--help"), ENGINE | HTTP | BENCHMARK | {"huggingface_hub"}),
        # Its advice compares routes by the encoder's vectors.
        (CHECK, HTTP | BENCHMARK | LANGUAGE_MODEL | {"huggingface_hub"}),
        (("models", "list"), ENGINE | HTTP | BENCHMARK),
        (("grammar", "--model", "tiny"), ENGINE | HTTP | BENCHMARK | {"huggingface_hub"}),
        (("route", "hello"), HTTP | BENCHMARK | LANGUAGE_MODEL),
        (ENCODER, HTTP | BENCHMARK | LANGUAGE_MODEL | {"huggingface_hub"}),
        (("route", "hello", "--model", "tiny"), HTTP | BENCHMARK | {"huggingface_hub"}),
    ],
    ids=lambda value: " ".join(value).replace(str(EXAMPLE_ROUTES), "FILE") if isinstance(value, tuple) else "",
)
def test_a_command_loads_what_it_needs(kernel_verdict: Path, arguments: tuple[str, ...], unwanted: set[str]) -> None:
    """One import at the top of a file that everything imports, and every command is slow again."""
    modules = at_the_end(arguments, kernel_verdict.parent).modules
    assert "archroute_edge.cli" in modules
    assert unwanted & modules == set()


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_list_says_what_the_command_says(name: str) -> None:
    """The list is written without the commands, so a help text could be changed in one place only."""
    command = main.commands[name]
    assert command.name == name
    assert main.places[name].short_help == command.get_short_help_str(limit=1000)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_list_is_the_one_that_click_writes(columns: int) -> None:
    """At every width, with every command loaded: its order, its columns, its dots."""
    ctx = click.Context(main, info_name="archroute", terminal_width=columns)
    ours, usual = ctx.make_formatter(), ctx.make_formatter()
    main.format_commands(ctx, ours)
    click.Group(commands=dict(main.commands)).format_commands(ctx, usual)
    assert ours.getvalue() == usual.getvalue()
    assert main.places.keys() == main.commands.keys() == set(main.list_commands(ctx))


@pytest.mark.parametrize(("slip", "end"), [("rout", "[?][)]; see"), ("routee", "[?] See")])
def test_a_name_that_is_nearly_one(slip: str, end: str) -> None:
    result = CliRunner().invoke(main, [slip], prog_name="archroute")
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(rf"archroute: error: No such command '{slip}'\..* 'route'{end} archroute --help\n", result.stderr)


def test_the_end_of_a_process_is_quick(kernel_verdict: Path) -> None:
    """Else Python looks through everything for cycles, several times, before it gives it all back anyway."""
    assert at_the_end(ENCODER, kernel_verdict.parent).frozen > 10_000


def test_numpy_gets_no_threads_that_it_has_no_use_for(kernel_verdict: Path) -> None:
    assert at_the_end(CHECK, kernel_verdict.parent).blas == "1"
    assert at_the_end(CHECK, kernel_verdict.parent, OPENBLAS_NUM_THREADS="3").blas == "3"


def test_a_program_that_calls_it_keeps_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In standalone mode the process is ours; otherwise it is somebody's who goes on."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    main(["check", str(EXAMPLE_ROUTES)], standalone_mode=False)
    assert "OPENBLAS_NUM_THREADS" not in os.environ
