"""Who evaluates: one at a time, and decisions before what can wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from archroute_edge.engine import Cancellation
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.system import OwnProcess, program_ends, stop_at_the_end


class EvaluationLock:
    """A lock for decisions, and for work that they stop when they come.

    At exit models are freed, and no thread may be in the middle of an evaluation then: whoever holds the lock is stopped, and
    nobody gets it any more.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held = False
        self._n_deciding = 0
        self._stoppable: Cancellation | None = None
        self._holder: Cancellation | None = None
        self._ended = False
        self._process = OwnProcess()
        stop_at_the_end(self)

    @contextmanager
    def decision(self, cancellation: Cancellation, *, stop_others: bool = True) -> Iterator[None]:
        """Hold the lock for a decision. Work that can wait and holds it is stopped, unless ``stop_others`` is False.

        Raises:
            DecisionCancelledError: ``cancellation`` was set while others held it, or the program ends.
            ForkedProcessError: this is another process than the lock's own.
        """
        self._process.check("router")
        with self._condition:
            self._n_deciding += 1
            if self._stoppable is not None and stop_others:
                self._stoppable.cancel()
            try:
                cancellation.wait_until(lambda seconds: self._condition.wait_for(self._is_free, seconds))
                self._take(cancellation)
            finally:
                self._n_deciding -= 1
                self._condition.notify_all()
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def spare_time(self, cancellation: Cancellation) -> Iterator[Cancellation]:
        """Hold the lock when no decision wants it. The flag is set when one comes: the block must then end soon.

        Raises:
            DecisionCancelledError: ``cancellation`` was set before, or the program ends; the flag is set with
                ``cancellation`` as well.
            ForkedProcessError: this is another process than the lock's own.
        """
        self._process.check("router")
        with cancellation.derived() as flag:
            with self._condition:
                cancellation.wait_until(lambda seconds: self._condition.wait_for(self._is_idle, seconds))
                self._take(flag)
                self._stoppable = flag
            try:
                yield flag
            finally:
                self._release()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Hold the lock to close what it guards: once a decision that is under way is over, also where the program ends.

        Raises:
            ForkedProcessError: this is another process than the lock's own.
        """
        self._process.check("router")
        with self._condition:
            self._condition.wait_for(self._is_free)
            self._held = True
        try:
            yield
        finally:
            self._release()

    def stop(self) -> None:
        """Stop whoever holds the lock, and let nobody have it again but for closing."""
        # In a forked process nobody is left who would let go of it.
        if self._process.is_this:
            with self._condition:
                self._ended = True
                if self._holder is not None:
                    self._holder.cancel()

    def wait_for_stop(self) -> None:
        """Wait until nobody holds the lock."""
        if self._process.is_this:
            with self._condition:
                self._condition.wait_for(self._is_free)

    def _take(self, holder: Cancellation) -> None:
        if self._ended or program_ends():
            raise DecisionCancelledError("the program ends; nothing more is decided")
        self._held, self._holder = True, holder

    def _is_free(self) -> bool:
        return not self._held

    def _is_idle(self) -> bool:
        return not self._held and not self._n_deciding

    def _release(self) -> None:
        with self._condition:
            self._held, self._stoppable, self._holder = False, None, None
            self._condition.notify_all()
