"""Deciding with a language model that writes ``{"route": "..."}``: Arch-Router and its like."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from archroute_edge.conversation import TrimmedConversation, Turn, trim
from archroute_edge.deciders._background import BackgroundWork
from archroute_edge.deciders._evaluation_lock import EvaluationLock
from archroute_edge.deciders._settings import GenerativeSettings
from archroute_edge.deciders._table_context import PreparedTable, TableContext
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.engine import Cancellation, EngineSettings, LoadedModel
from archroute_edge.errors import DecisionCancelledError, EngineError
from archroute_edge.prompts import PromptBuilder, PromptFormat, common_prefix_length
from archroute_edge.routes import RouteTable


class GenerativeDecider:
    """One loaded model, its context and its caches. Thread-safe: decisions wait for each other.

    Args:
        model: loaded and checked; closed with the decider.
        name: what decisions say of who decided.
        prompt_format: how the model wants to be asked.
        settings: see :class:`GenerativeSettings`.
        table: a route table that the context is sized for at once.
    """

    def __init__(
        self, model: LoadedModel, name: str, prompt_format: PromptFormat, settings: GenerativeSettings, table: RouteTable
    ) -> None:
        self.model = model
        self.name = name
        self.settings = settings
        self.prompt = PromptBuilder(model, prompt_format)
        self._context = TableContext(model, self.prompt, settings)
        self._lock = EvaluationLock()
        self._background = BackgroundWork()
        self._closed = False
        try:
            with self._evaluating(table, Cancellation()):
                pass
        except BaseException:
            self.close()
            raise

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

        ``keep`` says whether the table's static prefix is worth saving for the next process. Where ``cancellation`` has a
        deadline, a static prefix that is not evaluated yet is evaluated in the background, and goes on beyond it.

        Raises:
            ContextOverflowError: the table does not fit into the context; the message gives the counts.
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: llama.cpp failed; the next decision can go on.
        """
        started = time.perf_counter()
        cancellation = cancellation or Cancellation()
        self._wait_for_prefix(table, keep, cancellation)
        with self._evaluating(table, cancellation) as prepared:
            locked = time.perf_counter()
            kept = self._trim(turns, cancellation)
            prompt = self.prompt.tokens(table, kept.turns)
            rendered = time.perf_counter()
            with self._context.cache.working(prompt, prepared.static, keep=keep) as (work, n_reused):
                rest, n_before = prompt[work.n_tokens :], work.n_evaluated
                decoded = self._context.decoder.decode(work, rest, prepared.answers)
                decided = time.perf_counter()
                all_scores = prepared.scorer.scores(work, len(prompt), decoded) if scores else None
                confidence = (
                    all_scores[decoded.route]
                    if all_scores is not None
                    else prepared.scorer.confidence(work, len(prompt), decoded)
                )
            ended = time.perf_counter()
        n_answer = work.n_evaluated - n_before - len(rest)
        return Verdict(
            route=decoded.route,
            confidence=confidence,
            scores=all_scores,
            tokens=TokenCounts(len(prompt), n_reused, work.n_evaluated, n_answer, work.n_evaluations),
            timings=Timings(
                *(
                    1000 * seconds
                    for seconds in (ended - started, locked - started, rendered - locked, decided - rendered, ended - decided)
                )
            ),
            dropped_turns=kept.dropped,
            cut_turns=kept.cut,
            decided_by=self.name,
            prompt_format=self.prompt.format.name,
        )

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """The verdicts on several conversations, one after another."""
        return [self.decide(table, turns, scores=scores, keep=keep, cancellation=cancellation) for turns in conversations]

    def stand_in(
        self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, cancellation: Cancellation | None = None
    ) -> None:
        """None: there is no quicker way to an answer."""

    @property
    def batch_size(self) -> int:
        """1: each decision has the cache for itself."""
        return 1

    def check_table(self, table: RouteTable) -> None:
        """Make sure that prompts for ``table`` can fit into the context, or into a larger one. Waits for nobody.

        Raises:
            ContextOverflowError: they cannot; the message gives the counts.
        """
        self._check_open()
        self._context.check(table)

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None, *, cancellation: Cancellation | None = None) -> Warmup:
        """Evaluate ahead of time what a decision on ``table``, or on a conversation that ends in ``turns``, begins with.

        The last turn may be unfinished: only what stays the same while it grows is evaluated.
        """
        started = time.perf_counter()
        cancellation = cancellation or Cancellation()
        with self._evaluating(table, cancellation) as prepared:
            cache, static = self._context.cache, prepared.static
            if turns is None:
                n_tokens, n_evaluated = len(static.prefix), cache.make_resident(static.prefix)
            else:
                kept = self._trim(turns, cancellation).turns
                prompt = self.prompt.tokens(table, kept)
                longer = self.prompt.tokens(table, [*kept[:-1], replace(kept[-1], content=kept[-1].content + " go on")])
                beginning = prompt[: max(common_prefix_length(prompt, longer), 1)]
                with cache.working(beginning, replace(static, n_closing=0)) as (work, _):
                    work.extend(beginning[work.n_tokens :])
                n_tokens, n_evaluated = len(beginning), work.n_evaluated
        return Warmup(n_tokens, n_evaluated, 1000 * (time.perf_counter() - started))

    @contextmanager
    def _evaluating(self, table: RouteTable, cancellation: Cancellation) -> Iterator[PreparedTable]:
        """Have the context alone, ready for ``table``; ``cancellation`` stops what is evaluated."""
        # What is being evaluated for this very table would only be lost.
        with self._lock.decision(cancellation, stop_others=not self._background.is_at(table)):
            self._check_open()
            prepared = self._context.prepare(table)
            with self._context.engine.stopped_by(cancellation):
                yield prepared

    def _wait_for_prefix(self, table: RouteTable, keep: bool, cancellation: Cancellation) -> None:
        """Have the static prefix of ``table`` evaluated where this decision may have to leave before that is done."""
        if cancellation.has_deadline and not self._context.is_ready(table):
            self._background.finish(table, lambda closing: self._evaluate_prefix(table, keep, closing), cancellation)

    def _evaluate_prefix(self, table: RouteTable, keep: bool, closing: Cancellation) -> None:
        while True:
            with self._lock.spare_time(closing) as flag:
                self._check_open()
                try:
                    prefix = self._context.prepare(table).static.prefix
                    with self._context.engine.stopped_by(flag):
                        self._context.cache.make_resident(prefix, keep=keep)
                except DecisionCancelledError:
                    # A decision on another table came between; whole pieces are kept.
                    closing.check()
                else:
                    return

    @property
    def engine_settings(self) -> EngineSettings:
        """How the model is run at present, with everything chosen that the settings left open."""
        with self._lock.decision(Cancellation()):
            return self._context.engine.settings

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; it grows with the tables unless fixed."""
        with self._lock.decision(Cancellation()):
            return self._context.engine.n_ctx

    @property
    def n_evictions(self) -> int:
        """How many conversations and prefixes have given way to others in the KV cache."""
        return self._context.n_evictions

    def close(self) -> None:
        """Free context and model. Further calls raise EngineError."""
        self._background.close()
        with self._lock.closing():
            self._closed = True
            self._context.close()
            self.model.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the router has been closed")

    def _trim(self, turns: Sequence[Turn], cancellation: Cancellation) -> TrimmedConversation:
        def count(turn: Turn) -> int:
            cancellation.check()
            return self.prompt.count_tokens(turn)

        return trim(turns, self.settings.budget, count)
