"""How far the build is, read from what ninja, make and pip print."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from tools.install.progress import Line, Reader


def test_the_second_engine_is_named() -> None:
    reader = Reader("ik_llama.cpp")
    reader.feed("  [3/45] /usr/bin/cc -c ggml.c", 0.0)
    assert reader.text(0.0) == "compiling ik_llama.cpp: 3 of 45 files"


def shown(lines: Iterable[str], begun: float = 0.0, now: float = 0.0) -> str:
    """The text after these lines."""
    reader = Reader()
    for line in lines:
        reader.feed(f"{line}\n", begun)
    return reader.text(now)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("  Downloading llama_cpp_python-0.3.36.tar.gz (76.6 MB)", "fetching 76.6 MB"),
        ("Collecting numpy>=1.26 (from archroute-edge==1.0)", "looking for numpy"),
        ("  Installing build dependencies: started", "fetching what builds it"),
        ("  *** Configuring CMake...", "preparing to compile llama.cpp"),
        ("Installing collected packages: numpy", "installing"),
        ("  [3/83] /usr/bin/cc -c ggml.c", "compiling llama.cpp: 3 of 83 files"),
        ("[  7%] Building C object ggml.c.o", "compiling llama.cpp: 7 %"),
        ("[83/83] Creating library symlink", "compiling llama.cpp: 83 of 83 files, nearly ready"),
        ("  [notice] a new release of pip", ""),
        ("-- Detecting C compiler ABI info [1/2]", ""),
    ],
)
def test_what_a_line_says(line: str, text: str) -> None:
    assert shown([line]) == text


def test_steps_follow_one_another() -> None:
    lines = ["Collecting llama-cpp-python==0.3.36", "  *** Configuring CMake...", "[1/83] cc", "a warning", "[2/83] cc"]
    assert shown(lines[:2]) == "preparing to compile llama.cpp"
    assert shown(lines) == "compiling llama.cpp: 2 of 83 files"


@pytest.mark.parametrize(
    ("elapsed", "done", "text"),
    [
        (5.0, 10, "compiling llama.cpp: 10 of 80 files"),
        (60.0, 20, "compiling llama.cpp: 20 of 80 files, about 3 min left"),
        (60.0, 40, "compiling llama.cpp: 40 of 80 files, about 1 min left"),
        (60.0, 65, "compiling llama.cpp: 65 of 80 files, less than a minute left"),
        (60.0, 79, "compiling llama.cpp: 79 of 80 files, less than a minute left"),
        (60.0, 0, "compiling llama.cpp: 0 of 80 files"),
    ],
)
def test_time_left(elapsed: float, done: int, text: str) -> None:
    assert shown([f"[{done}/80] cc"], begun=100.0, now=100.0 + elapsed) == text


def test_a_part_that_counts_by_itself_is_not_the_whole() -> None:
    """Vulkan's shader compiler is built by a ninja of its own."""
    lines = ["[10/300] cc a.c", "[1/2] c++ vulkan-shaders-gen.cpp", "[2/2] Linking"]
    assert shown(lines) == "compiling llama.cpp: 10 of 300 files"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_every_fifteen_seconds_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("tools.install.progress.time.monotonic", lambda: 100.0)
    line = Line(stream)
    for second in range(40):
        line.show(f"second {second}", 100.0 + second)
    line.say("done")
    assert stream.getvalue() == "second 15\nsecond 30\ndone\n"


def test_one_line_is_redrawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr("tools.install.progress.time.monotonic", lambda: 100.0)
    monkeypatch.setenv("COLUMNS", "20")
    line = Line(stream)
    line.show("", 101.0)
    line.show("compiling llama.cpp: 1 of 83 files", 102.0)
    line.show("too soon", 102.1)
    line.show("two", 103.0)
    line.say("done")
    line.clear()
    assert stream.getvalue() == "\r\x1b[Kcompiling llama.cpp\r\x1b[Ktwo\r\x1b[Kdone\n"
