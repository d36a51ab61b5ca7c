"""A line on stderr that says how far a long step is and how long it will still take."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, TextIO

_REDRAW_SECONDS: Final = 0.2
_LINE_SECONDS: Final = 10.0


class ProgressLine:
    """Shows ``label  42%  0:13 left``; redrawn in place on a terminal, a new line every ten seconds elsewhere.

    Use it as a context manager and call it with the amounts done and in all, in any unit.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self.label = label
        self.stream = stream or sys.stderr
        self.start = time.monotonic()
        self.shown = self.start if not self.stream.isatty() else 0.0
        self.open_line = False

    def __call__(self, done: int, total: int) -> None:
        """Redraw if it is time to."""
        now = time.monotonic()
        terminal = self.stream.isatty()
        if now - self.shown < (_REDRAW_SECONDS if terminal else _LINE_SECONDS) or not total:
            return
        self.shown = now
        left = (now - self.start) * (total - done) / done if done else 0.0
        text = f"{self.label}  {100 * done // total}%  {_clock(left)} left"
        self.stream.write(f"\r{text:<60}" if terminal else f"{text}\n")
        self.stream.flush()
        self.open_line = terminal

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self.open_line:
            self.stream.write("\r" + " " * 60 + "\r")
        if kind is None:
            self.stream.write(f"{self.label}  done in {_clock(time.monotonic() - self.start)}\n")
        self.stream.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
