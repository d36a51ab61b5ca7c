"""Run the commands of a page, in a folder of its own, as a reader with a fresh installation would."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tools.docs.pages import Block

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = frozenset({"archroute", "cat", "curl", "echo", "python"})
"""What may be run; everything else installs, downloads or takes long, and is marked."""

_PORT: Final = "8642"
_LONGEST_S: Final = 60
_FORGOTTEN: Final = re.compile(r"ARCHROUTE_|HF_|XDG_|LLAMA_|GGML_|.*_proxy$|.*_API_KEY$", re.IGNORECASE)


class NotRunnable(Exception):  # noqa: N818
    """A command that is not run here."""


@dataclass(frozen=True)
class Command:
    """A command as a block shows it, with the output below it."""

    text: str
    shown: str
    n_lines: int
    """Lines that the command itself takes in the block."""


def commands(lines: Sequence[str]) -> Iterator[Command]:
    """The commands of a console block: ``$`` begins one, a backslash at the end of a line goes on with it."""
    rest = list(lines)
    while rest:
        if not rest[0].startswith("$ "):
            raise NotRunnable(f"expected a command behind '$ ', not {rest[0]!r}")
        n_lines = 1
        while rest[n_lines - 1].endswith("\\"):
            n_lines += 1
        end = next((index for index, line in enumerate(rest) if index >= n_lines and line.startswith("$ ")), len(rest))
        text = "\n".join(rest[:n_lines]).removeprefix("$ ")
        yield Command(text, "".join(f"{line}\n" for line in rest[n_lines:end]), n_lines)
        rest = rest[end:]


class Shell:
    """Runs commands in ``folder``; a server that one of them starts runs until the next one or the end.

    A server gets a free port in place of the usual one, and the commands after it are pointed there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[str] | None = None
        self._port = _PORT
        home = str(folder / ".home")
        kept = {name: value for name, value in os.environ.items() if not _FORGOTTEN.match(name)}
        self.environment = {
            **kept,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
            # Without the user's models and settings, and without a network.
            "HOME": home,
            "USERPROFILE": home,
            "HF_HUB_OFFLINE": "1",
            "ARCHROUTE_CACHE_DIR": str(folder / ".cache"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
            "COLUMNS": "80",
            "NO_COLOR": "1",
        }

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._stop_server()

    def run(self, text: str) -> str:
        """The output of a command, stderr included, in order.

        Raises:
            NotRunnable: it is not one that is run here, or does not end.
        """
        try:
            words = shlex.split(text, comments=True)
        except ValueError as exc:
            raise NotRunnable(f"{text}: {exc}") from exc
        if not words or words[0] not in PROGRAMS:
            raise NotRunnable(f"{text}: not one of {', '.join(sorted(PROGRAMS))}")
        if words[:2] == ["archroute", "serve"] and "--stdio" not in words:
            return self._serve(words)
        text = text.replace(f"localhost:{_PORT}", f"localhost:{self._port}")
        try:
            done = subprocess.run(["bash", "-c", text], timeout=_LONGEST_S, **self._settings())
        except subprocess.TimeoutExpired:
            raise NotRunnable(f"{text}: still running after {_LONGEST_S} s") from None
        printed: str = done.stdout
        return printed.replace(f"{self._folder}/", "").replace(f"{ROOT}/", "")

    def run_python(self, page: str, blocks: Sequence[Block]) -> str | None:
        """Run the blocks of a page as one program; what went wrong, or None."""
        if not blocks:
            return None
        runner = Path(__file__).with_name("run_blocks.py")
        # As far down as in the page, so that a traceback has the page's lines.
        code = ["\n" * block.line + block.text for block in blocks]
        try:
            done = subprocess.run([sys.executable, str(runner), page, *code], timeout=_LONGEST_S, **self._settings())
        except subprocess.TimeoutExpired:
            return f"still running after {_LONGEST_S} s"
        return done.stdout if done.returncode else None

    def _settings(self) -> dict[str, Any]:
        return {
            "cwd": self._folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "encoding": "utf-8",
            "check": False,
        }

    def _serve(self, words: Sequence[str]) -> str:
        self._stop_server()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        settings = {name: value for name, value in self._settings().items() if name != "check"}
        self._server = subprocess.Popen([*words, "--port", self._port], **settings)
        assert self._server.stdout is not None
        said = []
        for line in self._server.stdout:
            said.append(line)
            if line.startswith("listening on "):
                break
        return "".join(said).replace(f":{self._port}", f":{_PORT}")

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.communicate(timeout=_LONGEST_S)
            self._server = None
