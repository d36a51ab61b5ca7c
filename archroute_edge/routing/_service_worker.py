"""The thread that owns a router: what it does next, and what it leaves off for that."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from archroute_edge.decision import Decision
from archroute_edge.engine import Cancellation
from archroute_edge.errors import DecisionCancelledError, QueueFullError, ServiceClosedError
from archroute_edge.routing._alarm_clock import AlarmClock
from archroute_edge.routing._fair_queue import FairQueue
from archroute_edge.routing._router import Router
from archroute_edge.routing._service_requests import DecisionRequest, WarmRequest, as_messages, ask_router, with_waiting
from archroute_edge.system import OwnProcess, program_ends

logger = logging.getLogger(__name__)

# Share of the newest decision in the mean that QueueFullError.retry_after goes by, and what it is before there was any.
_NEWEST_SHARE = 0.2
_FIRST_GUESS_S = 1.0


class ServiceWorker:
    """One thread that decides what waits, callers taking turns, and warms when nothing does. Thread-safe.

    The thread holds the worker, and nothing of what it works for: a service that nobody holds is freed, and ends it.

    Args:
        router: closed when the thread ends, and so is every one that took its place.
        queue_limit: requests that may wait.
    """

    def __init__(self, router: Router, queue_limit: int) -> None:
        self.router = router
        self.clock = AlarmClock()
        self.counts: Counter[str] = Counter()
        self._retired: list[Router] = []
        self._limit = queue_limit
        self._queue: FairQueue[DecisionRequest] = FairQueue()
        self._warms: FairQueue[WarmRequest] = FairQueue()
        self._running: list[DecisionRequest] = []
        self._warming: WarmRequest | None = None
        # What stops whatever is done at present.
        self._stop = Cancellation()
        self._mean_s: float | None = None
        self._closing = False
        self._error: BaseException | None = None
        self.process = OwnProcess()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="archroute-worker", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Requests that wait, warm-ups excepted."""
        if not self.process.is_this:
            return 0
        with self._changed:
            return len(self._queue)

    @property
    def n_running(self) -> int:
        """Requests that are being decided."""
        if not self.process.is_this:
            return 0
        with self._changed:
            return len(self._running)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closing or not self.process.is_this

    def count(self, what: str, number: int = 1) -> None:
        """Add to :attr:`counts`."""
        with self._changed:
            self.counts[what] += number

    def is_running(self, request: DecisionRequest) -> bool:
        """Whether ``request`` is being decided."""
        with self._changed:
            return request in self._running

    def put(self, request: DecisionRequest) -> None:
        """Let ``request`` wait for its turn. A warm-up that does not serve it is stopped.

        If there is no room, the newest request of the caller who has most waiting gives way.

        Raises:
            ServiceClosedError: closed, or another process's.
            QueueFullError: too many wait already, and no other caller has more of them.
        """
        self._check_process()
        crowded_out: DecisionRequest | None = None
        with self._changed:
            self._check_open()
            if len(self._queue) >= self._limit:
                self.counts["refused"] += 1
                found = self._queue.newest_of_longest(request.caller)
                if found is None:
                    raise self._queue_is_full()
                crowded_out = found[1]
                self._queue.remove(*found)
            request.router = self.router
            self._queue.put(request.caller, request)
            if self._warming is not None and not self._warming.serves(request):
                self._stop.cancel()
            elif self._running:
                self._stop.give_way()
            self._changed.notify()
            full = self._queue_is_full()
        if crowded_out is not None:
            # Without the lock: whoever waits for it is told in this thread.
            crowded_out.promise.fail(full)

    def _queue_is_full(self) -> QueueFullError:
        retry_after = _FIRST_GUESS_S if self._mean_s is None else max(0.1, self._mean_s * len(self._queue))
        return QueueFullError(f"{self._limit} requests wait already; ask again in {retry_after:.1f} s", retry_after=retry_after)

    def put_warm(self, request: WarmRequest) -> list[WarmRequest]:
        """Let ``request`` wait until nothing else does. Returns what it takes the place of.

        Those are earlier ones of the same caller, and the one that has waited longest if as many wait as requests may.

        Raises:
            ServiceClosedError: closed, or another process's.
        """
        self._check_process()
        with self._changed:
            self._check_open()
            older = self._warms.of(request.caller)
            if not older and len(self._warms) >= self._limit:
                older = [next(iter(self._warms))]
            self._warms.put(request.caller, request)
            self._changed.notify()
            return older

    def forget(self, request: DecisionRequest | WarmRequest) -> None:
        """Nobody waits for ``request`` any more: take it off its queue, or stop what is done for it alone."""
        with self._changed:
            if isinstance(request, WarmRequest):
                self._warms.remove(request.caller, request)
                needed = request is not self._warming
            else:
                self._queue.remove(request.caller, request)
                needed = request not in self._running or not all(each.promise.done for each in self._running)
            if not needed:
                self._stop.cancel()

    def replace(self, router: Router) -> bool:
        """Decide with ``router`` what comes from now on; whether that is another one than before.

        Raises:
            ServiceClosedError: closed, or another process's.
        """
        self._check_process()
        with self._changed:
            self._check_open()
            if router is self.router:
                return False
            self._retired.append(self.router)
            self.router = router
            self._changed.notify()
            return True

    def close(self, *, drain: bool, timeout: float | None) -> None:
        """Take nothing more, and end the thread: once everything is decided, or at once, or after ``timeout`` seconds."""
        self.finish()
        if not drain:
            self._give_up()
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._give_up()
            self._thread.join()

    def finish(self) -> None:
        """Take nothing more, and let the thread end by itself once everything is decided. Waits for nothing."""
        with self._changed:
            self._closing = True
            if self._warming is not None:
                self._stop.cancel()
            self._changed.notify()

    def _give_up(self) -> None:
        with self._changed:
            left = [*self._running, *self._queue]
        for each in left:
            # What runs is stopped through forget(), which the future calls.
            each.promise.fail(ServiceClosedError("the service was closed before the request was finished"))

    def _check_process(self) -> None:
        # Before any lock is taken: whoever held it has stayed in the other process.
        self.process.check("service")

    def _check_open(self) -> None:
        if self._error is not None:
            raise ServiceClosedError(f"the service's thread ended on an error: {self._error!r}; make another service")
        if self._closing:
            raise ServiceClosedError("the service has been closed")
        if program_ends():
            raise ServiceClosedError("the program ends; nothing more is decided")

    def _work(self) -> None:
        try:
            while (do := self._next()) is not None:
                do()
        except BaseException as exc:
            logger.exception("the service is closed, because its thread ends on an error that nobody foresaw")
            self._error = exc
        if program_ends():
            return
        # Where something went wrong here, nobody waits in vain; else there is nothing left.
        self._closing = True
        self._give_up()
        self.clock.stop()
        for router in (*self._retired, self.router):
            router.close()

    def _next(self) -> Callable[[], None] | None:
        """What to do now; None where all is done and more will not come."""
        with self._changed:
            while not program_ends():
                unused = next((each for each in self._retired if all(other.router is not each for other in self._queue)), None)
                if unused is not None:
                    self._retired.remove(unused)
                    return unused.close
                if (first := self._queue.take()) is not None:
                    self._stop = Cancellation()
                    self._running = [first, *self._companions(first)]
                    if len(self._queue):
                        self._stop.give_way()
                    return partial(self._decide, self._running)
                if self._closing:
                    return self._cancel_warms if len(self._warms) else None
                if (warm := self._warms.take()) is not None:
                    self._stop = Cancellation()
                    self._warming = warm
                    return partial(self._warm, warm)
                self._changed.wait()
        return None

    def _companions(self, first: DecisionRequest) -> list[DecisionRequest]:
        """Others that are decided in the same evaluation."""
        found: list[DecisionRequest] = []

        def fits(request: DecisionRequest) -> bool:
            together = sum(each.n_left for each in (first, *found, request))
            return request.goes_with(first) and together <= first.router.batch_size

        while (other := self._queue.take(fits)) is not None:
            found.append(other)
        return found

    def _cancel_warms(self) -> None:
        with self._changed:
            left = list(self._warms)
        for each in left:
            each.promise.cancel()

    def _warm(self, request: WarmRequest) -> None:
        router, error, result = self.router, None, None
        try:
            messages = None if request.turns is None else as_messages(request.turns)
            result = router.warm(messages, routes=request.table, cancellation=self._stop)
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            error = exc
        if program_ends():
            return
        with self._changed:
            self._warming = None
            again = isinstance(error, DecisionCancelledError) and not request.promise.done and not self._closing
            if again:
                # A decision came between. A newer warm-up of the same caller is worth more than going on with this.
                self.counts["preempted"] += 1
                again = not self._warms.of(request.caller)
                if again:
                    self._warms.put_back(request.caller, request)
        if again:
            return
        if isinstance(error, DecisionCancelledError):
            request.promise.cancel()
        elif error is not None:
            logger.debug("a warm-up failed: %s", error)
            request.promise.fail(error)
        else:
            self.count("warmed")
            request.promise.answer(result)

    def _decide(self, batch: list[DecisionRequest]) -> None:
        started = time.monotonic()
        for each in batch:
            each.waited_s = started - each.started if each.waited_s is None else each.waited_s
        # Of a long list no more than is decided at once: other callers have their turn in between.
        sizes = [min(each.n_left, each.router.batch_size) for each in batch]
        decisions: Sequence[Decision] = ()
        error: BaseException | None = None
        try:
            decisions = ask_router(batch, sizes, self._stop)
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            error = exc
        if program_ends():
            return
        if isinstance(error, DecisionCancelledError) and self._stop.gives_way and not self._stop.cancelled:
            self._go_on_later(batch)
            return
        took = (time.monotonic() - started) / sum(sizes)
        self._mean_s = took if self._mean_s is None else _NEWEST_SHARE * took + (1 - _NEWEST_SHARE) * self._mean_s
        for request, size in zip(batch, sizes if error is None else (), strict=False):
            own, decisions = decisions[:size], decisions[size:]
            request.decisions += [with_waiting(decision, request.waited_s or 0.0) for decision in own]
        with self._changed:
            self._running = []
            unfinished = [request for request in batch if error is None and request.n_left]
            # At once: whoever calls a request off, or closes the service, finds it here or there.
            for request in unfinished:
                if not request.promise.done:
                    self._queue.put_back(request.caller, request)
        for request in batch:
            if error is not None:
                request.promise.fail(error)
            elif request not in unfinished:
                request.promise.answer(request.decisions if request.many else request.decisions[0])

    def _go_on_later(self, batch: Sequence[DecisionRequest]) -> None:
        """Let others have their turn before the rest of a large route table is evaluated."""
        with self._changed:
            self._running = []
            for request in batch:
                # All of it is waiting for the request's own answer, which begins anew.
                request.waited_s = None
                if not request.promise.done:
                    self._queue.put_back(request.caller, request)
