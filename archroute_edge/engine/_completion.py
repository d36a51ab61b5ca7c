"""Completion: several sequences over one KV cache, logits for the tokens that want them; what both engines share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import psutil

from archroute_edge.engine._cancellation import Cancellation
from archroute_edge.engine._context import parts
from archroute_edge.engine._gguf_header import DEFAULT_KV_TYPE, bytes_per_cell
from archroute_edge.engine._interface import BatchToken, Logits
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.errors import EngineError, EvaluationStoppedError, ModelLoadError

N_SEQUENCES = 64
"""Sequences in a context. llama.cpp allows 256, but keeps a row of logits for each."""

N_BATCH = 512
"""Most tokens in one evaluation; longer input is evaluated in pieces of this size."""

GPU_N_BATCH = 64
"""The same for layers on a GPU: what runs there can only be stopped between two evaluations."""

FLASH_ATTENTION_DEPTH = 1024
"""Up to this many tokens of static prefix, flash attention is on (see docs/performance.md for the measurement)."""


@dataclass(frozen=True)
class EngineSettings:
    """How to run a model.

    Args:
        n_ctx: cells in the KV cache.
        n_threads: threads for evaluation.
        flash_attention: whether attention is computed by llama.cpp's flash-attention kernels.
        kv_type: number type of keys and values, one of :data:`archroute_edge.engine.KV_TYPES`.
        abortable: whether llama.cpp's abort callback is used, which no GPU looks at; without it, what is evaluated is cut
            into pieces of :data:`GPU_N_BATCH` tokens and stopped between them. The cuts decide how it is rounded.
    """

    n_ctx: int
    n_threads: int
    flash_attention: bool = True
    kv_type: str = DEFAULT_KV_TYPE
    abortable: bool = True

    @property
    def n_batch(self) -> int:
        """Most tokens in one evaluation."""
        return N_BATCH if self.abortable else GPU_N_BATCH


class CompletionEngine(ABC):
    """An :class:`Engine` that can be stopped: what both implementations share. Not thread-safe: one caller at a time.

    Args:
        model: stays open when the engine is closed.
        settings: how to run it.

    Raises:
        ModelLoadError: there is too little memory for ``n_ctx``.
    """

    n_sequences = N_SEQUENCES
    _handle: Any
    """The library's context; None once closed."""
    _piece_size: int
    """Most tokens in one evaluation."""

    def __init__(self, model: LoadedModel, settings: EngineSettings) -> None:
        self.model = model
        self.settings = settings
        self._cancellation = Cancellation()
        self._n_vocab = model.vocabulary.n_tokens
        n_bytes = ceil(settings.n_ctx * (bytes_per_cell(model.header, settings.kv_type) + self._work_bytes_per_cell()))
        if not model.n_gpu_layers and n_bytes > psutil.virtual_memory().available:
            raise ModelLoadError(
                f"{model.path}: a context of {settings.n_ctx} tokens needs {n_bytes >> 20} MiB of memory, and there are "
                f"{psutil.virtual_memory().available >> 20}; use a smaller n_ctx"
            )

    def _work_bytes_per_cell(self) -> float:
        """Bytes of a context, beside keys and values, that grow with its cells."""
        return 0.0

    @property
    @abstractmethod
    def n_ctx(self) -> int:
        """Cells in the KV cache, over all sequences."""

    @abstractmethod
    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target``, which has no cells there, share the cells of ``source`` at positions ``start`` to ``end``."""

    @abstractmethod
    def truncate(self, sequence: int, length: int) -> None:
        """Drop all cells of ``sequence`` but the first ``length``."""

    @abstractmethod
    def save(self, sequence: int) -> bytes:
        """The keys and values of ``sequence`` as the library writes them.

        Raises:
            EngineError: it wrote nothing.
        """

    @abstractmethod
    def load(self, sequence: int, state: bytes) -> None:
        """Put a saved state into ``sequence``, which must be empty. The caller vouches for the bytes.

        Raises:
            EngineError: the library did not take it; the sequence is left empty.
        """

    @abstractmethod
    def state_key(self) -> dict[str, object]:
        """Everything but the tokens that decides whether a saved state is valid in this engine."""

    @abstractmethod
    def close(self) -> None:
        """Free the context; the model stays."""

    @abstractmethod
    def _watch(self, cancellation: Cancellation) -> None:
        """Let ``cancellation`` stop what is evaluated from now on."""

    @abstractmethod
    def _evaluate_piece(self, piece: Sequence[BatchToken]) -> Logits | None:
        """The logits that ``piece``, asks for; None if it was stopped."""

    @contextmanager
    def stopped_by(self, cancellation: Cancellation) -> Iterator[None]:
        """Let ``cancellation`` stop what is evaluated in the block."""
        self._watch(cancellation)
        try:
            yield
        finally:
            if self._handle:
                self._watch(Cancellation())

    def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
        """Evaluate ``batch`` and return the logits it asks for, shape (number asked for, vocabulary size).

        Raises:
            ContextOverflowError: the KV cache has no room; nothing of the failed piece is kept.
            EvaluationStoppedError: the cancellation of :meth:`stopped_by` was set; finished pieces are kept.
            EngineError: the library failed, or the model computed something that is not a number.
        """
        rows, n_finished = [], 0
        for piece in parts(batch, self._piece_size, lambda entry: entry.wants_logits, N_SEQUENCES):
            row = None if self._cancellation.cancelled else self._evaluate_piece(piece)
            if row is None:
                raise EvaluationStoppedError("the evaluation was cancelled", n_finished=n_finished)
            rows.append(row)
            n_finished += len(piece)
        logits = np.concatenate(rows) if rows else np.empty((0, self._n_vocab), np.float32)
        if not np.isfinite(logits).all():
            raise EngineError(f"{self.model.path}: the model computed logits that are not numbers; the file is damaged")
        return logits
