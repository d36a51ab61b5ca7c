"""What a shell makes of ``<(...)``: a pipe in the place of a file, which can be read but once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archroute_edge.deciders import Calibration, find_models, identify
from archroute_edge.system import bundled_folder
from tests.cli.conftest import ROUTES, Run

CASE = b'{"messages": "fix the bug", "route": "bug_fixing"}\n'
FEWEST = ("--threads", "1", "--rounds", "1", "--decisions", "1")
MESSAGES = b'[{"role": "user", "content": "fix the bug"}]'


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """Makes pipes that give their content to their first reader."""
    writers: list[threading.Thread] = []

    def make(content: bytes) -> str:
        path = tmp_path / f"pipe-{len(writers)}"
        os.mkfifo(path)
        writers.append(threading.Thread(target=path.write_bytes, args=(content,), daemon=True))
        writers[-1].start()
        return str(path)

    yield make
    for each in writers:
        each.join(30)
        assert not each.is_alive()


@pytest.mark.parametrize(
    "command",
    [
        ("check", "ROUTES"),
        ("route", "x", "--config", "ROUTES", "--model", "mini"),
        ("route", "--messages", "MESSAGES", "--config", "ROUTES", "--model", "mini"),
        ("route", "--batch", "CASE", "--config", "ROUTES", "--model", "mini"),
        ("prompt", "--messages", "MESSAGES", "--config", "ROUTES", "--model", "tiny"),
        ("grammar", "--config", "ROUTES", "--model", "tiny"),
        ("eval", "CASE", "--routes", "ROUTES", "--model", "mini", "--json"),
        ("bench", "--cases", "CASE", "--config", "ROUTES", "--model", "mini", *FEWEST, "--json"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
@pytest.mark.usefixtures("tried_kernels")
def test_every_command_reads_pipes(
    run: Run, pipe: Callable[[bytes], str], command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archroute_edge.bench._plan.CALLERS", (1,))
    contents = {"ROUTES": ROUTES.encode(), "MESSAGES": MESSAGES, "CASE": CASE}
    result = run(*(pipe(contents[word]) if word in contents else word for word in command))
    assert result.exit_code == 0, result.stderr
    assert result.stdout


def test_labelling_reads_each_pipe_once(run: Run, pipe: Callable[[bytes], str], tmp_path: Path) -> None:
    known = identify(find_models("mini"), "auto")
    calibration = tmp_path / "calibration.yaml"
    Calibration(1.0, 0.0, known.name, known.fingerprint, known.prompt_format).save(calibration)
    (tmp_path / "a.jsonl").write_bytes(CASE)
    options = ("--config", pipe(ROUTES.encode()), "--calibration", pipe(calibration.read_bytes()), "--model", "mini")
    result = run("label", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "labels"), *options)
    assert result.exit_code == 0, result.stderr
    assert b'"route": "bug_fixing"' in (tmp_path / "labels" / "a.jsonl").read_bytes()


def test_a_catalogue_may_be_a_pipe(run: Run, pipe: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = b"models:\n  mine: {prompt_format: card, file: mine.gguf}\n"
    monkeypatch.setenv("ARCHROUTE_CATALOGUE", pipe(catalogue))
    assert run("models", "path", "mini").stdout == f"{bundled_folder() / 'mini-Q8_0.gguf'}\n"
