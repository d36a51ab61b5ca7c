"""Deciding with a language model that writes ``{"route": "..."}``: Arch-Router and its like."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from archroute_edge.conversation import DEFAULT_BUDGET, TrimmedConversation, Turn, trim
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.decoding import AnswerSet, Decoder, GrammarDecoder, SpeculativeDecoder
from archroute_edge.engine.backend import physical_cores
from archroute_edge.engine.completion import (
    DEFAULT_KV_TYPE,
    FLASH_ATTENTION_DEPTH,
    CompletionEngine,
    EngineSettings,
    is_quantized_kv,
)
from archroute_edge.engine.loaded_model import LoadedModel
from archroute_edge.errors import ContextOverflowError, EngineError, ModelFileError
from archroute_edge.prefix_cache import PrefixCache
from archroute_edge.prompt import PromptBuilder, StaticParts, common_prefix_length
from archroute_edge.prompt_formats import PromptFormat
from archroute_edge.routes import RouteTable
from archroute_edge.saved_prefixes import SavedPrefixes
from archroute_edge.scoring import AnswerScorer

logger = logging.getLogger(__name__)

DecoderName = Literal["fast", "grammar"]

_SMALLEST_CONTEXT = 4096
# Joins of the conversation's text with what is around it, the guessed tokens, and the answer's own.
_SLACK_TOKENS = 64
_MOST_TABLES = 256


@dataclass(frozen=True)
class GenerativeSettings:
    """How a generative decider works. None means: fit to the model and the machine.

    Args:
        decoder: ``fast``, or ``grammar`` for llama.cpp's own sampler.
        n_ctx: cells of the KV cache.
        n_threads: threads for evaluation; the physical cores by default.
        n_gpu_layers: layers on the GPU; all by default, where the build has one.
        budget: tokens of conversation in a prompt.
        flash_attention: by default on for short static prefixes and off for long ones, as measured.
        prefix_folder: where static prefixes are saved; None saves none.
        kv_type: number type of the KV cache; quantized ones turn flash attention on, without which there are none.
    """

    decoder: DecoderName = "fast"
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    budget: int = DEFAULT_BUDGET
    flash_attention: bool | None = None
    prefix_folder: Path | None = None
    kv_type: str = DEFAULT_KV_TYPE


@dataclass(frozen=True)
class _Table:
    """What is worked out once for a route table."""

    static: StaticParts
    answers: AnswerSet
    scorer: AnswerScorer


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
        self._lock = threading.Lock()
        self._tables: OrderedDict[RouteTable, _Table] = OrderedDict()
        self._engine: CompletionEngine | None = None
        self._closed = False
        try:
            with self._lock:
                self._prepare(table)
        except BaseException:
            self.close()
            raise

    def decide(self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, keep: bool = True) -> Verdict:
        """The route for ``turns``, how probable it is, and with ``scores`` how probable every other is.

        ``keep`` says whether the table's static prefix is worth saving for the next process.

        Raises:
            ContextOverflowError: the table does not fit into the context; the message gives the counts.
            EngineError: llama.cpp failed; the next decision can go on.
        """
        started = time.perf_counter()
        with self._lock:
            locked = time.perf_counter()
            prepared = self._prepare(table)
            kept = self._trim(turns)
            prompt = self.prompt.tokens(table, kept.turns)
            rendered = time.perf_counter()
            with self._cache.working(prompt, prepared.static, keep=keep) as (work, n_reused):
                rest, n_before = prompt[work.n_tokens :], work.n_evaluated
                decoded = self._decoder.decode(work, rest, prepared.answers)
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
        self, table: RouteTable, conversations: Sequence[Sequence[Turn]], *, scores: bool = False, keep: bool = True
    ) -> list[Verdict]:
        """The verdicts on several conversations, one after another."""
        return [self.decide(table, turns, scores=scores, keep=keep) for turns in conversations]

    @property
    def batch_size(self) -> int:
        """1: each decision has the cache for itself."""
        return 1

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None) -> Warmup:
        """Evaluate ahead of time what a decision on ``table``, or on a conversation that ends in ``turns``, begins with.

        The last turn may be unfinished: only what stays the same while it grows is evaluated.
        """
        started = time.perf_counter()
        with self._lock:
            prepared = self._prepare(table)
            if turns is None:
                n_tokens, n_evaluated = len(prepared.static.prefix), self._cache.pin(prepared.static.prefix)
            else:
                kept = self._trim(turns).turns
                prompt = self.prompt.tokens(table, kept)
                longer = self.prompt.tokens(table, [*kept[:-1], replace(kept[-1], content=kept[-1].content + " go on")])
                beginning = prompt[: max(common_prefix_length(prompt, longer), 1)]
                with self._cache.working(beginning, replace(prepared.static, n_closing=0)) as (work, _):
                    work.extend(beginning[work.n_tokens :])
                n_tokens, n_evaluated = len(beginning), work.n_evaluated
        return Warmup(n_tokens, n_evaluated, 1000 * (time.perf_counter() - started))

    @property
    def engine_settings(self) -> EngineSettings:
        """How the model is run at present, with everything chosen that the settings left open."""
        with self._lock:
            return self._open_engine().settings

    @property
    def n_ctx(self) -> int:
        """Cells of the KV cache at present; it grows with the tables unless fixed."""
        with self._lock:
            return self._open_engine().n_ctx

    def close(self) -> None:
        """Free context and model. Further calls raise EngineError."""
        with self._lock:
            self._closed = True
            self._tables.clear()
            if self._engine is not None:
                self._engine.close()
            self.model.close()

    def _open_engine(self) -> CompletionEngine:
        if self._engine is None or self._closed:
            raise EngineError("the router has been closed")
        return self._engine

    def _trim(self, turns: Sequence[Turn]) -> TrimmedConversation:
        return trim(turns, self.settings.budget, self.prompt.count_tokens)

    def _prepare(self, table: RouteTable) -> _Table:
        """What is known of ``table``, in a context that is large enough for it."""
        if self._closed:
            raise EngineError("the router has been closed")
        prepared = self._tables.get(table)
        if prepared is None:
            static = self.prompt.static_parts(table)
            self._fit_context(table, static)
            engine = self._open_engine()
            try:
                answers = AnswerSet(engine, self.prompt.answers(table))
            except EngineError as exc:
                raise ModelFileError(f"{self.model.path}: {exc}") from exc
            prepared = _Table(static, answers, AnswerScorer(answers))
            self._tables[table] = prepared
            if len(self._tables) > _MOST_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(table)
        return prepared

    def _fit_context(self, table: RouteTable, static: StaticParts) -> None:
        """Make the context, or a larger one, so that a prompt for ``table`` fits twice: this turn beside others' cells.

        Raises:
            ContextOverflowError: the model, or the ``n_ctx`` asked for, has too few positions.
        """
        tokenize = self.model.vocabulary.tokenize
        n_answer = max(len(tokenize(answer.text)) for answer in self.prompt.answers(table)) + _SLACK_TOKENS
        needed = len(static.prefix) + self.settings.budget + static.n_closing + n_answer
        most = min(self.settings.n_ctx or self.model.n_ctx_train, self.model.n_ctx_train)
        if needed > most:
            limit, larger = ("n_ctx is", " or a larger n_ctx") if most == self.settings.n_ctx else ("the model takes", "")
            raise ContextOverflowError(
                f"the table of {len(table)} routes does not fit: {len(static.prefix)} tokens of routes, "
                f"{self.settings.budget} of conversation and {static.n_closing + n_answer} of instructions and answer "
                f"are {needed}, {limit} {most}; use fewer or shorter routes, a smaller budget{larger}"
            )
        wanted = self.settings.n_ctx or min(most, max(_SMALLEST_CONTEXT, 2 * needed))
        if self._engine is not None and self._engine.n_ctx >= wanted:
            return
        if self._engine is not None:
            logger.info("the context grows from %d to %d cells; what it holds is evaluated again", self._engine.n_ctx, wanted)
            self._tables.clear()
            self._engine.close()
            self._engine = None
        flash = self.settings.flash_attention
        if flash is None:
            short = len(static.prefix) <= FLASH_ATTENTION_DEPTH
            flash = self.model.n_gpu_layers != 0 or short or is_quantized_kv(self.settings.kv_type)
        n_threads = self.settings.n_threads or physical_cores()
        engine = CompletionEngine(
            self.model, EngineSettings(wanted, n_threads, flash_attention=flash, kv_type=self.settings.kv_type)
        )
        folder = self.settings.prefix_folder
        self._engine = engine
        self._cache = PrefixCache(engine, SavedPrefixes(folder, engine.state_key()) if folder else None)
        self._decoder: Decoder = SpeculativeDecoder() if self.settings.decoder == "fast" else GrammarDecoder(engine)
