"""SIGTERM while a command works: nothing of what it has begun is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = """\
import sys, time
from archroute_edge.cli import bench, main

def plan(options, scratch, line):
    (scratch / "level.gguf").write_bytes(b"x")
    print("begun", flush=True)
    time.sleep(60)

bench._plan = plan
main(["bench", "--json"], prog_name="archroute")
"""

AT_EXIT = """\
import atexit, os, signal, time
from archroute_edge.cli.process import interrupt_on_sigterm

interrupt_on_sigterm()
atexit.register(lambda: print("the end", flush=True))
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    print("cleared away", flush=True)
"""


def ended(program: str, number: int, cache: Path) -> tuple[int, str, str]:
    """How a program ends by a signal: its status, and what it said after its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin", "ARCHROUTE_CACHE_DIR": str(cache), "PYTHONPATH": ":".join(sys.path)},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_no_temporary_levels_are_left(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Would break if bench left gigabytes in the cache where a supervisor ends it."""
    assert ended(BENCH, number, tmp_path) == (status, "", "\narchroute: interrupted\n")
    assert not list(tmp_path.rglob("level.gguf"))


def test_clearing_away_is_not_interrupted_and_comes_before_the_end(tmp_path: Path) -> None:
    assert ended(AT_EXIT, signal.SIGTERM, tmp_path) == (-signal.SIGTERM, "cleared away\nthe end\n", "")
