"""What the router needs of a way to decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from archroute_edge.conversation import Turn
from archroute_edge.decision import Verdict, Warmup
from archroute_edge.engine.loaded_model import LoadedModel
from archroute_edge.routes import RouteTable


class Decider(Protocol):
    """Finds the route of a conversation. Thread-safe; closed once, after which every call raises EngineError."""

    @property
    def model(self) -> LoadedModel:
        """The loaded model; of several the one that decides first."""

    def decide(self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, keep: bool = True) -> Verdict:
        """The route for ``turns``, how probable it is, and with ``scores`` how probable every other is.

        ``keep`` says whether what is worked out for the table is worth saving for the next process.

        Raises:
            EngineError: llama.cpp failed; the next decision can go on.
        """

    def decide_many(
        self, table: RouteTable, conversations: Sequence[Sequence[Turn]], *, scores: bool = False, keep: bool = True
    ) -> list[Verdict]:
        """The verdicts on several conversations, in their order, as :meth:`decide` gives each."""

    @property
    def batch_size(self) -> int:
        """How many conversations are worth giving to :meth:`decide_many` at once; 1 where they are decided one by one."""

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None) -> Warmup:
        """Work out ahead of time what a decision on ``table``, or on a conversation that ends in ``turns``, begins with."""

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; 0 where there is none."""

    def close(self) -> None:
        """Free models and caches. Waits for a decision that is under way."""
