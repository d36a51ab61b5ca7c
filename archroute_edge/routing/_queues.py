"""What a scheduler waits with: a queue whose callers take turns, an alarm clock, and the threads that use a decider."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from archroute_edge.errors import DecisionCancelledError
from archroute_edge.system import program_ends

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """One lane a caller, first in first out; lanes are served in turn. Not thread-safe."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, deque[Item]] = OrderedDict()

    def put(self, caller: Hashable, item: Item) -> None:
        """Let ``item`` wait behind everything else of ``caller``."""
        if (lane := self._lanes.get(caller)) is not None:
            lane.append(item)
        else:
            # At once: Ctrl-C would leave an empty lane.
            self._lanes[caller] = deque([item])

    def put_back(self, caller: Hashable, item: Item) -> None:
        """Let ``item`` wait before everything else of ``caller``, whose turn it is after all others."""
        if (lane := self._lanes.get(caller)) is not None:
            lane.appendleft(item)
            self._lanes.move_to_end(caller)
        else:
            self._lanes[caller] = deque([item])

    def take(self, wanted: Callable[[Item], bool] = lambda _item: True) -> Item | None:
        """The first item of the caller whose turn it is, of those whose first item is ``wanted``; None if there is none."""
        for caller, lane in self._lanes.items():
            if wanted(lane[0]):
                item = lane.popleft()
                if lane:
                    self._lanes.move_to_end(caller)
                else:
                    del self._lanes[caller]
                return item
        return None

    def remove(self, caller: Hashable, item: Item) -> bool:
        """Take ``item`` out; whether it was there."""
        lane = self._lanes.get(caller, deque())
        if item not in lane:
            return False
        if len(lane) > 1:
            lane.remove(item)
        else:
            del self._lanes[caller]
        return True

    @property
    def callers(self) -> set[Hashable]:
        """Those for whom something waits."""
        return set(self._lanes)

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Any:
        return (item for lane in self._lanes.values() for item in lane)


_here: Final = threading.local()


class AlarmClock:
    """Calls at given times, one call after another, in a thread of its own that the first alarm starts.

    A call that waits lets another thread take over (:func:`let_alarms_go_on`).
    """

    def __init__(self) -> None:
        # Taken itself, as the condition's methods are Python's, in which Ctrl-C would leave it taken.
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._alarms: list[tuple[float, int, object, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._is_closed = False
        self.thread: threading.Thread | None = None

    def ring(self, seconds: float, key: object, call: Callable[[], object]) -> None:
        """Call ``call``, which must not raise, so many seconds from now, unless ``key`` is turned off."""
        with self._lock:
            heapq.heappush(self._alarms, (time.monotonic() + seconds, next(self._numbers), key, call))
            if (self.thread is None or self.thread.ident is None) and not self._is_closed:
                self._start()
            self._condition.notify()

    def _start(self) -> None:
        self.thread = threading.Thread(target=self._run, name="archroute-deadlines", daemon=True)
        self.thread.start()

    def let_go_on(self) -> None:
        """Let another thread make the next calls, if this one is in a call."""
        with self._lock:
            if self.thread is threading.current_thread() and not self._is_closed:
                try:
                    self._start()
                except RuntimeError:
                    # There are too many threads.
                    self.thread = threading.current_thread()

    def turn_off(self, key: object) -> None:
        """Make no call of ``key`` any more."""
        with self._lock:
            self._alarms = [each for each in self._alarms if each[2] is not key]
            heapq.heapify(self._alarms)

    def close(self) -> None:
        """Make no more calls, and let the thread end."""
        with self._lock:
            self._is_closed = True
            self._condition.notify()

    def _run(self) -> None:
        _here.clock = self
        while True:
            with self._lock:
                if self.thread is not threading.current_thread():
                    return
                while not self._is_closed and (not self._alarms or self._alarms[0][0] > time.monotonic()):
                    self._condition.wait(self._alarms[0][0] - time.monotonic() if self._alarms else None)
                if self._is_closed:
                    return
                call = heapq.heappop(self._alarms)[3]
            call()
            del call


def let_alarms_go_on() -> None:
    """Before a wait, perhaps in a callback of a future: if this is an alarm clock's thread, its other alarms do not wait."""
    clock: AlarmClock | None = getattr(_here, "clock", None)
    if clock is not None:
        clock.let_go_on()


class OwnThreads:
    """The threads that a scheduler has started. Changed with its lock held."""

    def __init__(self) -> None:
        self._threads: dict[str, threading.Thread] = {}
        self._n_apart = 0

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Start a thread, unless the one of this name was."""
        # One that was not started, for Ctrl-C or too many threads, is made again.
        if name not in self._threads or self._threads[name].ident is None:
            # The interpreter would wait for other than daemon threads to end by themselves before it stops anything.
            thread = self._threads[name] = threading.Thread(target=run, name=f"archroute-{name}", daemon=True)
            thread.start()

    def start_apart(self, run: Callable[[], None]) -> None:
        """Start a thread of its own."""
        self._n_apart += 1
        # Of those that have ended the end of the scheduler need not know.
        self._threads = {name: each for name, each in self._threads.items() if name == "owner" or each.is_alive()}
        self.start(f"apart-{self._n_apart}", run)

    def get(self, name: str) -> threading.Thread | None:
        """The thread of this name."""
        return self._threads.get(name)

    def __iter__(self) -> Iterator[threading.Thread]:
        return iter(list(self._threads.values()))


class Evaluators:
    """The threads that use a decider, whose end the end of the program waits for.

    Args:
        lock: the scheduler's.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._threads: set[int] = set()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Use the decider in the block.

        Raises:
            DecisionCancelledError: the program ends.
        """
        try:
            with self._lock:
                if program_ends():
                    raise DecisionCancelledError("the program ends; nothing more is decided")
                self._threads.add(threading.get_ident())
            yield
        finally:
            with self._lock:
                self._threads.discard(threading.get_ident())
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until no other thread uses the decider. This one evaluates nothing while it waits."""
        with self._lock:
            self._changed.wait_for(lambda: self._threads <= {threading.get_ident()})
