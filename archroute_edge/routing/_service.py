"""A router behind a bounded queue: what servers and desktop apps put between themselves and it."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from archroute_edge.conversation import Messages, Turn, read_messages
from archroute_edge.decision import Decision, Warmup
from archroute_edge.errors import ConversationError, EngineError, SettingsError
from archroute_edge.routes import Route, RouteTable, as_table
from archroute_edge.routing._router import Router
from archroute_edge.routing._service_requests import DecisionRequest, WarmRequest, as_messages, with_waiting
from archroute_edge.routing._service_worker import ServiceWorker
from archroute_edge.routing._setting_limits import check_deadline
from archroute_edge.system import program_ends, quiet_at_the_end

# How long after its deadline a request may still wait for an encoder's answer.
_STAND_IN_S = 0.025


@dataclass(frozen=True)
class ServiceStats:
    """What a service is doing, and has done since it was made."""

    waiting: int
    """Requests in the queue, warm-ups excepted."""
    running: int
    """Requests being decided now; more than one where an encoder takes several together."""
    decided: int
    """Decisions given, those at their deadline included."""
    deadlines: int
    """Decisions given at their deadline, without the answer that there was no time for."""
    cancelled: int
    """Requests that were cancelled before they had an answer."""
    refused: int
    """Requests that found the queue full."""
    warmed: int
    """Warm-ups that were finished."""
    preempted: int
    """How often a warm-up was stopped by a decision; it goes on when there is time."""
    evictions: int
    """Conversations and prefixes that have given way to others in the KV cache of the present model."""


class RoutingService:
    """One worker thread that owns a router; everybody else talks to it through a bounded queue. Thread-safe.

    The router's routes are warmed at once, and again when another router takes its place. A service that is dropped without
    :meth:`close` finishes what waits and ends as after it, with a ResourceWarning.

    Args:
        router: taken over: closing the service closes it.
        queue_limit: requests that may wait.

    Raises:
        SettingsError: ``queue_limit`` is below 1.
    """

    def __init__(self, router: Router, *, queue_limit: int = 64) -> None:
        if isinstance(queue_limit, bool) or queue_limit < 1:
            raise SettingsError(f"queue_limit is {queue_limit!r}; it must be at least 1")
        self._worker = ServiceWorker(router, queue_limit)
        self._dropped = weakref.finalize(self, _finish_dropped, self._worker)
        # At exit whatever evaluates is stopped anyway.
        self._dropped.atexit = False
        self.warm()

    @property
    def router(self) -> Router:
        """The router that new requests go to."""
        return self._worker.router

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more requests: it was closed, or its thread ended on an error that nobody foresaw."""
        return self._worker.is_closed

    @quiet_at_the_end()
    def submit(
        self,
        messages: Messages,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        key: str | None = None,
        deadline: float | None = None,
        caller: str | None = None,
    ) -> Future[Decision]:
        """Ask for a decision. Cancelling the future takes it off the queue, or stops its evaluation.

        Args:
            messages: as for :meth:`archroute_edge.Router.route`, and so ``routes``, ``scores`` and ``key``.
            routes: other routes than the router's own.
            scores: also give the probability of every route.
            key: names the conversation.
            deadline: seconds from now by which the future has an answer, if need be with ``reason == "deadline"``.
            caller: who asks; callers take turns.

        Raises:
            QueueFullError: too many requests wait already.
            ServiceClosedError: the service has been closed.
            SettingsError: ``deadline`` is no time.
            ConversationError: ``messages`` are malformed.
            RouteTableError: ``routes`` cannot be used together.
        """
        check_deadline(deadline)
        started = time.monotonic()
        table = None if routes is None else as_table(routes)
        turns = read_messages(messages)
        return self._submit(DecisionRequest([turns], table, scores, [key], caller, deadline, started=started))

    @quiet_at_the_end()
    def submit_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | None] | None = None,
        caller: str | None = None,
    ) -> Future[list[Decision]]:
        """Ask for the decisions on several conversations, as one request; other callers have their turn in between.

        Raises:
            SettingsError: not as many keys as conversations.
            ConversationError: one of them is malformed; the message says which, counted from 0.
            ArchRouteError: as :meth:`submit`.
        """
        if keys is not None and len(keys) != len(conversations):
            raise SettingsError(f"there are {len(keys)} keys for {len(conversations)} conversations; give one for each")
        table = None if routes is None else as_table(routes)
        read = [_read_one_of_many(messages, index) for index, messages in enumerate(conversations)]
        names = [None] * len(read) if keys is None else list(keys)
        request = DecisionRequest(read, table, scores, names, caller, many=True)
        if not read:
            request.promise.answer([])
            return request.promise.future
        return self._submit(request)

    def _submit(self, request: DecisionRequest) -> Future[Any]:
        request.promise.before_answer = partial(_count, self._worker)
        self._worker.put(request)
        request.promise.future.add_done_callback(partial(_on_done, self._worker, request))
        if request.stands_in_at is not None and not request.promise.done:
            request.alarm = self._worker.clock.at(request.stands_in_at, partial(_on_deadline, self._worker, request))
        return request.promise.future

    @quiet_at_the_end()
    def warm(
        self,
        messages: Messages | None = None,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        caller: str | None = None,
    ) -> Future[Warmup]:
        """Evaluate ahead of time, as :meth:`archroute_edge.Router.warm` does, when nothing else is to be done.

        A decision stops it, unless it needs just this; it goes on afterwards. One that waits gives way to a newer one of
        the same caller: its future is cancelled.

        Raises:
            ServiceClosedError: the service has been closed.
            ArchRouteError: as :meth:`submit`.
        """
        turns = None if messages is None else read_messages(messages) or None
        request = WarmRequest(turns, None if routes is None else as_table(routes), caller)
        older = self._worker.put_warm(request)
        request.promise.future.add_done_callback(partial(_on_done, self._worker, request))
        for each in older:
            each.promise.future.cancel()
        return request.promise.future

    @quiet_at_the_end()
    def replace(self, router: Router) -> None:
        """Send new requests to ``router``; those that wait finish on the old one, which is then closed.

        Raises:
            ServiceClosedError: the service has been closed.
        """
        if self._worker.replace(router):
            self.warm()

    def stats(self) -> ServiceStats:
        """What the service is doing, and has done."""
        worker, counts = self._worker, self._worker.counts
        try:
            evictions = worker.router.n_evictions
        except EngineError:
            evictions = 0
        return ServiceStats(
            waiting=worker.n_waiting,
            running=worker.n_running,
            decided=counts["decided"],
            deadlines=counts["deadlines"],
            cancelled=counts["cancelled"],
            refused=counts["refused"],
            warmed=counts["warmed"],
            preempted=counts["preempted"],
            evictions=evictions,
        )

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more requests, end the threads, and close the router. In a forked process there is nothing to close.

        Args:
            drain: finish what waits; else that, and what is being decided, gets ServiceClosedError.
            timeout: seconds after which no more is finished.
        """
        self._dropped.detach()
        if not self._worker.process.is_this:
            return
        self._worker.close(drain=drain, timeout=timeout)
        self._worker.clock.close()

    def __enter__(self) -> RoutingService:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()


def _finish_dropped(worker: ServiceWorker) -> None:
    """End the thread of a service that nobody holds any more. The garbage collector calls it anywhere: it waits for nothing."""
    if worker.process.is_this:
        worker.finish()
        warnings.warn(
            "a RoutingService, or an AsyncRouter, was dropped without being closed; call close(), or use it in a with block",
            ResourceWarning,
            stacklevel=2,
        )


# Functions, and no methods: futures and alarms that are held somewhere hold no service.
def _on_done(worker: ServiceWorker, request: DecisionRequest | WarmRequest, _future: Future[Any]) -> None:
    """There is an answer, or nobody wants one any more."""
    if not worker.process.is_this:
        return
    future = request.promise.future
    if future.cancelled():
        request.promise.acknowledge()
    worker.forget(request)
    if isinstance(request, WarmRequest):
        return
    if request.alarm is not None:
        worker.clock.turn_off(request.alarm)
    if future.cancelled():
        worker.count("cancelled")


def _count(worker: ServiceWorker, answer: Decision | list[Decision]) -> None:
    decisions = answer if isinstance(answer, list) else [answer]
    worker.count("decided", len(decisions))
    worker.count("deadlines", sum(decision.reason == "deadline" for decision in decisions))


def _on_deadline(worker: ServiceWorker, request: DecisionRequest) -> None:
    """Answer a request that still waits, or one that the router has not answered by itself."""
    if request.promise.done:
        return
    assert request.ends_at is not None
    if time.monotonic() < request.ends_at and worker.is_running(request):
        request.alarm = worker.clock.at(request.ends_at, partial(_on_deadline, worker, request))
        return
    try:
        decision = request.router.stand_in(
            as_messages(request.conversations[0]),
            routes=request.table,
            scores=request.scores,
            key=request.keys[0],
            time_limit=request.ends_at + _STAND_IN_S - time.monotonic(),
        )
    except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits, and the other alarms must go on
        if not program_ends():
            request.promise.fail(exc)
    else:
        waited = time.monotonic() - request.started
        request.promise.answer(with_waiting(decision, waited - decision.timings.total_ms / 1000))


def _read_one_of_many(messages: Messages, index: int) -> tuple[Turn, ...]:
    try:
        return read_messages(messages)
    except ConversationError as exc:
        place = f"{index}.{exc.place}" if exc.place else f"{index}"
        raise ConversationError(f"conversation {index}: {exc}", place=place) from exc
