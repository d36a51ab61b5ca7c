"""Stopping what is being evaluated: from any thread, and at a deadline.

llama.cpp asks its abort callback after each node of a graph. A callback in Python would take the interpreter's lock each
time. So the callback is the C library's ``strlen``, called with a pointer to two bytes: while the first of them is 0 it
returns 0, which llama.cpp reads as "go on", and once that byte is set it returns 1.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from archroute_edge.errors import DecisionCancelledError

# Whoever waits for something that no flag can interrupt looks at the flag: soon at first, and never less often than the
# second.
_FIRST_LOOK_S: Final = 0.002
_LOOK_EVERY_S: Final = 0.02
# How long before a deadline its flag is set, and the largest part of the time that this may take: what runs stops only
# when its matrix product is finished.
_LEAD_S: Final = 0.02
_LEAD_SHARE: Final = 0.1


def lead(seconds: float) -> float:
    """How long before a deadline that is ``seconds`` away what runs is told to stop, so that there is an answer by then."""
    return min(_LEAD_S, _LEAD_SHARE * seconds)


def _c_library() -> ctypes.CDLL:
    # msvcrt comes with every Windows; elsewhere the C library is in the process already.
    return ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)


# ``bool (*ggml_abort_callback)(void *)``. ctypes has one type for each signature, so that this is the very type that the
# bindings declare, and an application can have a flag before it has llama.cpp.
_AbortCallback: Final = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)

ABORT_CALLBACK: Final[Any] = ctypes.cast(_c_library().strlen, _AbortCallback)
"""What llama.cpp is given as its abort callback, with :attr:`Cancellation.address` as its data."""


class Cancellation:
    """A flag that stops the evaluation it is given to. Set once, from any thread, and never taken back."""

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)
        self._derived: set[Cancellation] = set()
        self._interruptible: set[Cancellation] = set()
        self.has_deadline = False
        """Whether the flag will be set at a deadline."""
        self._timed_out = False
        self._gives_way = False

    def cancel(self) -> None:
        """Stop what runs with this flag, as soon as it looks: within one matrix product of the model."""
        self._flag[0] = b"\1"
        # The flag first: who joins after the copy was made looks at it.
        for each in tuple(self._derived):
            each.cancel()

    def give_way(self) -> None:
        """Ask what runs in slices to stop after the present one, and what is :meth:`interruptible` to stop at once.

        Unlike :meth:`cancel` it leaves everything else alone.
        """
        self._gives_way = True
        for each in tuple(self._derived):
            each.give_way()
        for each in tuple(self._interruptible):
            each.cancel()

    @property
    def gives_way(self) -> bool:
        """Whether others wait for what runs in slices."""
        return self._gives_way

    @contextmanager
    def interruptible(self) -> Iterator[Cancellation]:
        """A flag that is set with this one, and when this one is asked to give way from now on."""
        with self.derived() as flag:
            self._interruptible.add(flag)
            try:
                yield flag
            finally:
                self._interruptible.discard(flag)

    @property
    def cancelled(self) -> bool:
        """Whether the flag is set, by :meth:`cancel` or at a deadline."""
        return self._flag[0] != b"\0"

    @property
    def timed_out(self) -> bool:
        """Whether it was a deadline that set the flag."""
        return self._timed_out

    @property
    def address(self) -> int:
        """Where the flag is in memory; valid as long as this object lives."""
        return ctypes.addressof(self._flag)

    def check(self) -> None:
        """Go on only where the flag is not set.

        Raises:
            DecisionCancelledError: it is.
        """
        if self.cancelled:
            raise DecisionCancelledError("the decision was cancelled" + (" at its deadline" if self._timed_out else ""))

    def wait_until(self, attempt: Callable[[float], object]) -> None:
        """Repeat ``attempt``, which waits for at most the seconds that it is given, until what it returns is true.

        Raises:
            DecisionCancelledError: the flag was set before.
        """
        self.check()
        seconds = _FIRST_LOOK_S
        while not attempt(seconds):
            self.check()
            seconds = min(2 * seconds, _LOOK_EVERY_S)

    @contextmanager
    def holding(self, lock: threading.Lock) -> Iterator[None]:
        """Hold ``lock`` while the block lasts.

        Raises:
            DecisionCancelledError: the flag was set before it was free.
        """
        self.wait_until(lambda seconds: lock.acquire(timeout=seconds))
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def setting(self, flag: Cancellation) -> Iterator[None]:
        """Set ``flag`` with this one while the block lasts."""
        self._derived.add(flag)
        flag._gives_way |= self._gives_way
        if self.cancelled:
            flag.cancel()
        try:
            yield
        finally:
            self._derived.discard(flag)

    @contextmanager
    def derived(self) -> Iterator[Cancellation]:
        """A flag of its own that is also set with this one; the block is what it is good for."""
        flag = Cancellation()
        with self.setting(flag):
            yield flag

    @contextmanager
    def until(self, seconds: float | None) -> Iterator[Cancellation]:
        """A flag that is set with this one, and ``seconds`` from now; the block is what it is good for.

        It is set a little early (:attr:`timed_out` is true from then on), so that there is an answer by the deadline.
        """
        if seconds is None:
            yield self
            return
        with self.derived() as limited:
            limited.has_deadline = True
            timer = threading.Timer(seconds - lead(seconds), limited.time_out)
            timer.name, timer.daemon = "archroute-deadline", True
            timer.start()
            try:
                yield limited
            finally:
                timer.cancel()
                timer.join()

    def time_out(self) -> None:
        """Set the flag because a deadline has come."""
        self._timed_out = not self.cancelled
        self.cancel()
