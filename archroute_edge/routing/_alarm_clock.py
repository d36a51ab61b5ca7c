"""Calls at given times, in a thread of their own."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class AlarmClock:
    """Calls back at given times, one call after another. The thread is started by the first alarm."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, when: float, call: Callable[[], None]) -> int:
        """Call ``call``, which must not raise, when :func:`time.monotonic` is ``when``; the number is for :meth:`turn_off`."""
        with self._condition:
            number = next(self._numbers)
            heapq.heappush(self._alarms, (when, number, call))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="archroute-alarms", daemon=True)
                self._thread.start()
            self._condition.notify()
        return number

    def turn_off(self, number: int) -> None:
        """Make no such call, unless it has been made."""
        with self._condition:
            self._alarms = [each for each in self._alarms if each[1] != number]
            heapq.heapify(self._alarms)

    def close(self) -> None:
        """Make no more calls, and end the thread."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def stop(self) -> None:
        """Make no more calls, and let the thread end by itself."""
        with self._condition:
            self._closed = True
            self._alarms.clear()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (not self._alarms or self._alarms[0][0] > time.monotonic()):
                    self._condition.wait(self._alarms[0][0] - time.monotonic() if self._alarms else None)
                if self._closed:
                    return
                _, _, call = heapq.heappop(self._alarms)
            call()
