"""The progress of an installation, read from the output of pip and the build, shown on stderr."""

from __future__ import annotations

import re
import shutil
import sys
import time
from typing import TextIO

_EVERY_S = 15.0
_REDRAW_S = 0.2
#: Before this the rate says little.
_FIRST_ESTIMATE_S = 15.0
_NINJA = re.compile(r"\s*\[(\d+)/(\d+)\] ")
_MAKE = re.compile(r"\s*\[ *(\d+)%\] ")
_STEPS = (
    (re.compile(r"\s*Downloading .*\((.*)\)"), "fetching {0}"),
    (re.compile(r"\s*(?:Collecting|Requirement already satisfied:) ([\w.-]+)"), "looking for {0}"),
    (re.compile(r"\s*Installing build dependencies: started"), "fetching what builds it"),
    (re.compile(r"\s*\*\*\* Configuring CMake"), "preparing to compile llama.cpp"),
    (re.compile(r"\s*Installing collected packages"), "installing"),
)


class Reader:
    """Follows the lines of pip's output.

    Args:
        library: what is compiled, if anything is.
    """

    def __init__(self, library: str = "llama.cpp") -> None:
        self._library = library
        self._text = ""
        self._done = self._total = 0
        self._begun = 0.0
        self._unit = ""

    def feed(self, line: str, now: float) -> None:
        """Take the next line."""
        counted = _NINJA.match(line)
        percent = _MAKE.match(line)
        if counted or percent:
            done, total = (int(counted[1]), int(counted[2])) if counted else (int(percent[1]), 100) if percent else (0, 0)
            if not self._total:
                self._begun = now
            # A part that is built by a program of its own, such as Vulkan's shaders, counts by itself; the whole has more.
            if total >= self._total:
                self._done, self._total = done, total
                self._unit = "of {total} files" if counted else "%"
            return
        for pattern, text in _STEPS:
            found = pattern.match(line)
            if found:
                self._text = text.format(*found.groups())

    def text(self, now: float) -> str:
        """What to show; empty if there is nothing to say yet."""
        if not self._total:
            return self._text
        so_far = f"compiling {self._library}: {self._done} {self._unit.format(total=self._total)}"
        if self._done == self._total:
            return f"{so_far}, nearly ready"
        elapsed = now - self._begun
        if elapsed < _FIRST_ESTIMATE_S or not self._done:
            return so_far
        minutes = round(elapsed * (self._total - self._done) / self._done / 60)
        return f"{so_far}, {f'about {minutes} min' if minutes else 'less than a minute'} left"


class Line:
    """One line on stderr: drawn anew in place on a terminal, a new line now and then elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._in_place = self._stream.isatty()
        self._shown = time.monotonic()
        self._is_open = False

    def show(self, text: str, now: float) -> None:
        """Show the text if it is time to."""
        if not text or now - self._shown < (_REDRAW_S if self._in_place else _EVERY_S):
            return
        self._shown = now
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
        self._is_open = self._in_place

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._is_open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._is_open = False
