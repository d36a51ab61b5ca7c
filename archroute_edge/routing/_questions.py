"""What is asked of a scheduler, and the verdicts of a turn."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.conversation import Conversation, Messages, Turn, read_messages
from archroute_edge.deciders import Decider, UnfinishedError
from archroute_edge.decision import Verdict
from archroute_edge.engine import Cancellation, lead
from archroute_edge.errors import ArchRouteError, ConversationError, RemoteError
from archroute_edge.routes import RouteTable
from archroute_edge.routing._answer import Answer
from archroute_edge.routing._argument_types import is_list
from archroute_edge.routing._queues import Evaluators, FairQueue

if TYPE_CHECKING:
    from archroute_edge.routing._account import Account

# Questions of one caller that are decided at once: more would be hardly faster, and others would wait for them.
_MOST_OF_ONE: Final = 8
# How long after its deadline a question may still wait for an encoder's answer.
_STAND_IN_S: Final = 0.025


@dataclass(eq=False)
class Asked:
    """What questions and warm-ups have in common.

    Args:
        table: the routes.
        caller: who asks; callers take turns.
        account: whose bounds it counts against.
        cancellation: stops it, from any thread.
    """

    table: RouteTable
    caller: Hashable
    account: Account | None = field(default=None, kw_only=True)
    cancellation: Cancellation | None = field(default=None, kw_only=True)
    answer: Answer = field(default_factory=Answer, kw_only=True)
    is_running: bool = field(default=False, kw_only=True)
    resume: Callable[[Cancellation], list[Verdict]] | None = field(default=None, kw_only=True)
    """Goes on with it, when the work that it waited for is done."""
    epoch: int = field(default=0, kw_only=True)
    """The decider's when it was last begun. It may go on with a reply from before a failure."""

    @property
    def lane(self) -> Hashable:
        """Who it takes turns for."""
        return self.account, self.caller

    def begin(self, epoch: int) -> None:
        """Note the decider's epoch, unless it goes on with what was begun."""
        if self.resume is None:
            self.epoch = epoch

    def forget(self) -> None:
        """Tell the account that there is an answer, or that it is not wanted."""
        if self.account is not None:
            self.account.forget(self)

    def leave(self, unfinished: UnfinishedError) -> None:
        """Note what it waits for."""
        self.is_running = False
        self.resume = unfinished.resume

    def refuse(self, error: ArchRouteError) -> None:
        """Answer with an error."""
        self.answer.fail(error)

    @contextmanager
    def failing_with(self, forget: Callable[[Future[Any]], None]) -> Iterator[None]:
        """Answer with the error that the block raises; ``forget`` is then told, as of every answer."""
        try:
            yield
        except BaseException as exc:
            self.answer.add_done_callback(forget)
            self.answer.fail(exc)
            raise

    def stopping(self, flag: Cancellation) -> AbstractContextManager[None]:
        """A block in which :attr:`cancellation` sets ``flag``."""
        return nullcontext() if self.cancellation is None else self.cancellation.setting(flag)


