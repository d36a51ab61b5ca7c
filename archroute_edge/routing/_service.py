"""A router behind a bounded queue, for servers and desktop apps."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from numbers import Real
from types import TracebackType
from typing import Any
from uuid import UUID

from archroute_edge.conversation import Messages, read_messages
from archroute_edge.decision import Decision, Warmup
from archroute_edge.errors import EngineError
from archroute_edge.routes import Route, RouteTable
from archroute_edge.routing._account import Account
from archroute_edge.routing._argument_types import check_tables, check_type, read_key, read_keys, whole_number
from archroute_edge.routing._questions import Question, WarmUp, read_many
from archroute_edge.routing._router import Router
from archroute_edge.routing._scheduler import Scheduler
from archroute_edge.routing._setting_limits import read_deadline
from archroute_edge.system import quiet_at_the_end


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
    """A router behind a bounded queue, which answers with futures. Thread-safe.

    The router's routes are warmed at once, and again when another router takes its place. A service that is dropped without
    :meth:`close` finishes what waits and ends as after it, with a ResourceWarning.

    Args:
        router: taken over: closing the service closes it.
        queue_limit: requests that may wait.

    Raises:
        SettingsError: ``queue_limit`` is below 1.
    """

    def __init__(self, router: Router, *, queue_limit: int = 64) -> None:
        check_type("router", router, Router, "a Router")
        queue_limit = whole_number("queue_limit", queue_limit, 1)
        self._router = router
        self._retired: weakref.WeakSet[Scheduler] = weakref.WeakSet()
        """Those of former routers. A thread of its own holds each until it has closed its decider."""
        self._account = Account(queue_limit)
        self._dropped = weakref.finalize(self, _warn_of_drop, self._account)
        self._dropped.atexit = False
        self.warm()

    @property
    def router(self) -> Router:
        """The router that new requests go to."""
        return self._router

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more requests: it was closed, or the router's thread ended on an error that was not foreseen."""
        return self._account.is_closed or not self._account.process.is_this or self._router.scheduler.error is not None

    @quiet_at_the_end()
    def submit(
        self,
        messages: Messages,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        key: str | int | UUID | None = None,
        deadline: float | None = None,
        caller: str | None = None,
    ) -> Future[Decision]:
        """Ask for a decision. Cancelling the future takes it off the queue, or stops its evaluation.

        Args:
            messages: as for :meth:`archroute_edge.Router.route`, and so ``routes``, ``scores`` and ``key``.
            routes: other routes than the router's own.
            scores: also give the probability of every route.
            key: names the conversation.
            deadline: seconds from now by which the future has an answer, if necessary with ``reason == "deadline"``.
            caller: who asks; callers take turns.

        Raises:
            QueueFullError: too many requests wait already.
            ServiceClosedError: the service has been closed.
            SettingsError: ``deadline`` is no time.
            ConversationError: ``messages`` are malformed.
            RouteTableError: ``routes`` cannot be used together.
        """
        deadline, name = read_deadline(deadline), read_key(key)
        started = time.monotonic()
        read = [read_messages(messages)]
        return self._ask(
            lambda router: router.question(
                read,
                routes=routes,
                scores=scores,
                keys=[name],
                caller=caller,
                deadline=deadline,
                account=self._account,
                started=started,
                is_many=False,
            )
        )

    @quiet_at_the_end()
    def submit_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | int | UUID | None] | None = None,
        caller: str | None = None,
    ) -> Future[list[Decision]]:
        """Ask for the decisions on several conversations, as one request; other callers have their turn in between.

        Raises:
            SettingsError: not as many keys as conversations.
            ConversationError: one of them is malformed; the message says which, counted from 0.
            ArchRouteError: as :meth:`submit`.
        """
        read = read_many(conversations)
        names = read_keys(keys, len(read))
        return self._ask(
            lambda router: router.question(read, routes=routes, scores=scores, keys=names, caller=caller, account=self._account)
        )

    @quiet_at_the_end()
    def submit_by_tables(
        self,
        messages: Messages,
        tables: Sequence[RouteTable],
        *,
        scores: bool = False,
        deadline: float | None = None,
        caller: str | None = None,
    ) -> Future[list[Decision]]:
        """Ask for the decisions on one conversation by several route tables, in their order, as one request.

        An encoder reads the conversation once. A language model reads it once for each table, since the routes stand before it
        in the prompt; other callers have their turn in between.

        Args:
            messages: the conversation.
            tables: at least one; without the models of the router's own configuration.
            scores: also give the probability of every route.
            deadline: seconds from now by which the future has an answer; those that are not decided by then have ``reason ==
                "deadline"``.
            caller: who asks; callers take turns.

        Raises:
            SettingsError: there are no tables, or ``deadline`` is no time.
            ArchRouteError: as :meth:`submit`.
        """
        deadline = read_deadline(deadline)
        check_tables(tables)
        started = time.monotonic()
        read = read_messages(messages)

        def question(router: Router) -> Question:
            asked = router.question_by_tables(
                read, tables, scores=scores, caller=caller, deadline=deadline, account=self._account
            )
            asked.started = started
            return asked

        return self._ask(question)

    @quiet_at_the_end()
    def warm(
        self,
        messages: Messages | None = None,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        whole: bool = False,
        scores: bool = False,
        caller: str | None = None,
    ) -> Future[Warmup]:
        """Evaluate ahead of time, as :meth:`archroute_edge.Router.warm` does, when nothing else is to be done.

        A decision stops it, unless it needs just this; it goes on afterwards. A newer one of the same caller takes its place,
        and so does, with ``whole``, a decision of that caller on the same conversation with another last message: its future
        is cancelled.

        Raises:
            ServiceClosedError: the service has been closed.
            ArchRouteError: as :meth:`submit`.
        """
        return self._ask(
            lambda router: router.warm_up(
                messages, routes=routes, whole=whole, scores=scores, caller=caller, account=self._account
            )
        )

    def _ask(self, make: Callable[[Router], Question | WarmUp]) -> Future[Any]:
        while True:
            self._account.check_open()
            router = self._router
            try:
                return router.submit(make(router))
            except EngineError:
                # Else another router has taken its place meanwhile, and it was closed.
                if router is self._router:
                    raise

    @quiet_at_the_end()
    def replace(self, router: Router) -> None:
        """Send new requests to ``router``; those that wait finish on the old one, which is closed.

        Raises:
            ServiceClosedError: the service has been closed.
        """
        check_type("router", router, Router, "a Router")
        self._account.check_open()
        if router is not self._router:
            old, self._router = self._router, router
            self._retired.add(old.scheduler)
            old.close(wait=False)
            self.warm()

    def stats(self) -> ServiceStats:
        """What the service is doing, and has done."""
        account, counts = self._account, self._account.counts
        asked = list(account.questions) if account.process.is_this else []
        n_running = sum(each.is_running for each in asked)
        try:
            evictions = self._router.n_evictions
        except EngineError:
            evictions = 0
        return ServiceStats(
            waiting=len(asked) - n_running,
            running=n_running,
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
        if timeout is not None:
            check_type("timeout", timeout, Real, "a number of seconds")
        self._dropped.detach()
        if not self._account.process.is_this:
            return
        # A callback cannot wait for what its own thread has to do.
        may_wait = not self._router.scheduler.is_own_thread
        self._account.close(drain=drain, timeout=timeout if may_wait or not drain else 0.0, fail=may_wait or not drain)
        self._router.close(wait=may_wait)
        for scheduler in list(self._retired) if may_wait else ():
            scheduler.join()

    def __enter__(self) -> RoutingService:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()


def _warn_of_drop(account: Account) -> None:
    """Say that a service was dropped. The garbage collector calls it anywhere: it waits for nothing."""
    if account.process.is_this:
        account.is_closed = True
        warnings.warn(
            "a RoutingService, or an AsyncRouter, was dropped without being closed; call close(), or use it in a with block",
            ResourceWarning,
            stacklevel=2,
        )
