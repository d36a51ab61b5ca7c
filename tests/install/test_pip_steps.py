"""A run of pip: its log, the lines that say why it failed, and its end when it is broken off."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.install.programs import write_pip
from tools.install.errors import InstallError
from tools.install.pip_steps import run, useful_lines
from tools.install.progress import Line

_AFTER = [
    "  ninja: build stopped: subcommand failed.",
    "  ERROR: Failed building wheel for llama-cpp-python",
    "ERROR: Failed to build one or more wheels",
]


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (["[1/83] c++ -Werror -c ok.cpp", "  ggml.cpp:7:3: error: no x", "   7 |  x;", *_AFTER], "ggml.cpp:7:3: error:"),
        (["  CMake Error at CMakeLists.txt:3 (project):", "    No CUDA compiler.", *_AFTER], "CMake Error at"),
        (["  a.o: undefined reference to `cublasCreate'", *_AFTER], "a.o: undefined reference to"),
        (["  nvcc fatal   : Unsupported gpu architecture 'compute_52'", *_AFTER], "nvcc fatal"),
        (["  cc1plus: fatal error: error writing to a.s: No space left on device", *_AFTER], "cc1plus: fatal error"),
        (["ERROR: Could not find a version of x", "ERROR: No matching distribution found for x"], "ERROR: Could"),
        (["one", "", "the last words"], "one"),
    ],
)  # fmt: skip
def test_the_cause_comes_first(lines: list[str], first: str) -> None:
    assert (
        useful_lines(["noise about an error", "more noise", *lines] if first != "one" else lines)[0].strip().startswith(first)
    )


def test_what_follows_the_cause_is_shown_and_no_more() -> None:
    shown = useful_lines(["x.cpp:1:1: error: first", *(f"line {number}" for number in range(100))])
    assert shown == ["  x.cpp:1:1: error: first", *(f"  line {number}" for number in range(7))]
    assert len(useful_lines(["x.cpp:1:1: error: " + "long " * 1000])[0]) < 300


def test_hints() -> None:
    killed = useful_lines(["c++: fatal error: Killed signal terminated program cc1plus"])
    assert "CMAKE_BUILD_PARALLEL_LEVEL=1" in killed[-1]
    cmake = ["  CMake Error in CMakeLists.txt:", '    CUDA_ARCHITECTURES is set to "native", but no GPU was detected.']
    assert useful_lines(cmake * 2) == [
        "  CMake Error in CMakeLists.txt:",
        '  CUDA_ARCHITECTURES is set to "native", but no GPU was detected.',
        "To compile for a card that is not here, name its architecture: CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=89",
    ]
    cublas = useful_lines(["  CMake Error at CMakeLists.txt:178:", "    CUDA::cublas", "  but the target was not found."])
    assert cublas[-1] == "cuBLAS was not found: install the whole CUDA toolkit, not its compiler alone."
    offline = useful_lines(
        ["WARNING: Retrying (Retry(total=4)) after connection broken", "ERROR: No matching distribution found"]
    )
    assert offline == [
        "  ERROR: No matching distribution found",
        "The package index could not be reached; docs/install.md says how to install without a network.",
    ]


def test_output_goes_to_the_log_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pip(tmp_path / "pip", monkeypatch)
    monkeypatch.setenv("FAKE_PIP_SAYS", "WARNING: Location 'x' is ignored")
    stream = io.StringIO()
    lines: list[str] = []
    run(["install", "x"], os.environ, tmp_path, tmp_path / "log", Line(stream), "installing", lines.append)
    assert lines == ["WARNING: Location 'x' is ignored\n"]
    assert stream.getvalue() == ""
    logged = (tmp_path / "log").read_text().splitlines()
    assert logged[0].endswith("-m pip install x --disable-pip-version-check --no-input")
    assert logged[1:] == ["WARNING: Location 'x' is ignored"]


def test_a_failure_says_why_and_where_the_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pip(tmp_path / "pip", monkeypatch)
    monkeypatch.setenv("FAKE_PIP_SAYS", "ERROR: No matching distribution found for x")
    monkeypatch.setenv("FAKE_PIP_STATUS", "1")
    with pytest.raises(InstallError) as failure:
        run(["install", "x"], os.environ, tmp_path, tmp_path / "log", Line(io.StringIO()), "installing x")
    assert str(failure.value).splitlines() == [
        "installing x failed:",
        "  ERROR: No matching distribution found for x",
        f"The whole log: {tmp_path / 'log'}",
    ]


_STARTER = """
import os, sys, pathlib
from tools.install.pip_steps import run
from tools.install.progress import Line
folder = pathlib.Path(sys.argv[1])
try:
    run(["wheel"], os.environ, folder, folder / "log", Line(), "building")
except KeyboardInterrupt:
    sys.exit(130)
"""
_SLOW_PIP = """
import pathlib, signal, subprocess, sys, time
# As a compiler that no Ctrl-C reaches.
deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", deaf])
try:
    (pathlib.Path.cwd() / "started.partial").write_text(str(child.pid))
    (pathlib.Path.cwd() / "started.partial").rename("started")
    time.sleep(60)
except KeyboardInterrupt:
    (pathlib.Path.cwd() / "tidied").touch()
"""


def test_broken_off_everything_ends(tmp_path: Path) -> None:
    """pip may take its files away, then its compilers end, even those that do not listen."""
    (tmp_path / "pip.py").write_text(_SLOW_PIP)
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(tmp_path), str(root)])
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, "-c", _STARTER, str(tmp_path)], env=environment, cwd=root) as starter:
        deadline = time.monotonic() + 30
        while not (tmp_path / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        compiler = psutil.Process(int((tmp_path / "started").read_text()))
        starter.send_signal(signal.SIGINT)
        assert starter.wait(30) == 130
    assert (tmp_path / "tidied").exists()
    _, alive = psutil.wait_procs([compiler], timeout=10)
    assert not alive
