"""An encoder first, and a language model if it is not sure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from archroute_edge.conversation import Turn
from archroute_edge.deciders._calibration import Calibration
from archroute_edge.deciders._decider import Decider, UnfinishedError, Work, after_warm_up, stopped_for_others
from archroute_edge.deciders._encoder import EncoderDecider
from archroute_edge.decision import Reason, Timings, TokenCounts, Verdict, Warmup
from archroute_edge.engine import Cancellation
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.routes import RouteTable


class CascadeDecider(Decider):
    """Leaves a decision to the encoder if its confidence is at least ``switch_over``, else to a language model.

    One that the language model has to decide would keep others waiting, so only one caller's list is taken together.

    Args:
        encoder: decides first; closed with the cascade.
        open_model: opens the language model, with a table to make room for and a flag that stops it. Called when it is first
            needed, and again after a failure: until then nothing of its file is read. None if a subclass asks another one.
        switch_over: 0 to 1.
        calibration: of the encoder. Its verdicts are calibrated, and their confidences compared with ``switch_over``, then.
    """

    list_size = EncoderDecider.list_size

    def __init__(
        self,
        encoder: EncoderDecider,
        open_model: Callable[[RouteTable, Cancellation], Decider] | None,
        switch_over: float,
        calibration: Calibration | None = None,
    ) -> None:
        self.model = encoder.model
        self._encoder = encoder
        self._calibration = calibration
        self._open_model = open_model
        self.switch_over = switch_over
        self._second: Decider | None = None

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :meth:`Decider.decide_many` says; the encoder's answers stand if there is no time for the language model's.

        Raises:
            ModelError: the language model is needed and cannot be loaded.
        """
        cancellation = cancellation or Cancellation()
        wanted = scores or self._calibration is not None
        found = self._encoder.decide_many(table, conversations, scores=wanted, keep=keep, cancellation=cancellation)
        return self._complete(found, [(table, turns) for turns in conversations], scores, keep, cancellation)

    def decide_by_tables(
        self,
        tables: Sequence[RouteTable],
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :meth:`Decider.decide_by_tables` says; the language model is asked by those of which the encoder is unsure.

        Raises:
            ModelError: the language model is needed and cannot be loaded.
        """
        cancellation = cancellation or Cancellation()
        wanted = scores or self._calibration is not None
        found = self._encoder.decide_by_tables(tables, turns, scores=wanted, keep=keep, cancellation=cancellation)
        return self._complete(found, [(table, turns) for table in tables], scores, keep, cancellation)

    def _complete(
        self,
        found: Sequence[Verdict],
        asked: Sequence[tuple[RouteTable, Sequence[Turn]]],
        scores: bool,
        keep: bool,
        cancellation: Cancellation,
    ) -> list[Verdict]:
        """The encoder's verdicts, those that it is unsure of replaced by the language model's."""
        verdicts = [self._calibrated(verdict, scores) for verdict in found]
        unsure = [index for index, verdict in enumerate(verdicts) if verdict.confidence < self.switch_over]
        return self._ask_second(verdicts, unsure, time.perf_counter(), asked, scores, keep, cancellation)

    def _ask_second(
        self,
        verdicts: list[Verdict],
        unsure: list[int],
        began: float,
        asked: Sequence[tuple[RouteTable, Sequence[Turn]]],
        scores: bool,
        keep: bool,
        cancellation: Cancellation,
    ) -> list[Verdict]:
        """``verdicts``, those that are ``unsure`` replaced by the language model's, with what both took."""
        for number, index in enumerate(unsure):
            first = verdicts[index]
            resume = partial(self._ask_second, verdicts, unsure[number:], began, asked, scores, keep)
            if number and cancellation.gives_way:
                raise UnfinishedError(None, at_deadline(verdicts, unsure[number:]), resume)
            try:
                second = self._second_of(*asked[index], scores, keep, cancellation)
            except UnfinishedError as exc:
                # The encoder can decide on this table without it.
                work = exc.work and replace(exc.work, table=None)
                raise UnfinishedError(work, at_deadline(verdicts, unsure[number:]), resume) from None
            except DecisionCancelledError:
                if not cancellation.timed_out:
                    raise
                second = None
            # Opening the model is a part of what the decision took, and of none of its steps.
            seconds = time.perf_counter() - began
            verdicts[index] = both(first, second, seconds) if second is not None else alone(first, "deadline", seconds)
            began = time.perf_counter()
        return verdicts

    def _second_of(
        self, table: RouteTable, turns: Sequence[Turn], scores: bool, keep: bool, cancellation: Cancellation
    ) -> Verdict:
        if self._second is None:
            # Beside decisions that the encoder is sure of: loading takes seconds.
            open_second = partial(self._open_second, table, keep, cancellation.has_deadline)
            raise UnfinishedError(Work("language model", open_second, is_apart=True))
        return self._second.decide(table, turns, scores=scores, keep=keep, cancellation=cancellation)

    def _calibrated(self, verdict: Verdict, scores: bool) -> Verdict:
        if self._calibration is None:
            return verdict
        assert verdict.scores is not None
        answer = self._calibration.apply(verdict.route, verdict.scores)
        kept = answer.scores if scores else None
        return replace(verdict, route=answer.route, confidence=answer.confidence, scores=kept, reason=answer.reason)

    def _open_second(self, table: RouteTable, keep: bool, has_deadline: bool, cancellation: Cancellation) -> None:
        """Open the language model; if decisions may leave before they are done, also get it ready for ``table``."""
        assert self._open_model is not None
        second = self._open_model(table, cancellation)
        try:
            if has_deadline:
                second.warm(table, None, keep=keep, cancellation=cancellation)
        except BaseException:
            second.close()
            raise
        self._second = second

    def stand_in(
        self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, time_limit: float | None = None
    ) -> Verdict | None:
        """The encoder's verdict."""
        return self.stand_in_by_tables([table], turns, scores=scores, time_limit=time_limit)[0]

    def stand_in_by_tables(
        self, tables: Sequence[RouteTable], turns: Sequence[Turn], *, scores: bool = False, time_limit: float | None = None
    ) -> Sequence[Verdict | None]:
        """The encoder's verdicts: all of them, or none."""
        none = [None] * len(tables)
        wanted = scores or self._calibration is not None
        # Many may come at once: even to begin takes time.
        if time_limit is not None and time_limit <= 0.0:
            return none
        with suppress(DecisionCancelledError, UnfinishedError), Cancellation().until(time_limit) as limit:
            found = self._encoder.decide_by_tables(tables, turns, scores=wanted, keep=False, cancellation=limit)
            return [replace(self._calibrated(verdict, scores), reason="deadline") for verdict in found]
        return none

    def check_table(self, table: RouteTable) -> None:
        """Ask the language model, if it has been needed before."""
        if self._second is not None:
            self._second.check_table(table)

    def warm(
        self, table: RouteTable, turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        """Warm the encoder, and the language model if it has been needed before."""
        warmed = self._encoder.warm(table, turns, keep=keep, cancellation=cancellation)
        if self._second is None:
            return warmed
        second = self._second.warm(table, turns, keep=keep, cancellation=cancellation)
        return Warmup(warmed.tokens + second.tokens, warmed.evaluated + second.evaluated, warmed.total_ms + second.total_ms)

    def decide_ahead(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """As :meth:`Decider.decide_ahead` says; the language model is asked, and loaded, only if the encoder is unsure."""
        cancellation = cancellation or Cancellation()
        with stopped_for_others(cancellation) as flag:
            wanted = scores or self._calibration is not None
            found = self._encoder.decide(table, turns, scores=wanted, keep=keep, cancellation=flag)
        warmed = Warmup(0, 0, 0.0)
        if self._second is not None and self._calibrated(found, scores).confidence < self.switch_over:
            warmed = self._second.warm(table, turns, keep=keep, cancellation=cancellation)
        with stopped_for_others(cancellation) as flag:
            return after_warm_up(warmed, self._complete([found], [(table, turns)], scores, keep, flag)[0])

    @property
    def n_ctx(self) -> int:
        """Cells of the language model's KV cache; 0 until it has been needed."""
        return self._second.n_ctx if self._second is not None else 0

    @property
    def n_evictions(self) -> int:
        """Evictions from the language model's KV cache."""
        return self._second.n_evictions if self._second is not None else 0

    def close(self) -> None:
        """Free both models."""
        self._encoder.close()
        if self._second is not None:
            self._second.close()


def both(first: Verdict, second: Verdict, seconds: float) -> Verdict:
    """The verdict of the second model, which came ``seconds`` after the encoder's, with what both took."""
    total_ms = first.timings.total_ms + 1000 * seconds
    timings = replace(Timings(**_sums(first.timings, second.timings)), total_ms=total_ms)
    tokens = TokenCounts(**_sums(first.tokens, second.tokens))
    return replace(second, tokens=tokens, timings=timings, vector=first.vector)


def at_deadline(verdicts: Sequence[Verdict], unsure: Sequence[int]) -> list[Verdict]:
    """``verdicts``, with what stands for those that are ``unsure`` if there is no time for a second model."""
    return [replace(each, reason="deadline") if index in unsure else each for index, each in enumerate(verdicts)]


def alone(first: Verdict, reason: Reason, seconds: float) -> Verdict:
    """The encoder's verdict, which stands after ``seconds`` for want of the second model's."""
    total_ms = first.timings.total_ms + 1000 * seconds
    return replace(first, timings=replace(first.timings, total_ms=total_ms), reason=reason)


def _sums(one: TokenCounts | Timings, other: TokenCounts | Timings) -> dict[str, Any]:
    return {name: value + vars(other)[name] for name, value in vars(one).items()}
