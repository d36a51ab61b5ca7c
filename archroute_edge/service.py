"""A router behind a bounded queue: what servers and desktop apps put between themselves and it."""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from archroute_edge.alarm_clock import AlarmClock
from archroute_edge.conversation import Messages, Turn, read_messages
from archroute_edge.decision import Decision, Warmup
from archroute_edge.errors import ConversationError, EngineError, SettingsError
from archroute_edge.router import Router
from archroute_edge.routes import Route, RouteTable, as_table
from archroute_edge.service_requests import DecisionRequest, WarmRequest, as_messages, with_waiting
from archroute_edge.service_worker import ServiceWorker
from archroute_edge.setting_limits import check_deadline

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

    The router's routes are warmed at once, and again when another router takes its place.

    Args:
        router: taken over: closing the service closes it.
        queue_limit: requests that may wait.

    Raises:
        SettingsError: ``queue_limit`` is below 1.
    """

    def __init__(self, router: Router, *, queue_limit: int = 64) -> None:
        if isinstance(queue_limit, bool) or queue_limit < 1:
            raise SettingsError(f"queue_limit is {queue_limit!r}; it must be at least 1")
        self._clock = AlarmClock()
        self._worker = ServiceWorker(router, queue_limit)
        # At exit the model is freed, and the thread must not be in the middle of an evaluation then.
        atexit.register(self._close_at_exit)
        self.warm()

    @property
    def router(self) -> Router:
        """The router that new requests go to."""
        return self._worker.router

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more requests: it was closed, or its thread ended on an error that nobody foresaw."""
        return self._worker.is_closed

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
        request.promise.before_answer = self._count
        self._worker.put(request)
        request.promise.future.add_done_callback(lambda _future: self._on_done(request))
        if request.stands_in_at is not None and not request.promise.done:
            request.alarm = self._clock.at(request.stands_in_at, lambda: self._on_deadline(request))
        return request.promise.future

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
        request.promise.future.add_done_callback(lambda _future: self._on_done(request))
        for each in older:
            each.promise.future.cancel()
        return request.promise.future

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
        """Take no more requests, end the threads, and close the router.

        Args:
            drain: finish what waits; else that, and what is being decided, gets ServiceClosedError.
            timeout: seconds after which no more is finished.
        """
        atexit.unregister(self._close_at_exit)
        if self._worker.is_forked:
            return
        self._worker.close(drain=drain, timeout=timeout)
        self._clock.close()

    def _close_at_exit(self) -> None:
        self.close(drain=False)

    def __enter__(self) -> RoutingService:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def _on_done(self, request: DecisionRequest | WarmRequest) -> None:
        """There is an answer, or nobody wants one any more."""
        future = request.promise.future
        if future.cancelled():
            request.promise.acknowledge()
        self._worker.forget(request)
        if isinstance(request, WarmRequest):
            return
        if request.alarm is not None:
            self._clock.turn_off(request.alarm)
        if future.cancelled():
            self._worker.count("cancelled")

    def _count(self, answer: Decision | list[Decision]) -> None:
        decisions = answer if isinstance(answer, list) else [answer]
        self._worker.count("decided", len(decisions))
        self._worker.count("deadlines", sum(decision.reason == "deadline" for decision in decisions))

    def _on_deadline(self, request: DecisionRequest) -> None:
        """Answer a request that still waits, or one that the router has not answered by itself."""
        if request.promise.done:
            return
        assert request.ends_at is not None
        if time.monotonic() < request.ends_at and self._worker.is_running(request):
            request.alarm = self._clock.at(request.ends_at, lambda: self._on_deadline(request))
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
