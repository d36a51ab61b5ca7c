"""What is asked of a scheduler, and what it does about it now."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.conversation import Turn
from archroute_edge.deciders import Decider, Work
from archroute_edge.decision import Verdict
from archroute_edge.engine import Cancellation, lead
from archroute_edge.errors import ArchRouteError
from archroute_edge.routes import RouteTable
from archroute_edge.routing._answer import Answer
from archroute_edge.routing._queues import FairQueue

if TYPE_CHECKING:
    from archroute_edge.routing._account import Account

# Questions of one caller that are decided at once: more would be hardly faster, and others would wait for them.
_MOST_OF_ONE: Final = 8
# How often in a row questions may stop work that they cannot be seen to wait for, or others that are decided at once.
_MOST_INTERRUPTIONS: Final = 3
# Work that goes on though all that waited for it have gone.
_MOST_NEEDLESS: Final = 8


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

    @property
    def lane(self) -> Hashable:
        """Who it takes turns for."""
        return self.account, self.caller

    def forget(self) -> None:
        """Tell the account that there is an answer, or that it is not wanted."""
        if self.account is not None:
            self.account.forget(self)

    def refuse(self, error: ArchRouteError) -> None:
        """Answer with an error."""
        self.answer.fail(error)

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
        keep: whether the table's prefix or vectors are worth saving on disk.
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
    is_running: bool = False
    n_interruptions: int = 0
    n_works: int = 0
    """How often it has waited for unfinished work."""
    found: Verdict | None = None
    """What stands if there is no time for more."""
    resume: Callable[[Cancellation], list[Verdict]] | None = None
    """Goes on with it."""

    @property
    def n_left(self) -> int:
        """Conversations, or tables, that are not decided yet."""
        return len(self.tables or self.conversations) - len(self.verdicts)

    @cached_property
    def n_bytes(self) -> int:
        """What it takes in memory, roughly; one emoji makes every letter of its text four bytes long."""
        size = sys.getsizeof
        texts = sum(size(turn.content) for turns in self.conversations for turn in turns)
        tables = () if self.keep else self.tables or (self.table,)
        return texts + sum(size(route.name) + size(route.description) for table in tables for route in table)

    def next(self, size: int) -> Sequence[Sequence[Turn]]:
        """The next conversations that are not decided, at most so many."""
        return self.conversations[len(self.verdicts) : len(self.verdicts) + size]

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Take the verdicts of a turn."""
        self.verdicts += verdicts
        self.resume = self.found = None
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


def decide(decider: Decider, batch: Sequence[Question], sizes: Sequence[int], stop: Cancellation) -> list[Verdict]:
    """The verdicts of a turn: on so many conversations of each question, or on one conversation by several tables.

    Raises:
        UnfinishedError, ArchRouteError: as :meth:`Decider.decide_many`.
    """
    first = batch[0]
    if first.resume is not None:
        return first.resume(stop)
    if first.tables:
        tables, turns = first.tables[len(first.verdicts) :], first.conversations[0]
        return decider.decide_by_tables(tables, turns, scores=first.scores, keep=first.keep, cancellation=stop)
    conversations = [turns for each, size in zip(batch, sizes, strict=True) for turns in each.next(size)]
    return decider.decide_many(first.table, conversations, scores=first.scores, keep=first.keep, cancellation=stop)


@dataclass(eq=False)
class WarmUp(Asked):
    """A warm-up, perhaps with a caller that waits."""

    turns: Sequence[Turn] | None
    whole: bool = field(default=False, kw_only=True)
    """Whether the conversation is decided as if it ended here, for a question that asks just that."""
    scores: bool = field(default=False, kw_only=True)
    """Whether that question will want all probabilities."""
    is_running: bool = field(default=False, kw_only=True)
    is_outdated: bool = field(default=False, kw_only=True)
    """Whether it does not go on once it is stopped."""
    resume: Callable[[Cancellation], list[Verdict]] | None = field(default=None, kw_only=True)
    """Goes on with the decision, when the work that it waited for is done."""

    def refuse(self, error: ArchRouteError) -> None:
        """Cancel the future: a warm-up was no more than a hint."""
        self.answer.call_off()

    @cached_property
    def n_bytes(self) -> int:
        """What it takes in memory, roughly."""
        return sum(sys.getsizeof(turn.content) for turn in self.turns or ())

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


