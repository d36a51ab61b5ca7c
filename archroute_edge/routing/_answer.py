"""The futures that a scheduler answers with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from archroute_edge.errors import ServiceClosedError
from archroute_edge.routing._queues import let_alarms_go_on
from archroute_edge.system import OwnProcess, in_daemon_thread, program_ends

logger = logging.getLogger(__name__)


class _Condition(threading.Condition):
    """One whose lock a block takes and lets go of without Python's methods, in which Ctrl-C would leave it taken."""

    __enter__ = property(lambda self: self._lock.__enter__)
    __exit__ = property(lambda self: self._lock.__exit__)


class Answer(Future[Any]):
    """A future that has one answer, whoever gives it first, and whose callbacks cannot end the thread that answers.

    It stays pending while it is worked on, so that it can be cancelled at any time. At exit what waits is left as it is: no
    callback runs, and no thread hears of an error. Only a function that was registered with :mod:`atexit`, and still waits for
    an answer, gets one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = _Condition()
        self.answering: int | None = None
        """The thread that is giving the answer, and calls the callbacks."""
        self._process = OwnProcess()
        self._once = threading.Lock()
        self._settled = False

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn`` with the future when it is done, or at once if it is."""
        super().add_done_callback(_Callback(fn))

    def result(self, timeout: float | None = None) -> Any:
        """The answer."""
        self._check_answerable()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error that stands for an answer, or None."""
        self._check_answerable()
        return super().exception(timeout)

    def _check_answerable(self) -> None:
        if self.done():
            return
        let_alarms_go_on()
        self._process.check("service")
        if program_ends() and not in_daemon_thread():
            raise ServiceClosedError("the program ends; nothing more is decided")

    def give(self, make: Callable[[], Any]) -> None:
        """Answer with what ``make`` returns or raises, if an answer is still wanted."""
        if not self._claim():
            return
        self.answering = threading.get_ident()
        try:
            result = make()
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            self.set_exception(exc)
        else:
            self.set_result(result)
        self.answering = None

    def fail(self, error: BaseException) -> None:
        """Answer with an error, if an answer is still wanted."""
        if self._claim():
            self.answering = threading.get_ident()
            self.set_exception(error)
            self.answering = None

    def call_off(self) -> None:
        """Tell those who wait that there will be no answer."""
        self.answering = threading.get_ident()
        self.cancel()
        self.answering = None

    def acknowledge(self) -> None:
        """Let go of a future that was cancelled: those who wait for it are told."""
        self._claim()

    def _claim(self) -> bool:
        with self._once:
            if self._settled:
                return False
            self._settled = True
        return self.set_running_or_notify_cancel()


class _Callback:
    """Calls once, and holds what it called no longer: else a future that is kept would keep its service, router and model."""

    def __init__(self, fn: Callable[[Future[Any]], object]) -> None:
        self._fn: Callable[[Future[Any]], object] | None = fn

    def __call__(self, future: Future[Any]) -> None:
        fn, self._fn = self._fn, None
        assert fn is not None and isinstance(future, Answer)
        try:
            fn(future)
        except Exception:
            # The future notes it.
            raise
        except BaseException:
            if future.answering != threading.get_ident():
                raise
            logger.exception("a callback of a future wanted to end the thread, which is the scheduler's and goes on: %r", fn)