@dataclass(eq=False)
class Question(Asked):
    """Conversations to decide on, with a caller that waits.

    Args:
        conversations: the turns of each, with user text in each.
        finish: makes the future's result of the verdicts and of milliseconds: since the question, and waited. A verdict that is
            None is the fallback at the deadline.
        tables: if it is about several tables, all of them: each is held against the one conversation.
        scores: whether all probabilities are wanted.
        keep: whether the table's prefix or vectors are worth saving on disk. Routes that come with a message are not: many such
            would push out what is.
        deadline: seconds from ``started``; None is no deadline. Only for a single conversation.
    """

    conversations: Sequence[Sequence[Turn]]
    finish: Callable[[Sequence[Verdict | None], float, float], Any]
    scores: bool
    keep: bool
    deadline: float | None = None
    started: float = field(default_factory=time.monotonic)
    tables: Sequence[RouteTable] = ()
    verdicts: list[Verdict] = field(default_factory=list)
    waited_s: float | None = None
    """From the question until its first evaluation."""
    n_interruptions: int = 0
    n_works: int = 0
    """How often it has waited for unfinished work."""
    found: Sequence[Verdict] = ()
    """What stands for the next ones if there is no time for more."""

    @property
    def n_left(self) -> int:
        """Conversations, or tables, that are not decided yet."""
        return len(self.tables or self.conversations) - len(self.verdicts)

    @cached_property
    def n_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return _n_bytes(self.conversations, () if self.keep else self.tables or (self.table,))

    def next(self, size: int) -> Sequence[Sequence[Turn]]:
        """The next conversations that are not decided, at most so many."""
        return self.conversations[len(self.verdicts) : len(self.verdicts) + size]

    def leave(self, unfinished: UnfinishedError) -> None:
        """Note what it waits for, and what stands if there is no time for that."""
        super().leave(unfinished)
        self.n_works += 1
        self.found = unfinished.found
        if self.resume is None:
            # It begins anew.
            self.waited_s = None

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Take the verdicts of a turn."""
        # First: at a deadline the verdicts are read before it.
        self.found, self.resume = (), None
        self.verdicts += verdicts
        if self.tables and self.n_left:
            # What others ask about it now is whether they need the same.
            self.table = self.tables[len(self.verdicts)]

    def result(self, verdicts: Sequence[Verdict | None]) -> object:
        """What the future gets; counted before anybody sees it."""
        waited_ms = 1000 * (self.waited_s or 0.0)
        waited = [each and replace(each, timings=each.timings.after(waited_ms)) for each in verdicts]
        result = self.finish(waited, 1000 * (time.monotonic() - self.started), waited_ms)
        if self.account is not None:
            self.account.count(waited)
        return result

    def ends_in(self, *, early: bool = False) -> float:
        """Seconds until its deadline, or until it is too late to begin."""
        assert self.deadline is not None
        return self.started + self.deadline - (lead(self.deadline) if early else 0.0) - time.monotonic()

    def goes_with(self, other: Question) -> bool:
        """Whether both can be decided in one evaluation.

        Not if a program calls a router itself: what else is evaluated would change its decision's last digits.
        """
        return (
            self.account is not None
            and other.account is not None
            and self.resume is other.resume is None
            and not self.tables
            and not other.tables
            and self.table == other.table
            and (self.scores, self.keep) == (other.scores, other.keep)
        )


def companions(queue: FairQueue[Question], first: Question, most: int) -> list[Question]:
    """Others that are decided in the same evaluation: one of each caller, or some of one who asks alone.

    Args:
        queue: they are taken from it.
        first: whose turn it is.
        most: conversations at once, with those of ``first``.
    """
    found: list[Question] = []
    taken = Counter([first.lane])
    of_each = _MOST_OF_ONE if queue.callers <= {first.lane} else 1
    n_left = most - first.n_left

    def fits(other: Question) -> bool:
        return other.n_left <= n_left and taken[other.lane] < of_each and other.goes_with(first)

    while n_left > 0 and (other := queue.take(fits)) is not None:
        found.append(other)
        taken[other.lane] += 1
        n_left -= other.n_left
    return found


def decide(
    decider: Decider, batch: Sequence[Question], sizes: Sequence[int], stop: Cancellation
) -> Sequence[Verdict | RemoteError]:
    """What is found in a turn: on so many conversations of each question, or on one conversation by several tables.

    Raises:
        UnfinishedError, ArchRouteError: as :meth:`Decider.decide_each`.
    """
    first = batch[0]
    if first.resume is not None:
        return first.resume(stop)
    if first.tables:
        tables, turns = first.tables[len(first.verdicts) :], first.conversations[0]
        return decider.decide_by_tables(tables, turns, scores=first.scores, keep=first.keep, cancellation=stop)
    conversations = [turns for each, size in zip(batch, sizes, strict=True) for turns in each.next(size)]
    return decider.decide_each(first.table, conversations, scores=first.scores, keep=first.keep, cancellation=stop)


def share_out(
    batch: Sequence[Question], sizes: Sequence[int], found: Sequence[Verdict | RemoteError], took_s: float
) -> dict[Question, RemoteError]:
    """Give each question of a turn its verdicts; those that have an error among them get none of them.

    Args:
        batch: the questions.
        sizes: how many conversations of each, or tables, were decided.
        found: by :func:`decide`.
        took_s: seconds that one of them took.
    """
    failed = {}
    for question, size in zip(batch, sizes, strict=True):
        own, found = found[:size], found[size:]
        verdicts = [each for each in own if isinstance(each, Verdict)]
        if errors := [each for each in own if isinstance(each, RemoteError)]:
            failed[question] = errors[0]
            continue
        question.add(verdicts)
        if question.account is not None:
            question.account.note_time(took_s)
    return failed


def decide_at_deadline(decider: Decider, question: Question, evaluators: Evaluators) -> object:
    """The answer of a question that still waits at its deadline, or that the owner has not answered by itself."""
    tables, turns = question.tables or (question.table,), question.conversations[0]
    # The owner may add some meanwhile.
    verdicts: list[Verdict | None] = list(question.verdicts)
    verdicts += question.found
    if left := tables[len(verdicts) :]:
        left_s = question.ends_in() + _STAND_IN_S
        with evaluators.one_more():
            verdicts += decider.stand_in_by_tables(left, turns, scores=question.scores, time_limit=left_s)
    took_s = sum(each.timings.total_ms for each in verdicts if each is not None) / 1000
    question.waited_s = time.monotonic() - question.started - took_s
    return question.result(verdicts)


@dataclass(eq=False)
class WarmUp(Asked):
    """A warm-up, perhaps with a caller that waits."""

    turns: Sequence[Turn] | None
    keep: bool = field(default=True, kw_only=True)
    """Whether the table's prefix or vectors are worth saving on disk."""
    whole: bool = field(default=False, kw_only=True)
    """Whether the conversation is decided as if it ended here, for a question that asks just that."""
    scores: bool = field(default=False, kw_only=True)
    """Whether that question will want all probabilities."""
    is_outdated: bool = field(default=False, kw_only=True)
    """Whether it does not go on once it is stopped."""

    def refuse(self, error: ArchRouteError) -> None:
        """Cancel the future: a warm-up was no more than a hint."""
        self.answer.call_off()

    @cached_property
    def n_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return _n_bytes(self.conversations, () if self.keep else (self.table,))

    @property
    def conversations(self) -> Sequence[Sequence[Turn]]:
        """Its conversation, as a question has them."""
        return () if self.turns is None else (self.turns,)

    @property
    def tables(self) -> Sequence[RouteTable]:
        """None, as of a question about one table."""
        return ()

    def serves(self, asked: Question | WarmUp) -> bool:
        """Whether it evaluates a beginning of what ``asked`` needs: stopping it would only lose time."""
        if self.table != asked.table:
            return False
        return self.turns is None or any(_begins(self.turns, turns) for turns in asked.conversations)

    def is_about(self, asked: Question | WarmUp) -> bool:
        """Whether ``asked`` is about the very conversation."""
        return self.table == asked.table and self.turns is not None and any(_same(self.turns, t) for t in asked.conversations)

    def is_outdated_by(self, asked: Question | WarmUp) -> bool:
        """Whether the caller has typed on, or sent the message: the text so far is not what will be asked about."""
        if not self.whole or self.turns is None or self.lane != asked.lane or self.table != asked.table:
            return False
        earlier = self.turns[:-1]
        return any(len(turns) == len(self.turns) and _same(earlier, turns[:-1]) for turns in asked.conversations)


