"""What the router needs of a way to decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from archroute_edge.conversation import Turn
from archroute_edge.decision import Verdict, Warmup
from archroute_edge.engine import Cancellation
from archroute_edge.routes import RouteTable

if TYPE_CHECKING:
    from archroute_edge.engine import LoadedModel


class Decider(Protocol):
    """Finds the route of a conversation. Thread-safe; closed once, after which every call raises EngineError."""

    @property
    def model(self) -> LoadedModel:
        """The loaded model; of several the one that decides first."""

    def decide(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """The route for ``turns``, how probable it is, and with ``scores`` how probable every other is.

        ``keep`` says whether what is worked out for the table is worth saving for the next process. Where ``cancellation``
        has a deadline, what every decision on the table needs goes on beyond it in the background.

        Raises:
            DecisionCancelledError: ``cancellation`` was set before there was any answer.
            EngineError: llama.cpp failed; the next decision can go on.
        """

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """The verdicts on several conversations, in their order, as :meth:`decide` gives each."""

    @property
    def batch_size(self) -> int:
        """How many conversations are worth giving to :meth:`decide_many` at once; 1 where they are decided one by one."""

    def stand_in(
        self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, cancellation: Cancellation | None = None
    ) -> Verdict | None:
        """What stands where there is no time for :meth:`decide`, if there is such a thing: of a cascade the encoder's answer.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: llama.cpp failed.
        """

    def check_table(self, table: RouteTable) -> None:
        """Make sure that decisions on ``table`` can be made. Waits for nobody.

        Raises:
            ContextOverflowError: it does not fit into the context.
        """

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None, *, cancellation: Cancellation | None = None) -> Warmup:
        """Work out ahead of time what a decision on ``table``, or on a conversation that ends in ``turns``, begins with.

        Raises:
            DecisionCancelledError: ``cancellation`` was set; what was finished is kept as far as it is exact.
        """

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; 0 where there is none."""

    @property
    def n_evictions(self) -> int:
        """How many conversations and prefixes have given way to others in the KV cache."""

    def close(self) -> None:
        """Free models and caches. Work in the background is stopped. Waits for a decision that is under way."""
