"""A line on stderr that says how far a long step is and how long it will still take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, TextIO

_REDRAW_S: Final = 0.2
_LINE_S: Final = 10.0
_WIDTH: Final = 78


class ProgressLine:
    """Shows ``step  42%  0:13 left``: redrawn in place on a terminal, a new line every ten seconds elsewhere.

    Use it as a context manager and call it with the step, and with the amounts done and in all, in any unit; or, where
    it should say at the end how long a step took, call what :meth:`step` gives.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._step = ""
        self._begun = self._shown = 0.0
        self._first = 0
        self._is_open = False

    def __call__(self, step: str, done: int, total: int) -> None:
        """Redraw if it is time to."""
        now = time.monotonic()
        if step != self._step:
            # Work from before the step, such as part of a file fetched earlier, took no time now.
            self._begin(step, now, done)
        if now - self._shown < (_REDRAW_S if self._stream.isatty() else _LINE_S) or not total:
            return
        self._shown = now
        moved = done - self._first
        left = f"{_clock((now - self._begun) * (total - done) / moved)} left" if moved > 0 else ""
        text = f"{step}  {100 * done // total}%  {left}".rstrip()
        self._stream.write(f"\r{text[:_WIDTH]:<{_WIDTH}}" if self._stream.isatty() else f"{text}\n")
        self._stream.flush()
        self._is_open = self._stream.isatty()

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show one step that begins now, through a function of the amounts done and in all; at its end, how long it took."""
        begun = time.monotonic()
        self._begin(name, begun, 0)
        yield lambda done, total: self(name, done, total)
        self.clear()
        self._stream.write(f"{name}  done in {_clock(time.monotonic() - begun)}\n")
        self._stream.flush()

    def _begin(self, step: str, now: float, done: int) -> None:
        self.clear()
        self._step, self._begun, self._first = step, now, done
        self._shown = 0.0 if self._stream.isatty() else now

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._is_open:
            self._stream.write("\r" + " " * _WIDTH + "\r")
            self._stream.flush()
        self._is_open = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
