"""An encoder first, and a language model where it is not sure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from archroute_edge.conversation import Turn
from archroute_edge.deciders.encoder import EncoderDecider
from archroute_edge.deciders.interface import Decider
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.engine.loaded_model import LoadedModel
from archroute_edge.errors import EngineError
from archroute_edge.routes import RouteTable


class CascadeDecider:
    """Leaves a decision to the encoder where its confidence is at least ``switch_over``, else to a language model.

    Args:
        encoder: decides first; closed with the cascade.
        open_model: opens the language model, with a table to make room for. Called once, when it is first needed: until
            then nothing of its file is read.
        switch_over: 0 to 1.
    """

    def __init__(self, encoder: EncoderDecider, open_model: Callable[[RouteTable], Decider], switch_over: float) -> None:
        self._encoder = encoder
        self._open_model = open_model
        self.switch_over = switch_over
        self._model: Decider | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def model(self) -> LoadedModel:
        """The encoder."""
        return self._encoder.model

    def decide(self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, keep: bool = True) -> Verdict:
        """As :class:`archroute_edge.deciders.interface.Decider` says.

        Raises:
            ModelError: the language model is needed and cannot be loaded.
        """
        return self.decide_many(table, [turns], scores=scores, keep=keep)[0]

    def decide_many(
        self, table: RouteTable, conversations: Sequence[Sequence[Turn]], *, scores: bool = False, keep: bool = True
    ) -> list[Verdict]:
        """As :class:`archroute_edge.deciders.interface.Decider` says; the encoder takes them together.

        Raises:
            ModelError: the language model is needed and cannot be loaded.
        """
        verdicts = self._encoder.decide_many(table, conversations, scores=scores, keep=keep)
        return [
            verdict if verdict.confidence >= self.switch_over else self._ask_model(verdict, table, turns, scores, keep)
            for verdict, turns in zip(verdicts, conversations, strict=True)
        ]

    def _ask_model(self, first: Verdict, table: RouteTable, turns: Sequence[Turn], scores: bool, keep: bool) -> Verdict:
        """The model's verdict, with what both took. ``first`` is the answer that stands wherever the model gives none."""
        started = time.perf_counter()
        second = self._opened(table).decide(table, turns, scores=scores, keep=keep)
        # Opening the model is a part of what the decision took, and of none of its steps.
        total_ms = first.timings.total_ms + 1000 * (time.perf_counter() - started)
        return replace(
            second,
            tokens=_sum_of_tokens(first.tokens, second.tokens),
            timings=replace(_sum_of_timings(first.timings, second.timings), total_ms=total_ms),
        )

    def _opened(self, table: RouteTable) -> Decider:
        with self._lock:
            if self._closed:
                raise EngineError("the router has been closed")
            if self._model is None:
                self._model = self._open_model(table)
            return self._model

    @property
    def batch_size(self) -> int:
        """1: one that the language model has to decide would keep the others waiting."""
        return 1

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None) -> Warmup:
        """Warm the encoder, and the language model if it has been needed before."""
        warmed = self._encoder.warm(table, turns)
        with self._lock:
            model = self._model
        if model is None:
            return warmed
        second = model.warm(table, turns)
        return Warmup(warmed.tokens + second.tokens, warmed.evaluated + second.evaluated, warmed.total_ms + second.total_ms)

    @property
    def n_ctx(self) -> int:
        """Cells of the language model's KV cache; 0 until it has been needed."""
        with self._lock:
            return self._model.n_ctx if self._model is not None else 0

    def close(self) -> None:
        """Free both models. Further calls raise EngineError."""
        with self._lock:
            self._closed = True
            self._encoder.close()
            if self._model is not None:
                self._model.close()


def _sum_of_tokens(one: TokenCounts, other: TokenCounts) -> TokenCounts:
    return TokenCounts(
        one.prompt + other.prompt,
        one.reused + other.reused,
        one.evaluated + other.evaluated,
        one.answer + other.answer,
        one.evaluations + other.evaluations,
    )


def _sum_of_timings(one: Timings, other: Timings) -> Timings:
    return Timings(
        one.total_ms + other.total_ms,
        one.wait_ms + other.wait_ms,
        one.prompt_ms + other.prompt_ms,
        one.evaluate_ms + other.evaluate_ms,
        one.score_ms + other.score_ms,
    )
