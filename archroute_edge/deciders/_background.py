"""Work that goes on where whoever needs it may not wait for its end: opening a model, evaluating a static prefix.

Thrown away at every deadline, such work would never be finished by decisions with deadlines shorter than it takes. So it
has a thread of its own: a decision waits for it until its own time is up, and the next one finds it done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait

from archroute_edge.engine import Cancellation
from archroute_edge.errors import EngineError
from archroute_edge.system import OwnProcess, stop_at_the_end


class BackgroundWork:
    """One piece of work at a time, each in a thread that lasts as long as it. A program that ends stops it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = Cancellation()
        self._key: Hashable = None
        self._thread: threading.Thread | None = None
        self._done: Future[None] = Future()
        self._process = OwnProcess()
        stop_at_the_end(self)

    def finish(self, key: Hashable, work: Callable[[Cancellation], object], cancellation: Cancellation) -> None:
        """Do ``work``, or join whoever does it already; returns when it is done.

        Args:
            key: what tells it from other work.
            work: gets a flag that is set by :meth:`close`.
            cancellation: ends the waiting, not the work.

        Raises:
            DecisionCancelledError: ``cancellation`` was set before it was done.
            EngineError: closed.
            ForkedProcessError: this is another process than the one that it was made in.
            ArchRouteError: what ``work`` raised.
        """
        self._process.check("router")
        while True:
            with self._lock:
                if self._closing.cancelled:
                    raise EngineError("the router has been closed")
                if self._thread is None:
                    self._begin(key, work)
                is_ours, done = self._key == key, self._done
            cancellation.wait_until(lambda seconds, done=done: wait([done], seconds).done)  # type: ignore[misc]
            if is_ours:
                done.result()
                return

    def _begin(self, key: Hashable, work: Callable[[Cancellation], object]) -> None:
        done: Future[None] = Future()
        # The interpreter would wait for other than daemon threads to end by themselves before it stops anything.
        thread = threading.Thread(target=self._run, args=(work, done), name="archroute-background", daemon=True)
        thread.start()
        self._key, self._done, self._thread = key, done, thread

    def is_at(self, key: Hashable) -> bool:
        """Whether the work called ``key`` is being done."""
        if not self._process.is_this:
            return False
        with self._lock:
            return self._thread is not None and self._key == key

    def _run(self, work: Callable[[Cancellation], object], done: Future[None]) -> None:
        error: BaseException | None = None
        try:
            work(self._closing)
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            error = EngineError("the router has been closed") if self._closing.cancelled else exc
        with self._lock:
            self._thread = None
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def close(self) -> None:
        """Stop the work that is being done, and do no more."""
        self.stop()
        self.wait_for_stop()

    def stop(self) -> None:
        """Tell the work that is being done to stop. No more is done."""
        self._closing.cancel()

    def wait_for_stop(self) -> None:
        """Wait for the end of the work that was told to stop."""
        # In a forked process there is none.
        if not self._process.is_this:
            return
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
