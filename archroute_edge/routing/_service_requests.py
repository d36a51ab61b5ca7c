"""What waits before a router: requests for decisions, and for warm-ups."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from archroute_edge.conversation import Messages, Turn
from archroute_edge.decision import Decision
from archroute_edge.engine import Cancellation, lead
from archroute_edge.errors import ServiceClosedError
from archroute_edge.routes import RouteTable
from archroute_edge.routing._router import Router
from archroute_edge.system import OwnProcess, in_daemon_thread, program_ends

logger = logging.getLogger(__name__)

# Less than this is no time to decide anything in.
_SHORTEST_S = 0.001


class AnswerFuture(Future[Any]):
    """A future whose callbacks cannot end the thread that answers, and that nobody waits for once the program ends.

    At exit what waits is left as it is, so that no callback runs and no thread hears of an error any more. Only whoever still
    waits for an answer then, in a function that was registered with :mod:`atexit`, gets an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answering: int | None = None
        """The thread that is giving the answer, and calls the callbacks."""
        self._process = OwnProcess()

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
        self._process.check("service")
        if program_ends() and not in_daemon_thread():
            raise ServiceClosedError("the program ends; nothing more is decided")


class _Callback:
    """Calls once, and holds what it called no longer: else a future that is kept would keep its service, router and model."""

    def __init__(self, fn: Callable[[Future[Any]], object]) -> None:
        self._fn: Callable[[Future[Any]], object] | None = fn

    def __call__(self, future: Future[Any]) -> None:
        fn, self._fn = self._fn, None
        assert fn is not None and isinstance(future, AnswerFuture)
        try:
            fn(future)
        except Exception:
            # The future notes it.
            raise
        except BaseException:
            if future.answering != threading.get_ident():
                raise
            logger.exception("a callback of a future wanted to end the thread, which is the service's and goes on: %r", fn)


class Promise:
    """A future that has one answer, whoever is first to give it.

    It stays pending while it is worked on, so that whoever holds it can cancel it at any time.
    """

    def __init__(self) -> None:
        self.future = AnswerFuture()
        self.before_answer: Callable[[Any], None] = lambda _result: None
        """Called with the answer before anybody can see it."""
        self._lock = threading.Lock()
        self._settled = False

    @property
    def done(self) -> bool:
        """Whether there is an answer, or nobody wants one any more."""
        return self.future.done()

    def answer(self, result: Any) -> bool:
        """Give ``result``; whether it was wanted."""

        def give() -> None:
            self.before_answer(result)
            self.future.set_result(result)

        return self._settle(give)

    def fail(self, error: BaseException) -> bool:
        """Give an error; whether it was wanted."""
        return self._settle(lambda: self.future.set_exception(error))

    def cancel(self) -> None:
        """Tell whoever waits that there will be no answer."""
        self.future.answering = threading.get_ident()
        self.future.cancel()
        self.future.answering = None

    def acknowledge(self) -> None:
        """Let go of a future that was cancelled: those who wait for it are told."""
        self._settle(lambda: None)

    def _settle(self, give: Callable[[], None]) -> bool:
        with self._lock:
            if self._settled:
                return False
            self._settled = True
        if not self.future.set_running_or_notify_cancel():
            return False
        self.future.answering = threading.get_ident()
        give()
        self.future.answering = None
        return True


@dataclass(eq=False)
class DecisionRequest:
    """Conversations that somebody waits for the decisions on.

    Args:
        conversations: the turns of each.
        table: other routes than the router's own.
        scores: whether all probabilities are wanted.
        keys: a name for each conversation.
        caller: who asks.
        deadline: seconds from now; None is no deadline.
        many: whether the answer is a list.
    """

    conversations: Sequence[Sequence[Turn]]
    table: RouteTable | None
    scores: bool
    keys: Sequence[str | None]
    caller: str | None
    deadline: float | None = None
    many: bool = False
    router: Router = field(init=False)
    """Decides: the one that was the service's when the request came."""
    promise: Promise = field(default_factory=Promise)
    decisions: list[Decision] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    alarm: int | None = None
    waited_s: float | None = None
    """From the request until its first evaluation."""

    @property
    def ends_at(self) -> float | None:
        """When there must be an answer, as :func:`time.monotonic` counts."""
        return None if self.deadline is None else self.started + self.deadline

    @property
    def stands_in_at(self) -> float | None:
        """When it is too late to begin."""
        return None if self.deadline is None else self.started + self.deadline - lead(self.deadline)

    @property
    def n_left(self) -> int:
        """Conversations that are not decided yet."""
        return len(self.conversations) - len(self.decisions)

    def goes_with(self, other: DecisionRequest) -> bool:
        """Whether both can be decided in one evaluation."""
        return self.router is other.router and self.table == other.table and self.scores == other.scores


@dataclass(eq=False)
class WarmRequest:
    """A warm-up that somebody waits for, perhaps."""

    turns: Sequence[Turn] | None
    table: RouteTable | None
    caller: str | None
    promise: Promise = field(default_factory=Promise)

    def serves(self, request: DecisionRequest) -> bool:
        """Whether what is warmed is a beginning of what ``request`` has evaluated: stopping it would only lose time."""
        if self.table != request.table:
            return False
        if self.turns is None:
            return True
        return any(_begins(self.turns, turns) for turns in request.conversations)


def _begins(turns: Sequence[Turn], others: Sequence[Turn]) -> bool:
    *earlier, last = turns
    if len(others) < len(turns) or list(others[: len(earlier)]) != earlier:
        return False
    other = others[len(earlier)]
    return other.role == last.role and other.content.startswith(last.content)


def as_messages(turns: Sequence[Turn]) -> Messages:
    """``turns`` as a router takes them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def with_waiting(decision: Decision, seconds: float) -> Decision:
    """``decision``, its times counted from the request."""
    timings = decision.timings
    total_ms, wait_ms = timings.total_ms + 1000 * seconds, timings.wait_ms + 1000 * seconds
    return replace(decision, timings=replace(timings, total_ms=total_ms, wait_ms=wait_ms))


def ask_router(batch: Sequence[DecisionRequest], sizes: Sequence[int], cancellation: Cancellation) -> Sequence[Decision]:
    """Decide the next conversations of requests that go together, so many of each, in one evaluation.

    A single conversation is decided within what is left of its deadline.

    Raises:
        ArchRouteError: whatever the router raises; DecisionCancelledError where ``cancellation`` is set.
    """
    first = batch[0]
    if len(batch) == 1 and not first.many:
        left = None if first.ends_at is None else max(_SHORTEST_S, first.ends_at - time.monotonic())
        messages, key = as_messages(first.conversations[0]), first.keys[0]
        decision = first.router.route(
            messages, routes=first.table, scores=first.scores, key=key, deadline=left, cancellation=cancellation
        )
        return [decision]
    conversations, keys = [], []
    for request, size in zip(batch, sizes, strict=True):
        start = len(request.decisions)
        conversations += [as_messages(turns) for turns in request.conversations[start : start + size]]
        keys += list(request.keys[start : start + size])
    return first.router.route_many(conversations, routes=first.table, scores=first.scores, keys=keys, cancellation=cancellation)
