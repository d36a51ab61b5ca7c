"""Who evaluates: one at a time, and decisions before what can wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from archroute_edge.engine.cancellation import Cancellation


class EvaluationLock:
    """A lock for decisions, and for work that they stop when they come."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held = False
        self._n_deciding = 0
        self._stoppable: Cancellation | None = None

    @contextmanager
    def decision(self, cancellation: Cancellation, *, stop_others: bool = True) -> Iterator[None]:
        """Hold the lock for a decision. Work that can wait and holds it is stopped, unless ``stop_others`` is False.

        Raises:
            DecisionCancelledError: ``cancellation`` was set while others held it.
        """
        with self._condition:
            self._n_deciding += 1
            if self._stoppable is not None and stop_others:
                self._stoppable.cancel()
            try:
                cancellation.wait_until(lambda seconds: self._condition.wait_for(self._is_free, seconds))
                self._held = True
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
            DecisionCancelledError: ``cancellation`` was set before; the flag is set with it as well.
        """
        with cancellation.derived() as flag:
            with self._condition:
                cancellation.wait_until(lambda seconds: self._condition.wait_for(self._is_idle, seconds))
                self._held, self._stoppable = True, flag
            try:
                yield flag
            finally:
                self._release()

    def _is_free(self) -> bool:
        return not self._held

    def _is_idle(self) -> bool:
        return not self._held and not self._n_deciding

    def _release(self) -> None:
        with self._condition:
            self._held, self._stoppable = False, None
            self._condition.notify_all()
