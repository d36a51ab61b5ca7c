"""A router behind a bounded queue: what servers and desktop apps put between themselves and it."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from archroute_edge.conversation import Messages, Turn, read_messages
from archroute_edge.decision import Decision, Verdict, Warmup
from archroute_edge.errors import ConversationError, EngineError, QueueFullError, ServiceClosedError, SettingsError
from archroute_edge.routes import Route, RouteTable
from archroute_edge.routing._questions import Question, WarmUp
from archroute_edge.routing._router import Router
from archroute_edge.routing._setting_limits import check_deadline, check_keys
from archroute_edge.system import OwnProcess, program_ends, quiet_at_the_end

MOST_WAITING_BYTES: Final = 32 << 20
"""Text that may wait in one service."""
# Share of the newest decision in the mean that QueueFullError.retry_after goes by, and what it is before there was any.
_NEWEST_SHARE: Final = 0.2
_FIRST_GUESS_S: Final = 1.0


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


class Account:
    """What one service has asked for: its counts, its bounds, and its end.

    Args:
        limit: questions that may wait, and warm-ups.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self.questions: dict[Question, None] = {}
        """Those without an answer, oldest first."""
        self.warms: dict[WarmUp, None] = {}
        self.is_closed = False
        self.mean_s: float | None = None
        self.process = OwnProcess()
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)

    def count(self, verdicts: Sequence[Verdict | None]) -> None:
        """Note that these are answered; None stands for a fallback at the deadline."""
        with self.lock:
            self.counts["decided"] += len(verdicts)
            self.counts["deadlines"] += sum(each is None or each.reason == "deadline" for each in verdicts)

    def note_time(self, took_s: float) -> None:
        """Note how long a decision took, for :attr:`QueueFullError.retry_after`."""
        self.mean_s = took_s if self.mean_s is None else _NEWEST_SHARE * took_s + (1 - _NEWEST_SHARE) * self.mean_s

    def check_open(self) -> None:
        """Go on only if questions are taken.

        Raises:
            ServiceClosedError: closed, or another process's.
        """
        # Before any lock is taken: the thread that held it has stayed in the other process.
        self.process.check("service")
        if self.is_closed:
            raise ServiceClosedError("the service has been closed")
        if program_ends():
            raise ServiceClosedError("the program ends; nothing more is decided")

    def admit(self, asked: Question | WarmUp) -> tuple[Sequence[Question | WarmUp], QueueFullError | None]:
        """Take ``asked`` in: what has to give way for it, and the error that says so to questions.

        Raises:
            ServiceClosedError: closed, or another process's.
            QueueFullError: too many questions wait already, or too much text, and no other caller has more of it.
        """
        self.check_open()
        with self.lock:
            if isinstance(asked, Question):
                return self._admit(asked)
            gone = [each for each in self.warms if each.caller == asked.caller]
            left = [each for each in self.warms if each.caller != asked.caller]
            while left and (len(left) >= self.limit or _n_bytes([*left, asked]) > MOST_WAITING_BYTES):
                gone.append(left.pop(0))
            self.warms[asked] = None
            return gone, None

    def _admit(self, question: Question) -> tuple[Sequence[Question], QueueFullError | None]:
        waiting = [each for each in self.questions if not each.is_running]
        gone: list[Question] = []
        full: QueueFullError | None = None
        while waiting and ((is_many := len(waiting) >= self.limit) or _n_bytes([*waiting, question]) > MOST_WAITING_BYTES):
            self.counts["refused"] += 1
            full = self._full(len(waiting))
            weights: Counter[Hashable] = Counter()
            for each in (question, *waiting):
                weights[each.caller] += 1 if is_many else each.n_bytes
            longest, weight = weights.most_common(1)[0]
            if weight <= weights[question.caller]:
                raise full
            gone.append([each for each in waiting if each.caller == longest][-1])
            waiting.remove(gone[-1])
        self.questions[question] = None
        return gone, full

    def _full(self, n_waiting: int) -> QueueFullError:
        retry_after = _FIRST_GUESS_S if self.mean_s is None else max(0.1, self.mean_s * n_waiting)
        return QueueFullError(f"{n_waiting} requests wait already; ask again in {retry_after:.1f} s", retry_after=retry_after)

    def forget(self, each: Question | WarmUp) -> None:
        """Note that there is an answer, or that it is not wanted."""
        with self.lock:
            (self.questions if isinstance(each, Question) else self.warms).pop(each, None)  # type: ignore[arg-type]
            if isinstance(each, Question) and each.answer.cancelled():
                self.counts["cancelled"] += 1
            self._changed.notify_all()

    def close(self, *, drain: bool, timeout: float | None, fail: bool = True) -> None:
        """Take nothing more, call warm-ups off, and wait for questions; those without an answer in time get an error.

        Args:
            drain: whether to wait for them.
            timeout: seconds to wait; None is no bound.
            fail: whether those without an answer get an error.
        """
        with self.lock:
            self.is_closed = True
            warms = list(self.warms)
        for warm in warms:
            warm.answer.call_off()
        if drain:
            with self.lock:
                self._changed.wait_for(lambda: not self.questions or program_ends(), timeout)
        for question in list(self.questions) if fail else ():
            question.answer.fail(ServiceClosedError("the service was closed before the request was finished"))


def _n_bytes(asked: Iterable[Question | WarmUp]) -> int:
    return sum(each.n_bytes for each in asked)


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
        if isinstance(queue_limit, bool) or queue_limit < 1:
            raise SettingsError(f"queue_limit is {queue_limit!r}; it must be at least 1")
        self._router = router
        self._retired: list[Router] = []
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
        self._account.check_open()
        question = self._router.question(
            [read_messages(messages)],
            routes=routes,
            scores=scores,
            keys=[key],
            caller=caller,
            deadline=deadline,
            account=self._account,
            started=started,
            is_many=False,
        )
        return self._router.submit(question)

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
        names = check_keys(keys, len(conversations))
        read = [_read_one_of_many(messages, index) for index, messages in enumerate(conversations)]
        self._account.check_open()
        question = self._router.question(read, routes=routes, scores=scores, keys=names, caller=caller, account=self._account)
        return self._router.submit(question)

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
        self._account.check_open()
        return self._router.submit(self._router.warm_up(messages, routes=routes, caller=caller, account=self._account))

    @quiet_at_the_end()
    def replace(self, router: Router) -> None:
        """Send new requests to ``router``; those that wait finish on the old one, which is closed.

        Raises:
            ServiceClosedError: the service has been closed.
        """
        self._account.check_open()
        if router is not self._router:
            old, self._router = self._router, router
            self._retired.append(old)
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
        self._dropped.detach()
        if not self._account.process.is_this:
            return
        # A callback cannot wait for what its own thread has to do.
        may_wait = not self._router.scheduler.is_own_thread
        self._account.close(drain=drain, timeout=timeout if may_wait or not drain else 0.0, fail=may_wait or not drain)
        for each in (*self._retired, self._router):
            each.close(wait=may_wait)

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


def _read_one_of_many(messages: Messages, index: int) -> tuple[Turn, ...]:
    try:
        return read_messages(messages)
    except ConversationError as exc:
        place = f"{index}.{exc.place}" if exc.place else f"{index}"
        raise ConversationError(f"conversation {index}: {exc}", place=place) from exc