def _n_bytes(conversations: Sequence[Sequence[Turn]], tables: Sequence[RouteTable]) -> int:
    # One emoji makes every letter of its text four bytes long.
    size = sys.getsizeof
    texts = sum(size(turn.content) for turns in conversations for turn in turns)
    return texts + sum(size(route.name) + size(route.description) for table in tables for route in table)


def _same(turns: Sequence[Turn], others: Sequence[Turn]) -> bool:
    return len(turns) == len(others) and all(one == other for one, other in zip(turns, others, strict=True))


def _begins(turns: Sequence[Turn], others: Sequence[Turn]) -> bool:
    *earlier, last = turns
    if len(others) < len(turns) or list(others[: len(earlier)]) != earlier:
        return False
    other = others[len(earlier)]
    return other.role == last.role and other.content.startswith(last.content)


def read_many(conversations: Sequence[Messages]) -> list[Conversation]:
    """Read several conversations.

    Raises:
        ConversationError: one of them is malformed; the message says which, counted from 0.
    """
    if isinstance(conversations, str):
        raise ConversationError("the conversations must be a list; a text alone is one of them")
    if not is_list(conversations):
        raise ConversationError(f"the conversations must be a list, not of type {type(conversations).__name__}")
    return [_read_one_of_many(messages, index) for index, messages in enumerate(conversations)]


def _read_one_of_many(messages: Messages, index: int) -> Conversation:
    try:
        return read_messages(messages)
    except ConversationError as exc:
        place = f"{index}.{exc.place}" if exc.place else f"{index}"
        raise ConversationError(f"conversation {index}: {exc}", place=place) from exc
