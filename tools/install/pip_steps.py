"""Run pip: its output goes to a log; the user sees the progress and, after a failure, the lines that explain it."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.install import progress
from tools.install.errors import InstallError

_ENDING_S = 10.0
_SHOWN = 8
_WIDTH = 240
_CAUSE = re.compile(
    r": (?:fatal )?error: |^\s*CMake Error|undefined reference to|\bnvcc (?:fatal|error)\b|No space left on device"
)
_PIP_ERROR = re.compile(r"\s*ERROR: ")
#: What pip says after every failed build, which the lines above it explain.
_EMPTY_ERROR = re.compile(r"\s*ERROR: Failed (?:building wheel|to build)")
_HINTS = (
    (
        re.compile(r"\"native\", but no GPU was detected"),
        "To compile for a card that is not here, name its architecture: CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=89",
    ),
    (
        re.compile(r"Killed signal|\bKilled\b"),
        "The compiler was killed, probably for want of memory; compile one file at a time: CMAKE_BUILD_PARALLEL_LEVEL=1",
    ),
    (re.compile(r"\bCUDA::cublas\b"), "cuBLAS was not found: install the whole CUDA toolkit, not its compiler alone."),
    (
        re.compile(r"\bRetrying \(Retry\("),
        "The package index could not be reached; docs/install.md says how to install without a network.",
    ),
)


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    line: progress.Line,
    doing: str,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run pip in a folder; each line that it prints goes to the log and to ``on_line``.

    Raises:
        InstallError: pip failed.
        KeyboardInterrupt: the user broke it off; nothing that was started runs any more.
    """
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
    reader = progress.Reader("ik_llama.cpp" if doing.endswith("ik_llama.cpp") else "llama.cpp")
    lines: list[str] = []
    arriving: queue.Queue[str | None] = queue.Queue()
    with log.open("a", encoding="utf-8") as written, subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        # Its own group, so that the compilers that it starts end with it.
        start_new_session=True,
    ) as process:  # fmt: skip
        threading.Thread(target=_pass_on, args=(process, arriving), daemon=True).start()
        written.write(f"$ {' '.join(command)}\n")
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    text = arriving.get(timeout=1)
                    if text is None:
                        break
                    written.write(text)
                    lines.append(text.rstrip("\n"))
                    if on_line is not None:
                        on_line(text)
                    reader.feed(text, time.monotonic())
                line.show(reader.text(time.monotonic()), time.monotonic())
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            line.clear()
    if status:
        raise InstallError("\n".join([f"{doing} failed:", *useful_lines(lines), f"The whole log: {log}"]))


def useful_lines(lines: Sequence[str]) -> list[str]:
    """The lines that say why it failed: the first error of a compiler or of cmake and what follows it, else pip's own."""
    first = next((number for number, text in enumerate(lines) if _CAUSE.search(text)), None)
    if first is not None:
        # cmake says the same once for each thing that it made.
        chosen = list(dict.fromkeys(text for text in lines[first:] if text.strip()))[:_SHOWN]
    else:
        own = [text for text in lines if _PIP_ERROR.match(text) and not _EMPTY_ERROR.match(text)]
        chosen = list(dict.fromkeys(own))[-_SHOWN:] or [text for text in lines if text.strip()][-_SHOWN:]
    hints = [hint for pattern, hint in _HINTS if any(pattern.search(text) for text in lines)]
    return [f"  {text.strip()[:_WIDTH]}" for text in chosen] + hints


def _pass_on(process: subprocess.Popen[str], arriving: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for text in process.stdout:
        arriving.put(text)
    arriving.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    """End pip and all that it started, first as Ctrl-C would, so that it takes its files away."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)
        os.killpg(process.pid, signal.SIGKILL)
