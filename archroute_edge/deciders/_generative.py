"""Deciding with a language model that writes ``{"route": "..."}``: Arch-Router and its like."""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from archroute_edge.conversation import TrimmedConversation, Turn, trim
from archroute_edge.deciders._decider import Decider, UnfinishedError, Work, after_warm_up, stopped_for_others
from archroute_edge.deciders._settings import GenerativeSettings
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.decoding import (
    AnswerScorer,
    AnswerSet,
    Decoder,
    GrammarDecoder,
    KVCache,
    SavedStates,
    SpeculativeDecoder,
)
from archroute_edge.engine import (
    FLASH_ATTENTION_DEPTH,
    Cancellation,
    CompletionEngine,
    EngineSettings,
    LoadedModel,
    is_quantized_kv,
    open_engine,
    physical_cores,
)
from archroute_edge.errors import ContextOverflowError, EngineError, ModelFileError
from archroute_edge.prompts import PromptBuilder, PromptFormat, StaticParts, common_prefix_length
from archroute_edge.routes import RouteTable

logger = logging.getLogger(__name__)

_SMALLEST_CONTEXT: Final = 4096
# Joins of the conversation's text with what is around it, the guessed tokens, and the answer's own.
_SLACK_TOKENS: Final = 64
_MOST_TABLES: Final = 256
# A prepared table takes its texts, and the tokens of its prompt as Python's numbers.
_MOST_TABLE_BYTES: Final = 64 << 20
_BYTES_A_TOKEN: Final = 40


