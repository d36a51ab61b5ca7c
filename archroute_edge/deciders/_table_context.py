"""A language model's context, large enough for the route tables that were seen, and what is worked out once for each."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

from archroute_edge.deciders._settings import GenerativeSettings
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
    CompletionEngine,
    EngineSettings,
    LoadedModel,
    is_quantized_kv,
    physical_cores,
)
from archroute_edge.errors import ContextOverflowError, EngineError, ModelFileError
from archroute_edge.prompts import PromptBuilder, StaticParts
from archroute_edge.routes import RouteTable

logger = logging.getLogger(__name__)

_SMALLEST_CONTEXT = 4096
# Joins of the conversation's text with what is around it, the guessed tokens, and the answer's own.
_SLACK_TOKENS = 64
_MOST_TABLES = 256


@dataclass(frozen=True)
class PreparedTable:
    """What is worked out once for a route table."""

    static: StaticParts
    answers: AnswerSet
    scorer: AnswerScorer


class TableContext:
    """The context of one model and the caches in it. Not thread-safe: one caller at a time, but for :meth:`is_ready`.

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
        """Whether the static prefix of ``table`` is evaluated. From any thread; true a moment ago, not for ever."""
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
            prepared = PreparedTable(static, answers, AnswerScorer(answers))
            self._tables[table] = prepared
            if len(self._tables) > _MOST_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(table)
        return prepared

    def close(self) -> None:
        """Free the context."""
        self._tables.clear()
        if self._engine is not None:
            self._evictions_before = self.n_evictions
            self._engine.close()
            self._engine = None

    def check(self, table: RouteTable) -> None:
        """Make sure that prompts for ``table`` can fit. From any thread: nothing is evaluated, and no context is made.

        Raises:
            ContextOverflowError: the model, or the ``n_ctx`` asked for, has too few positions.
        """
        self._cells_for(table, self._prompt.static_parts(table))

    def _cells_for(self, table: RouteTable, static: StaticParts) -> int:
        """Cells with which a prompt for ``table`` fits twice: this turn beside others' cells."""
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
        """Make the context, or a larger one where ``table`` needs it."""
        wanted = self._cells_for(table, static)
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
        engine = self._engine = CompletionEngine(self._model, settings)
        folder = self._settings.prefix_folder
        self.cache = KVCache(engine, SavedStates(folder, engine.state_key()) if folder else None)
        self.decoder = SpeculativeDecoder() if self._settings.decoder == "fast" else GrammarDecoder(self._model.vocabulary)
