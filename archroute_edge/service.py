"""One thread that owns a router, and a bounded queue before it: what servers and desktop apps put between themselves and it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from archroute_edge.conversation import Messages, read_messages
from archroute_edge.decision import Decision, Warmup
from archroute_edge.errors import QueueFullError, ServiceClosedError
from archroute_edge.router import Router
from archroute_edge.routes import Route, RouteTable, as_table


@dataclass(frozen=True)
class ServiceStats:
    """What a service is doing, and has done since it was made."""

    waiting: int
    """Requests in the queue, warm-ups excepted."""
    running: int
    """Decisions being made now: 0 or 1, more where an encoder takes several together."""
    decided: int
    """Decisions answered, those at their deadline included."""
    deadlines: int
    """Decisions answered at their deadline with the fallback."""
    cancelled: int
    """Requests that were cancelled before they had an answer."""
    refused: int
    """Requests that found the queue full."""
    warmed: int
    """Warm-ups that were finished."""
    preempted: int
    """Warm-ups that were stopped by a decision."""
    evictions: int
    """Sequences that gave way to others in the KV cache."""


class RoutingService:
    """One worker thread that owns a router; everybody else talks to it through a bounded queue.

    Args:
        router: taken over: closing the service closes it.
        queue_limit: requests that may wait.
    """

    def __init__(self, router: Router, *, queue_limit: int = 64) -> None:
        self._router = router
        self._limit = queue_limit
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="archroute-worker", daemon=True)
        self._thread.start()

    @property
    def router(self) -> Router:
        """The router that new requests go to."""
        return self._router

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
        """Ask for a decision.

        Args:
            messages: as for :meth:`Router.route`, and so ``routes``, ``scores`` and ``key``.
            routes: other routes than the router's own.
            scores: also give the probability of every route.
            key: names the conversation.
            deadline: seconds from now by which the future has an answer; waiting counts.
            caller: who asks; callers take turns.

        Raises:
            QueueFullError: too many requests wait already.
            ServiceClosedError: the service has been closed.
            ConversationError: there is nothing to route in ``messages``.
            RouteTableError: ``routes`` cannot be used together.
        """
        read_messages(messages)
        table = None if routes is None else as_table(routes)
        router = self._router
        return self._put(lambda: router.route(messages, routes=table, scores=scores, key=key, deadline=deadline))

    def submit_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | None] | None = None,
        caller: str | None = None,
    ) -> Future[list[Decision]]:
        """Ask for the decisions on several conversations, as one request."""
        for messages in conversations:
            read_messages(messages)
        table = None if routes is None else as_table(routes)
        router = self._router
        return self._put(lambda: router.route_many(conversations, routes=table, scores=scores, keys=keys))

    def warm(
        self,
        messages: Messages | None = None,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        caller: str | None = None,
    ) -> Future[Warmup]:
        """Ask for a warm-up, which any decision stops; a newer one of the same caller replaces one that waits."""
        table = None if routes is None else as_table(routes)
        router = self._router
        return self._put(lambda: router.warm(messages, routes=table))

    def replace(self, router: Router) -> None:
        """Send new requests to ``router``; those that wait finish on the old one, which is then closed."""
        with self._condition:
            old, self._router = self._router, router
            self._waiting.append((Future(), old.close))
            self._condition.notify()

    def stats(self) -> ServiceStats:
        """What the service is doing, and has done."""
        return ServiceStats(len(self._waiting), 0, 0, 0, 0, 0, 0, 0, 0)

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Stop taking requests, and close the router.

        Args:
            drain: finish what waits; else it gets ServiceClosedError.
            timeout: seconds after which what is left is not waited for any longer.
        """
        with self._condition:
            self._closed = True
            while not drain and self._waiting:
                self._waiting.popleft()[0].set_exception(ServiceClosedError("the service has been closed"))
            self._condition.notify()
        self._thread.join(timeout)
        self._router.close()

    def __enter__(self) -> RoutingService:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._condition:
            if self._closed:
                raise ServiceClosedError("the service has been closed")
            if len(self._waiting) >= self._limit:
                raise QueueFullError(f"{self._limit} requests wait already; try again later", retry_after=1.0)
            self._waiting.append((future, call))
            self._condition.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._closed:
                    self._condition.wait()
                if not self._waiting:
                    return
                future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as exc:  # noqa: BLE001
                    future.set_exception(exc)
