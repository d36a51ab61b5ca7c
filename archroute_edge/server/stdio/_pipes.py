"""Lines in and lines out over pipes, with bounds on what is held in memory."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

_BLOCK: Final = 1 << 16
_ROOM: Final = 1 << 20
_LOOK_EVERY_S: Final = 0.5


def read_lines(descriptor: int, limit: int) -> Iterator[bytes | None]:
    """The lines that come over a pipe until it ends, a last one without a line end among them.

    Args:
        descriptor: the pipe.
        limit: bytes that a line may have. In the place of a longer one None is given, and no more than that is ever held.
    """
    line = bytearray()
    is_too_long = False
    while block := _read(descriptor):
        *ended, rest = block.split(b"\n")
        for part in ended:
            line += part
            yield None if is_too_long or len(line) > limit else bytes(line)
            line.clear()
            is_too_long = False
        line += rest
        if len(line) > limit:
            is_too_long = True
            line.clear()
    if line or is_too_long:
        yield None if is_too_long else bytes(line)


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _BLOCK)
        except BlockingIOError:
            # Some hosts give their child the non-blocking pipes that they use themselves.
            _wait(descriptor, to_write=False)
        except OSError:
            # On Windows a pipe whose other end is gone is an error, and not an end.
            return b""


def _write(descriptor: int, block: memoryview) -> int:
    while True:
        try:
            return os.write(descriptor, block)
        except BlockingIOError:
            _wait(descriptor, to_write=True)


def _wait(descriptor: int, *, to_write: bool) -> None:
    """Until a pipe that does not block can be read or written."""
    if sys.platform == "win32":
        time.sleep(0.01)
        return
    # Unlike `select`, also for descriptors beyond the first 1,024.
    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT if to_write else select.POLLIN)
    waiting.poll()


class LineWriter:
    """Writes lines to a pipe in a thread of its own, in the order in which they came.

    Args:
        descriptor: the pipe.
        on_broken: called once, from the thread, when nobody can read the pipe any more.
    """

    def __init__(self, descriptor: int, on_broken: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_broken = on_broken
        self._lines: deque[bytes] = deque()
        self._n_bytes = 0
        self._n_written = 0
        self._closed = False
        self.broken = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="archroute-replies", daemon=True)
        self._thread.start()

    def send(self, line: bytes) -> None:
        """Have ``line`` written. Never waits, so the thread that decides is not held up by a slow reader."""
        with self._changed:
            if not self.broken:
                self._lines.append(line)
                self._n_bytes += len(line)
                self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Wait until little is left to write, or nobody reads: what bounds the replies to requests that keep coming."""
        with self._changed:
            self._changed.wait_for(lambda: self._n_bytes <= _ROOM or self.broken)

    def close(self, patience: float, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Write what is left; whether all of it was written.

        Args:
            patience: seconds in which nothing was read after which no more is waited for.
            is_over: asked now and then; true ends the waiting at once.
        """
        look_every = min(_LOOK_EVERY_S, patience)
        waited = 0.0
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._n_bytes and not self.broken:
                before = self._n_written
                changed = self._changed.wait_for(lambda before=before: self._n_written != before or self.broken, look_every)  # type: ignore[misc]
                waited = 0.0 if changed else waited + look_every
                if waited >= patience or is_over():
                    break
            return not self._n_bytes

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                line = memoryview(self._lines.popleft())
            try:
                while line:
                    # In blocks, so that a reader who is slow can be told from one who has stopped.
                    written = _write(self._descriptor, line[:_BLOCK])
                    line = line[written:]
                    with self._changed:
                        self._n_written += written
                        self._n_bytes -= written
                        self._changed.notify_all()
            except OSError:
                with self._changed:
                    self.broken = True
                    self._lines.clear()
                    self._n_bytes = 0
                    self._changed.notify_all()
                self._on_broken()
                return