def _same(turns: Sequence[Turn], others: Sequence[Turn]) -> bool:
    return len(turns) == len(others) and all(one == other for one, other in zip(turns, others, strict=True))


def _begins(turns: Sequence[Turn], others: Sequence[Turn]) -> bool:
    *earlier, last = turns
    if len(others) < len(turns) or list(others[: len(earlier)]) != earlier:
        return False
    other = others[len(earlier)]
    return other.role == last.role and other.content.startswith(last.content)


@dataclass
class Doing:
    """What the owner does now."""

    stop: Cancellation = field(default_factory=Cancellation)
    questions: list[Question] = field(default_factory=list)
    warm: WarmUp | None = None
    work: Pending | None = None
    is_interrupted: bool = False
    """Whether the questions begin anew, since another caller's comes first."""

    def make_room(self, question: Question) -> None:
        """Let ``question`` have its turn soon."""
        self.note_newer(question)
        if self.questions:
            self.stop.give_way()
            lanes = {each.lane for each in self.questions}
            rarely = all(each.n_interruptions < _MOST_INTERRUPTIONS for each in self.questions)
            if len(self.questions) > len(lanes) and question.lane not in lanes and rarely and not self.is_interrupted:
                # Several of one caller's at once are no single turn.
                self.is_interrupted = True
                for each in self.questions:
                    each.n_interruptions += 1
                self.stop.cancel()
        elif self.warm is not None:
            if not self.warm.serves(question):
                self.stop.cancel()
            elif self.warm.whole and not self.warm.is_about(question):
                self.stop.give_way()
        elif self.work is not None and self.work.may_be_stopped_by(question):
            self.work.n_interruptions += 1
            self.stop.cancel()

    def note_newer(self, asked: Question | WarmUp) -> None:
        """Have what is decided ahead end soon, if ``asked`` is about the same conversation with another text."""
        if self.warm is not None and self.warm.is_outdated_by(asked) and not self.warm.is_about(asked):
            self.warm.is_outdated = True
            self.stop.give_way()


@dataclass(eq=False)
class Pending:
    """Unfinished work, and what waits for it."""

    work: Work
    questions: list[Question] = field(default_factory=list)
    warms: list[WarmUp] = field(default_factory=list)
    stop: Cancellation | None = None
    """Stops it, if it runs apart."""
    n_interruptions: int = 0

    @property
    def waiting(self) -> list[Question | WarmUp]:
        """All that wait for it."""
        return [*self.questions, *self.warms]

    def drop(self, asked: Question | WarmUp) -> None:
        """Have ``asked`` wait no longer, and stop work that was for it alone."""
        self.questions = [each for each in self.questions if each is not asked]
        self.warms = [each for each in self.warms if each is not asked]
        if self.stop is not None and self.work.is_for_these_alone and not self.waiting:
            self.stop.cancel()

    def may_be_stopped_by(self, question: Question) -> bool:
        """Whether ``question`` can begin without it."""
        if self.work.table is None:
            return self.n_interruptions < _MOST_INTERRUPTIONS
        return self.work.table != question.table

    @staticmethod
    def drop_needless(works: dict[Hashable, Pending]) -> None:
        """Give up the oldest work that no question waits for, beyond what is worth finishing for later ones."""
        needless = [key for key, pending in works.items() if not pending.waiting and pending.stop is None]
        for key in needless[:-_MOST_NEEDLESS]:
            del works[key]

    @staticmethod
    def stop_apart(works: Iterable[Pending], *, only_needless: bool = False) -> None:
        """Stop work that runs apart from the owner; or only what no question waits for."""
        for pending in works:
            if pending.stop is not None and not (only_needless and pending.questions):
                pending.stop.cancel()
