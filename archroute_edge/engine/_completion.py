"""Completion with llama.cpp: several sequences over one KV cache, logits for the tokens that want them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Final

import llama_cpp
import numpy as np
import psutil

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._cancellation import ABORT_CALLBACK, Cancellation
from archroute_edge.engine._context import LlamaContext, context_params, parts
from archroute_edge.engine._gguf_header import DEFAULT_KV_TYPE, KV_TYPES, bytes_per_cell
from archroute_edge.engine._interface import BatchToken, Logits
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.errors import ContextOverflowError, EngineError, EvaluationStoppedError, ModelLoadError

N_SEQUENCES = 64
"""Sequences in a context. llama.cpp allows 256, but keeps a row of logits for each."""

N_BATCH = 512
"""Most tokens in one evaluation; longer input is evaluated in pieces of this size."""

GPU_N_BATCH = 64
"""The same for layers on a GPU: what runs there can only be stopped between two evaluations."""

_ABORTED: Final = 2
"""What ``llama_decode`` returns if its abort callback said so."""

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


class CompletionEngine(LlamaContext):
    """An :class:`Engine` over a llama.cpp context. Not thread-safe: one caller at a time.

    Raises:
        ModelLoadError: llama.cpp could not make the context (usually: too little memory for ``n_ctx``, or heads that
            a quantized ``kv_type`` does not fit).
    """

    n_sequences = N_SEQUENCES

    def __init__(self, model: LoadedModel, settings: EngineSettings) -> None:
        self.settings = settings
        n_bytes = ceil(settings.n_ctx * bytes_per_cell(model.header, settings.kv_type))
        if not model.n_gpu_layers and n_bytes > psutil.virtual_memory().available:
            raise ModelLoadError(
                f"{model.path}: a context of {settings.n_ctx} tokens needs {n_bytes >> 20} MiB of memory, and there are "
                f"{psutil.virtual_memory().available >> 20}; use a smaller n_ctx"
            )
        params = context_params(settings.n_ctx, settings.n_batch, N_SEQUENCES)
        params.n_outputs_max = N_SEQUENCES
        params.flash_attn_type = int(settings.flash_attention)
        params.type_k = params.type_v = KV_TYPES[settings.kv_type]
        super().__init__(model, params, settings.n_threads, f"of {settings.n_ctx} tokens")
        self._n_batch = int(llama_cpp.llama_n_batch(self._handle))
        self._memory = llama_cpp.llama_get_memory(self._handle)
        self._n_vocab = model.vocabulary.n_tokens
        self._cancellation = Cancellation()

    @property
    def n_ctx(self) -> int:
        """Cells in the KV cache, over all sequences."""
        return int(llama_cpp.llama_n_ctx(self._open()))

    @contextmanager
    def stopped_by(self, cancellation: Cancellation) -> Iterator[None]:
        """Let ``cancellation`` stop what is evaluated in the block."""
        self._watch(cancellation)
        try:
            yield
        finally:
            if self._handle:
                self._watch(Cancellation())

    def _watch(self, cancellation: Cancellation) -> None:
        handle = self._open()
        if self.settings.abortable:
            llama_cpp.llama_set_abort_callback(handle, ABORT_CALLBACK, cancellation.address)
        # Kept, since llama.cpp reads its memory from now on.
        self._cancellation = cancellation

    def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
        """Evaluate ``batch`` and return the logits it asks for, shape (number asked for, vocabulary size).

        Raises:
            ContextOverflowError: the KV cache has no room; nothing of the failed piece is kept.
            EvaluationStoppedError: the cancellation of :meth:`stopped_by` was set; finished pieces are kept.
            EngineError: llama.cpp failed, or the model computed something that is not a number.
        """
        rows, n_finished = [], 0
        for piece in parts(batch, self._n_batch, lambda entry: entry.wants_logits, N_SEQUENCES):
            row = None if self._cancellation.cancelled else self._evaluate_piece(piece)
            if row is None:
                raise EvaluationStoppedError("the evaluation was cancelled", n_finished=n_finished)
            rows.append(row)
            n_finished += len(piece)
        logits = np.concatenate(rows) if rows else np.empty((0, self._n_vocab), np.float32)
        if not np.isfinite(logits).all():
            raise EngineError(f"{self.model.path}: the model computed logits that are not numbers; the file is damaged")
        return logits

    def _evaluate_piece(self, piece: Sequence[BatchToken]) -> Logits | None:
        """The logits that ``piece`` asks for; None if it was stopped."""
        handle = self._open()
        n_tokens = len(piece)
        wanted = np.array([entry.wants_logits for entry in piece], np.int8)
        status = self._run(
            llama_cpp.llama_decode,
            np.array([entry.token for entry in piece], np.int32),
            np.array([entry.position for entry in piece], np.int32),
            np.array([len(entry.sequences) for entry in piece], np.int32),
            np.array([number for entry in piece for number in entry.sequences], np.int32),
            wanted,
        )
        if status == _ABORTED:
            return None
        if status == 1:
            raise ContextOverflowError(f"{n_tokens} more tokens do not fit into the context of {self.n_ctx}")
        if status != 0:
            raise EngineError(f"llama.cpp failed to evaluate {n_tokens} tokens ({status}): {backend.take_last_error()}")
        found = [llama_cpp.llama_get_logits_ith(handle, int(index)) for index in np.flatnonzero(wanted)]
        if not found:
            return np.empty((0, self._n_vocab), np.float32)
        return np.stack([np.ctypeslib.as_array(row, (self._n_vocab,)) for row in found])

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target``, which has no cells there, share the cells of ``source`` at positions ``start`` to ``end``."""
        self._open()
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, start, end)

    def truncate(self, sequence: int, length: int) -> None:
        """Drop all cells of ``sequence`` but the first ``length``."""
        self._open()
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise EngineError(f"{self.model.path}: llama.cpp cannot cut sequence {sequence} back to {length} tokens")

    def save(self, sequence: int) -> bytes:
        """The keys and values of ``sequence`` as llama.cpp writes them.

        Raises:
            EngineError: llama.cpp wrote nothing.
        """
        handle = self._open()
        size = llama_cpp.llama_state_seq_get_size(handle, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_seq_get_data(handle, buffer, size, sequence)
        if not 0 < written <= size:
            raise EngineError(f"llama.cpp could not save sequence {sequence}")
        return memoryview(buffer)[:written].tobytes()

    def load(self, sequence: int, state: bytes) -> None:
        """Put a saved state into ``sequence``, which must be empty. The caller vouches for the bytes.

        Raises:
            EngineError: llama.cpp did not take it; the sequence is left empty.
        """
        handle = self._open()
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        backend.take_last_error()
        if llama_cpp.llama_state_seq_set_data(handle, buffer, len(state), sequence) != len(state):
            self.truncate(sequence, 0)
            raise EngineError(f"llama.cpp did not take a saved state: {backend.take_last_error() or 'it does not fit'}")

    def state_key(self) -> dict[str, object]:
        """Everything but the tokens that decides whether a saved state is valid in this engine."""
        params = llama_cpp.llama_context_default_params()
        return {
            **super().state_key(),
            "flash_attention": self.settings.flash_attention,
            "kv_types": [KV_TYPES[self.settings.kv_type]] * 2,
            "rope": [params.rope_scaling_type, params.rope_freq_base, params.rope_freq_scale],
            "n_batch": self.settings.n_batch,
        }
