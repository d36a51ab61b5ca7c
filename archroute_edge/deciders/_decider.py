"""The base class of deciders, and the work that a decision may have to wait for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from archroute_edge.conversation import Turn
from archroute_edge.decision import Verdict, Warmup
from archroute_edge.engine import Cancellation
from archroute_edge.errors import RemoteError
from archroute_edge.routes import RouteTable

if TYPE_CHECKING:
    from archroute_edge.engine import LoadedModel


@dataclass(frozen=True)
class Work:
    """What many decisions need first: a static prefix, the vectors of a table, a loaded model.

    A scheduler goes on with it past their deadlines: if those are shorter than the work, it would never be done.
    """

    key: Hashable
    """Equal for equal work."""
    run: Callable[[Cancellation], object]
    """Does it. Stopped by the flag it keeps what is finished, and goes on there when it is called again."""
    table: RouteTable | None = None
    """Decisions on this table cannot begin without it."""
    is_apart: bool = False
    """Whether it uses nothing that decisions use, and can run in a thread beside them."""
    is_for_these_alone: bool = False
    """Whether it is stopped when no question waits for it any more: later ones would have nothing of it."""


class UnfinishedError(Exception):
    """Decisions need some work first.

    Args:
        work: to be done before they are asked for again; None if others are to have their turn.
        found: the verdicts of this turn, from its first one on, that stand if there is no time for that.
        resume: goes on with the decisions, instead of beginning again.
    """

    def __init__(
        self,
        work: Work | None,
        found: Sequence[Verdict] = (),
        resume: Callable[[Cancellation], list[Verdict]] | None = None,
    ) -> None:
        super().__init__(work)
        self.work = work
        self.found = found
        self.resume = resume


class Decider(ABC):
    """Finds the route of a conversation. One caller at a time, except where it says "from any thread"."""

    model: LoadedModel
    """The loaded model; if there are several, the one that decides first."""
    batch_size: int = 1
    """How many conversations of several callers are worth giving to :meth:`decide_many` at once."""
    list_size: int = 1
    """How many conversations of one caller's list are."""
    kept_s: float = 600.0
    """Seconds for which a verdict may answer the same question again."""

    @abstractmethod
    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """The verdicts on several conversations, in their order.

        Args:
            table: the routes.
            conversations: the turns of each.
            scores: also say how probable every other route is.
            keep: whether what is worked out for the table is worth saving for the next process.
            cancellation: stops it. If it has a deadline, what every decision on the table needs is not worked out here.

        Raises:
            UnfinishedError: that work has to be done first.
            DecisionCancelledError: ``cancellation`` was set, or asked to give way.
            ContextOverflowError: the table does not fit into the context.
            EngineError: llama.cpp failed; the next decision can go on.
        """

    def decide_each(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Sequence[Verdict | RemoteError]:
        """As :meth:`decide_many`, with an error in the place of each verdict that a server did not give."""
        return self.decide_many(table, conversations, scores=scores, keep=keep, cancellation=cancellation)

    def decide(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """The verdict on one conversation, as :meth:`decide_many` gives it."""
        return self.decide_many(table, [turns], scores=scores, keep=keep, cancellation=cancellation)[0]

    def decide_by_tables(
        self,
        tables: Sequence[RouteTable],
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """The verdicts on one conversation by several tables, in their order: at least the first, or more in one turn.

        A prompt has its routes before the conversation, so a language model reads the conversation again for each table.
        """
        return [self.decide(tables[0], turns, scores=scores, keep=keep, cancellation=cancellation)]

    @abstractmethod
    def warm(
        self, table: RouteTable, turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        """Work out ahead of time what a decision on ``table``, or on a conversation that ends in ``turns``, begins with.

        The last turn may be unfinished. What is finished when ``cancellation`` is set stays in memory. ``keep`` is as for
        :meth:`decide_many`.
        """

    def decide_ahead(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """The verdict on a conversation that may go on, before it is asked for.

        If ``cancellation`` is asked to give way, only what a decision on a longer text begins with is finished. The verdict's
        tokens count that too.

        Raises:
            UnfinishedError: as :meth:`decide_many`.
            DecisionCancelledError: ``cancellation`` was set, or asked to give way.
            ArchRouteError: as :meth:`decide_many`.
        """
        with stopped_for_others(cancellation) as flag:
            return self.decide(table, turns, scores=scores, keep=keep, cancellation=flag)

    def stand_in(
        self, _table: RouteTable, _turns: Sequence[Turn], *, scores: bool = False, time_limit: float | None = None
    ) -> Verdict | None:
        """A quick answer, if there is one within ``time_limit`` seconds. From any thread, also during a decision."""
        return None

    def stand_in_by_tables(
        self, tables: Sequence[RouteTable], turns: Sequence[Turn], *, scores: bool = False, time_limit: float | None = None
    ) -> Sequence[Verdict | None]:
        """As :meth:`stand_in`, by several tables within the one time limit."""
        return [self.stand_in(table, turns, scores=scores, time_limit=time_limit) for table in tables]

    def check_table(self, _table: RouteTable) -> None:
        """Make sure that decisions on a table can be made. From any thread.

        Raises:
            ContextOverflowError: it does not fit into the context.
        """
        return

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; 0 if there is none. From any thread."""
        return 0

    @property
    def epoch(self) -> int:
        """Another number than before if another model may decide now: verdicts from before answer nothing. From any thread."""
        return 0

    @property
    def n_evictions(self) -> int:
        """How many conversations and prefixes have given way to others in the KV cache. From any thread."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Free models and caches."""


@contextmanager
def stopped_for_others(cancellation: Cancellation | None) -> Iterator[Cancellation]:
    """A flag that is set with ``cancellation``, and if that was or is asked to give way; the block is what it is good for."""
    cancellation = cancellation or Cancellation()
    with cancellation.interruptible() as flag:
        if cancellation.gives_way:
            flag.cancel()
        yield flag


def after_warm_up(warmed: Warmup, verdict: Verdict) -> Verdict:
    """``verdict``, with the tokens that were evaluated for it in ``warmed`` counted as such."""
    tokens = verdict.tokens
    counts = replace(
        tokens,
        reused=max(0, tokens.reused - warmed.evaluated),
        evaluated=tokens.evaluated + warmed.evaluated,
        evaluations=tokens.evaluations + (warmed.evaluated > 0),
    )
    return replace(verdict, tokens=counts)