class GenerativeDecider(Decider):
    """One loaded model, a context that is large enough for the tables that were seen, and its caches.

    Args:
        model: loaded and checked; closed with the decider.
        name: stands in decisions as :attr:`Verdict.decided_by`.
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
        try:
            self._context.prepare(table)
        except BaseException:
            self.close()
            raise

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :meth:`Decider.decide_many` says, one after another."""
        cancellation = cancellation or Cancellation()
        return [self._decide(table, turns, scores, keep, cancellation) for turns in conversations]

    def _decide(
        self, table: RouteTable, turns: Sequence[Turn], scores: bool, keep: bool, cancellation: Cancellation
    ) -> Verdict:
        if cancellation.has_deadline and not self._context.is_ready(table):
            raise UnfinishedError(Work(table, lambda flag: self._pin(table, keep, flag), table))
        started = time.perf_counter()
        prepared = self._context.prepare(table)
        with self._context.engine.stopped_by(cancellation):
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
        spans = (ended - started, 0.0, rendered - started, decided - rendered, ended - decided)
        return Verdict(
            route=decoded.route,
            confidence=confidence,
            scores=all_scores,
            tokens=TokenCounts(len(prompt), n_reused, work.n_evaluated, n_answer, work.n_evaluations),
            timings=Timings(*(1000 * seconds for seconds in spans)),
            dropped_turns=kept.dropped,
            cut_turns=kept.cut,
            decided_by=self.name,
            prompt_format=self.prompt.format.name,
            engine=self.model.engine,
        )

    def _pin(self, table: RouteTable, keep: bool, cancellation: Cancellation) -> tuple[int, int]:
        """Evaluate the static prefix of ``table``, unless it is: its tokens, and how many were evaluated."""
        prefix = self._context.prepare(table).static.prefix
        with self._context.engine.stopped_by(cancellation):
            return len(prefix), self._context.cache.make_resident(prefix, keep=keep)

    def warm(
        self, table: RouteTable, turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        """As :meth:`Decider.warm` says: only what stays the same while the last turn grows is evaluated."""
        started = time.perf_counter()
        cancellation = cancellation or Cancellation()
        cancellation.check()
        if turns is None:
            n_tokens, n_evaluated = self._pin(table, keep, cancellation)
        else:
            static = self._context.prepare(table).static
            with self._context.engine.stopped_by(cancellation):
                kept = self._trim(turns, cancellation).turns
                prompt = self.prompt.tokens(table, kept)
                longer = self.prompt.tokens(table, [*kept[:-1], replace(kept[-1], content=kept[-1].content + " go on")])
                beginning = prompt[: max(common_prefix_length(prompt, longer), 1)]
                with self._context.cache.working(beginning, replace(static, n_closing=0), keep=keep) as (work, _):
                    work.extend(beginning[work.n_tokens :])
                n_tokens, n_evaluated = len(beginning), work.n_evaluated
        return Warmup(n_tokens, n_evaluated, 1000 * (time.perf_counter() - started))

    def decide_ahead(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """As :meth:`Decider.decide_ahead` says: what stays the same while the last turn grows is an evaluation of its own."""
        cancellation = cancellation or Cancellation()
        warmed = self.warm(table, turns, keep=keep, cancellation=cancellation)
        with stopped_for_others(cancellation) as flag:
            return after_warm_up(warmed, self.decide(table, turns, scores=scores, keep=keep, cancellation=flag))

    def check_table(self, table: RouteTable) -> None:
        """As :meth:`Decider.check_table` says: whether prompts for ``table`` can fit into the context, or a larger one."""
        self._context.cells_for(table, self.prompt.static_parts(table))

    @property
    def engine_settings(self) -> EngineSettings:
        """How the model is run at present, with everything chosen that the settings left open."""
        return self._context.engine.settings

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; it grows with the tables unless fixed."""
        return self._context.n_ctx

    @property
    def n_evictions(self) -> int:
        """How many conversations and prefixes have given way to others in the KV cache."""
        return self._context.n_evictions

    def close(self) -> None:
        """Free context and model."""
        self._context.close()
        self.model.close()

    def _trim(self, turns: Sequence[Turn], cancellation: Cancellation) -> TrimmedConversation:
        def count(turn: Turn) -> int:
            cancellation.check()
            return self.prompt.count_tokens(turn)

        return trim(turns, self.settings.budget, count)


@dataclass(frozen=True)
class PreparedTable:
    """What is worked out once for a route table."""

    static: StaticParts
    answers: AnswerSet
    scorer: AnswerScorer
    n_bytes: int


class TableContext:
    """A language model's context and the caches in it.

    Args:
        model: stays open when the context is closed.
        prompt: writes the model's prompts.
        settings: see :class:`GenerativeSettings`.
    """

    def __init__(self, model: LoadedModel, prompt: PromptBuilder, settings: GenerativeSettings) -> None:
        self._model = model
        self._prompt = prompt
        self._settings = settings
        self._tables: OrderedDict[RouteTable, PreparedTable] = OrderedDict()
        self._engine: CompletionEngine | None = None
        self._evictions_before = 0
        self.n_ctx = 0
        """Cells at present. From any thread."""
        self.cache: KVCache
        self.decoder: Decoder

    @property
    def engine(self) -> CompletionEngine:
        """The engine at present; a larger one takes its place when a table needs it.

        Raises:
            EngineError: closed.
        """
        if self._engine is None:
            raise EngineError("the router has been closed")
        return self._engine

    @property
    def n_evictions(self) -> int:
        """How many sequences have given way to others."""
        return self._evictions_before + (self.cache.n_evictions if self._engine is not None else 0)

    def is_ready(self, table: RouteTable) -> bool:
        """Whether the static prefix of ``table`` is evaluated."""
        prepared = self._tables.get(table)
        return prepared is not None and self.cache.is_resident(prepared.static.prefix)

    def prepare(self, table: RouteTable) -> PreparedTable:
        """What is known of ``table``, in a context that is large enough for it.

        Raises:
            ContextOverflowError: the model, or the ``n_ctx`` asked for, has too few positions.
            EngineError: closed.
        """
        prepared = self._tables.get(table)
        if prepared is None:
            static = self._prompt.static_parts(table)
            self._fit(table, static)
            try:
                answers = AnswerSet(self._model.vocabulary, self._prompt.answers(table))
            except EngineError as exc:
                raise ModelFileError(f"{self._model.path}: {exc}") from exc
            texts = sum(sys.getsizeof(route.name) + sys.getsizeof(route.description) for route in table)
            n_bytes = texts + _BYTES_A_TOKEN * len(static.prefix)
            prepared = self._tables[table] = PreparedTable(static, answers, AnswerScorer(answers), n_bytes)
            while len(self._tables) > _MOST_TABLES or (len(self._tables) > 1 and self._n_bytes() > _MOST_TABLE_BYTES):
                self._tables.popitem(last=False)
        self._tables.move_to_end(table)
        return prepared

    def _n_bytes(self) -> int:
        return sum(each.n_bytes for each in self._tables.values())

    def close(self) -> None:
        """Free the context."""
        self._tables.clear()
        if self._engine is not None:
            self._evictions_before = self.n_evictions
            self._engine.close()
            self._engine = None

    def cells_for(self, table: RouteTable, static: StaticParts) -> int:
        """Cells with which a prompt for ``table`` fits twice: this turn beside others' cells. From any thread.

        Raises:
            ContextOverflowError: the model, or the ``n_ctx`` asked for, has too few positions.
        """
        tokenize = self._model.vocabulary.tokenize
        n_answer = max(len(tokenize(answer.text)) for answer in self._prompt.answers(table)) + _SLACK_TOKENS
        needed = len(static.prefix) + self._settings.budget + static.n_closing + n_answer
        most = min(self._settings.n_ctx or self._model.n_ctx_train, self._model.n_ctx_train)
        if needed > most:
            limit, larger = ("n_ctx is", " or a larger n_ctx") if most == self._settings.n_ctx else ("the model takes", "")
            raise ContextOverflowError(
                f"the table of {len(table)} routes does not fit: {len(static.prefix)} tokens of routes, "
                f"{self._settings.budget} of conversation and {static.n_closing + n_answer} of instructions and answer "
                f"are {needed}, {limit} {most}; use fewer or shorter routes, a smaller budget{larger}"
            )
        return self._settings.n_ctx or min(most, max(_SMALLEST_CONTEXT, 2 * needed))

    def _fit(self, table: RouteTable, static: StaticParts) -> None:
        """Make the context, or a larger one if ``table`` needs it."""
        wanted = self.cells_for(table, static)
        if self._engine is not None and self._engine.n_ctx >= wanted:
            return
        if self._engine is not None:
            logger.info("the context grows from %d to %d cells; what it holds is evaluated again", self._engine.n_ctx, wanted)
            self.close()
        flash = self._settings.flash_attention
        if flash is None:
            short = len(static.prefix) <= FLASH_ATTENTION_DEPTH
            flash = self._model.n_gpu_layers != 0 or short or is_quantized_kv(self._settings.kv_type)
        settings = EngineSettings(
            wanted,
            self._settings.n_threads or physical_cores(),
            flash_attention=flash,
            kv_type=self._settings.kv_type,
            abortable=self._model.n_gpu_layers == 0,
        )
        engine = open_engine(self._model, settings)
        try:
            folder = self._settings.prefix_folder
            self.cache = KVCache(engine, SavedStates(folder, engine.state_key()) if folder else None)
            self.decoder = SpeculativeDecoder() if self._settings.decoder == "fast" else GrammarDecoder(self._model.vocabulary)
        except BaseException:
            engine.close()
            raise
        self._engine, self.n_ctx = engine, engine.n_ctx
