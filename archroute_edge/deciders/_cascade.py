"""An encoder first, and a language model where it is not sure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from archroute_edge.conversation import Turn
from archroute_edge.deciders._background import BackgroundWork
from archroute_edge.deciders._calibration import Calibration
from archroute_edge.deciders._encoder import EncoderDecider
from archroute_edge.deciders._interface import Decider
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.engine import Cancellation, LoadedModel
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.routes import RouteTable


class CascadeDecider:
    """Leaves a decision to the encoder where its confidence is at least ``switch_over``, else to a language model.

    Args:
        encoder: decides first; closed with the cascade.
        open_model: opens the language model, with a table to make room for and a flag that stops the loading. Called when
            it is first needed, and again after a failure: until then nothing of its file is read.
        switch_over: 0 to 1.
        calibration: of the encoder. Its verdicts are calibrated, and their confidences compared with ``switch_over``, then.
    """

    def __init__(
        self,
        encoder: EncoderDecider,
        open_model: Callable[[RouteTable, Cancellation], Decider],
        switch_over: float,
        calibration: Calibration | None = None,
    ) -> None:
        self._encoder = encoder
        self._calibration = calibration
        self._open_model = open_model
        self.switch_over = switch_over
        self._model: Decider | None = None
        self._opening = BackgroundWork()

    @property
    def model(self) -> LoadedModel:
        """The encoder."""
        return self._encoder.model

    def decide(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """As :class:`archroute_edge.deciders.Decider` says.

        Raises:
            ModelError: the language model is needed and cannot be loaded.
        """
        return self.decide_many(table, [turns], scores=scores, keep=keep, cancellation=cancellation)[0]

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :class:`archroute_edge.deciders.Decider` says; the encoder takes them together.

        Its answers stand where the deadline of ``cancellation`` passes before the language model has one.

        Raises:
            ModelError: the language model is needed and cannot be loaded.
        """
        cancellation = cancellation or Cancellation()
        wanted = scores or self._calibration is not None
        found = self._encoder.decide_many(table, conversations, scores=wanted, keep=keep, cancellation=cancellation)
        verdicts = [self._calibrated(verdict, scores) for verdict in found]
        return [
            verdict
            if verdict.confidence >= self.switch_over
            else self._ask_model(verdict, table, turns, scores, keep, cancellation)
            for verdict, turns in zip(verdicts, conversations, strict=True)
        ]

    def _calibrated(self, verdict: Verdict, scores: bool) -> Verdict:
        if self._calibration is None:
            return verdict
        assert verdict.scores is not None
        answer = self._calibration.apply(verdict.route, verdict.scores)
        kept = answer.scores if scores else None
        return replace(verdict, route=answer.route, confidence=answer.confidence, scores=kept, reason=answer.reason)

    def _ask_model(
        self,
        first: Verdict,
        table: RouteTable,
        turns: Sequence[Turn],
        scores: bool,
        keep: bool,
        cancellation: Cancellation,
    ) -> Verdict:
        """The model's verdict, with what both took; ``first`` where there is no time for it."""
        started = time.perf_counter()
        try:
            model = self._opened(table, cancellation)
            second = model.decide(table, turns, scores=scores, keep=keep, cancellation=cancellation)
        except DecisionCancelledError:
            if not cancellation.timed_out:
                raise
            total_ms = first.timings.total_ms + 1000 * (time.perf_counter() - started)
            return replace(first, timings=replace(first.timings, total_ms=total_ms), reason="deadline")
        # Opening the model is a part of what the decision took, and of none of its steps.
        total_ms = first.timings.total_ms + 1000 * (time.perf_counter() - started)
        return replace(
            second,
            tokens=_sum_of_tokens(first.tokens, second.tokens),
            timings=replace(_sum_of_timings(first.timings, second.timings), total_ms=total_ms),
        )

    def _opened(self, table: RouteTable, cancellation: Cancellation) -> Decider:
        """The language model. Opening it goes on where ``cancellation`` does not wait for its end."""

        def open_model(closing: Cancellation) -> None:
            if self._model is None:
                self._model = self._open_model(table, closing)

        if self._model is None:
            self._opening.finish("model", open_model, cancellation)
        assert self._model is not None
        return self._model

    def stand_in(
        self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, cancellation: Cancellation | None = None
    ) -> Verdict | None:
        """The encoder's verdict, where its vectors of the routes are ready."""
        wanted = scores or self._calibration is not None
        verdict = self._encoder.decide(table, turns, scores=wanted, keep=False, cancellation=cancellation)
        return replace(self._calibrated(verdict, scores), reason="deadline")

    @property
    def batch_size(self) -> int:
        """1: one that the language model has to decide would keep the others waiting."""
        return 1

    def check_table(self, table: RouteTable) -> None:
        """Ask the language model, if it has been needed before."""
        if self._model is not None:
            self._model.check_table(table)

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None, *, cancellation: Cancellation | None = None) -> Warmup:
        """Warm the encoder, and the language model if it has been needed before."""
        warmed = self._encoder.warm(table, turns, cancellation=cancellation)
        if self._model is None:
            return warmed
        second = self._model.warm(table, turns, cancellation=cancellation)
        return Warmup(warmed.tokens + second.tokens, warmed.evaluated + second.evaluated, warmed.total_ms + second.total_ms)

    @property
    def n_ctx(self) -> int:
        """Cells of the language model's KV cache; 0 until it has been needed."""
        return self._model.n_ctx if self._model is not None else 0

    @property
    def n_evictions(self) -> int:
        """Evictions from the language model's KV cache."""
        return self._model.n_evictions if self._model is not None else 0

    def close(self) -> None:
        """Free both models; one that is being loaded is not loaded to its end. Further calls raise EngineError."""
        self._opening.close()
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
