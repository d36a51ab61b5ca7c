"""Completion with llama.cpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Final

import llama_cpp
import numpy as np

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._batch import BatchArrays
from archroute_edge.engine._cancellation import ABORT_CALLBACK, Cancellation
from archroute_edge.engine._completion import N_SEQUENCES, CompletionEngine, EngineSettings
from archroute_edge.engine._context import LlamaContext, context_params
from archroute_edge.engine._gguf_header import KV_TYPES
from archroute_edge.engine._interface import BatchToken, Logits
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.errors import ContextOverflowError, EngineError

_ABORTED: Final = 2
"""What ``llama_decode`` returns if its abort callback said so."""


class LlamaEngine(LlamaContext, CompletionEngine):
    """A :class:`CompletionEngine` over a llama.cpp context.

    Raises:
        ModelLoadError: llama.cpp could not make the context (usually: too little memory for ``n_ctx``, or heads that
            a quantized ``kv_type`` does not fit).
    """

    def __init__(self, model: LoadedModel, settings: EngineSettings) -> None:
        CompletionEngine.__init__(self, model, settings)
        self._piece_size = min(settings.n_batch, settings.n_ctx)
        params = context_params(settings.n_ctx, settings.n_batch, N_SEQUENCES)
        params.n_outputs_max = N_SEQUENCES
        params.flash_attn_type = int(settings.flash_attention)
        params.type_k = params.type_v = KV_TYPES[settings.kv_type]
        LlamaContext.__init__(self, model, params, settings.n_threads, f"of {settings.n_ctx} tokens")
        self._memory = llama_cpp.llama_get_memory(self._handle)

    @property
    def n_ctx(self) -> int:
        """Cells in the KV cache, over all sequences."""
        return int(llama_cpp.llama_n_ctx(self._open()))

    def _watch(self, cancellation: Cancellation) -> None:
        handle = self._open()
        if self.settings.abortable:
            llama_cpp.llama_set_abort_callback(handle, ABORT_CALLBACK, cancellation.address)
        # Kept, since llama.cpp reads its memory from now on.
        self._cancellation = cancellation

    def _evaluate_piece(self, piece: Sequence[BatchToken]) -> Logits | None:
        """The logits that ``piece`` asks for; None if it was stopped."""
        handle = self._open()
        n_tokens = len(piece)
        batch = BatchArrays.of(piece)
        status = self._run(llama_cpp.llama_decode, batch)
        if status == _ABORTED:
            return None
        if status == 1:
            raise ContextOverflowError(f"{n_tokens} more tokens do not fit into the context of {self.n_ctx}")
        if status != 0:
            raise EngineError(f"llama.cpp failed to evaluate {n_tokens} tokens ({status}): {backend.take_last_error()}")
        found = [llama_cpp.llama_get_logits_ith(handle, int(index)) for index in np.flatnonzero(batch.wanted)]
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
