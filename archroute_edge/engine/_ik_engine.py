"""Completion with ik_llama.cpp.

Its KV cache is llama.cpp's of 2024, and differs from today's in what this module makes up for:

- Tokens that are evaluated together need cells side by side. Where only scattered ones are left, the cells are moved together
  first, with nothing to stop it: a move that is broken off would leave keys and values in the wrong cells.
- It looks for the last used cell at the ends of blocks of 32 alone. If these are empty, it leaves used cells above them out of
  the attention, which then computes wrong numbers, or none. So once a sequence was cut back, this module looks where the next
  tokens will go, and moves the cells together first if the library would not see all of them.
- An evaluation that the abort callback stops returns as if it had been finished, and its cells stay. So the flag is looked at
  afterwards, and the cells are dropped.
- Its flash attention ends the process where a sum is not a number, which a damaged model brings about. It is not used: at the
  length of a routing prompt it takes as long as attention without it (docs/engines.md).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._batch import BatchArrays
from archroute_edge.engine._cancellation import ABORT_CALLBACK, Cancellation
from archroute_edge.engine._completion import N_SEQUENCES, CompletionEngine, EngineSettings
from archroute_edge.engine._gguf_header import DEFAULT_KV_TYPE, KV_TYPES
from archroute_edge.engine._ik_weights import build_key, free_here, initialised, take_last_error
from archroute_edge.engine._interface import BatchToken, Logits
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.errors import ContextOverflowError, EngineError, ModelLoadError
from archroute_edge.system import OwnProcess

# Without flash attention the scores of a piece stand in memory: one for each of its tokens, each head and each cell. In a large
# context pieces are smaller.
_MOST_SCORE_BYTES: Final = 256 << 20
_SMALLEST_PIECE: Final = 64
# Cells of a block: the attention is over whole ones.
_BLOCK: Final = 32
# Each time as many cells are moved as a graph has nodes for.
_MOST_MOVES: Final = 64


class IkEngine(CompletionEngine):
    """A :class:`CompletionEngine` over a context of ik_llama.cpp.

    Raises:
        ModelLoadError: it could not make the context (usually: too little memory for ``n_ctx``), or ``settings`` ask for
            what it does not do here.
    """

    def __init__(self, model: LoadedModel, settings: EngineSettings) -> None:
        self._n_heads = model.header.integer(f"{model.header.architecture}.attention.head_count") or 1
        fitting = _MOST_SCORE_BYTES // (4 * self._n_heads * settings.n_ctx)
        self._piece_size = min(settings.n_batch, settings.n_ctx, max(fitting, _SMALLEST_PIECE))
        super().__init__(model, replace(settings, flash_attention=False))
        if settings.kv_type != DEFAULT_KV_TYPE:
            raise ModelLoadError(f"{model.path}: ik_llama.cpp is used with a KV cache of {DEFAULT_KV_TYPE} here")
        weights = model.ik_weights
        self._api = api = initialised()
        params = api.llama_context_default_params()
        params.n_ctx = settings.n_ctx
        params.n_batch = params.n_ubatch = self._piece_size
        # It says how many rows of logits are kept and cleared each time, and nothing about sequences.
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = settings.n_threads
        params.flash_attn = params.offload_kqv = False
        # Two products in one operation take no less time, and an evaluation can only be stopped between operations.
        params.fused_up_gate = False
        # It would save the making of a graph where one token follows another, which a decision hardly does.
        params.graph_reuse = False
        params.type_k = params.type_v = KV_TYPES[settings.kv_type]
        take_last_error()
        with backend.making():
            self._handle = api.llama_init_from_model(weights.handle, params)
        if not self._handle:
            reason = take_last_error() or "no reason given"
            raise ModelLoadError(f"{model.path}: no context of {settings.n_ctx} tokens could be made: {reason}")
        # It holds the weights, so that they outlive the context even if the garbage collector takes both.
        self._free = weakref.finalize(self, free_here, api.llama_free, self._handle, weights, OwnProcess())
        self._free.atexit = False
        # Whether there may be empty cells below used ones that have not been looked at.
        self._has_gaps = False
        # What states begin with: the library reads a state of another shape past the end of its memory.
        self._mark = hashlib.sha256(json.dumps(self.state_key(), sort_keys=True).encode()).digest()

    def _work_bytes_per_cell(self) -> float:
        # Scores and mask. The library prints where it cannot have what it needs, so it is not asked for too much.
        return 4.0 * (self._n_heads + 1) * self._piece_size

    @property
    def n_ctx(self) -> int:
        """Cells in the KV cache, over all sequences."""
        return int(self._api.llama_n_ctx(self._open()))

    def _open(self) -> Any:
        if not self._handle:
            raise EngineError(f"{self.model.path}: the engine has been closed")
        return self._handle

    def _watch(self, cancellation: Cancellation) -> None:
        self._api.llama_set_abort_callback(self._open(), ABORT_CALLBACK, cancellation.address)
        # Kept, since the library reads its memory from now on.
        self._cancellation = cancellation

    def _evaluate_piece(self, piece: Sequence[BatchToken]) -> Logits | None:
        handle, api = self._open(), self._api
        self._check_tokens(piece)
        n_tokens = len(piece)
        arrays = BatchArrays.of(piece)
        batch = arrays.structure(api.llama_batch)
        n_threads = backend.usable_threads(self.settings.n_threads)
        api.llama_set_n_threads(handle, n_threads, n_threads)
        take_last_error()

        def decode() -> int:
            self._show_all_cells(n_tokens)
            return int(api.llama_decode(handle, batch))

        status = self._with_room(n_tokens, decode, lambda found: found != 1)
        if status == 1:
            raise ContextOverflowError(f"{n_tokens} more tokens do not fit into the context of {self.n_ctx}")
        if status != 0:
            self._drop(piece)
            raise EngineError(f"ik_llama.cpp failed to evaluate {n_tokens} tokens ({status}): {take_last_error()}")
        rows = np.flatnonzero(arrays.wanted)
        # Reading them waits for the evaluation.
        found = [api.llama_get_logits_ith(handle, int(index)) for index in rows]
        if self._cancellation.cancelled:
            self._drop(piece)
            return None
        if not found:
            return np.empty((0, self._n_vocab), np.float32)
        return np.stack([np.ctypeslib.as_array(row, (self._n_vocab,)) for row in found])

    def _check_tokens(self, piece: Sequence[BatchToken]) -> None:
        """The library reads past the end of its tables for a token or a sequence that there is not."""
        for entry in piece:
            if not 0 <= entry.token < self._n_vocab:
                raise EngineError(f"{self.model.path}: there is no token {entry.token}; the vocabulary has {self._n_vocab}")
            if not all(0 <= number < N_SEQUENCES for number in entry.sequences):
                raise EngineError(f"there are {N_SEQUENCES} sequences, and a token is for {entry.sequences}")

    def _drop(self, piece: Sequence[BatchToken]) -> None:
        """Take the cells of ``piece`` back."""
        first: dict[int, int] = {}
        for entry in piece:
            for number in entry.sequences:
                first[number] = min(entry.position, first.get(number, entry.position))
        for number, position in first.items():
            self.truncate(number, position)

    def _with_room(self, n_cells: int, attempt: Callable[[], int], fits: Callable[[int], bool]) -> int:
        """What ``attempt`` returns, which needs ``n_cells`` side by side: cells are moved together as long as that may help."""
        found = attempt()
        for _ in range(_MOST_MOVES):
            if fits(found) or self.n_ctx - self._api.llama_get_kv_cache_used_cells(self._open()) < n_cells:
                break
            self._move_together()
            take_last_error()
            found = attempt()
        return found

    def _move_together(self) -> None:
        """Move used cells into empty ones below them, as many as one graph has nodes for."""
        handle, api = self._open(), self._api
        self._has_gaps = True
        api.llama_set_abort_callback(handle, None, None)
        try:
            api.llama_kv_cache_defrag(handle)
            if api.llama_kv_cache_update(handle) != 0:
                raise EngineError(f"ik_llama.cpp failed to move cells together: {take_last_error()}")
        finally:
            self._watch(self._cancellation)

    def _used_cells(self) -> npt.NDArray[np.bool_]:
        """Which cells of the KV cache are used."""
        handle, api = self._open(), self._api
        view = api.llama_kv_cache_view_init(handle, 1)
        try:
            api.llama_kv_cache_view_update(handle, view)
            return np.ctypeslib.as_array(view.cells, (view.n_cells,)) >= 0
        finally:
            api.llama_kv_cache_view_free(view)

    def _show_all_cells(self, n_tokens: int) -> None:
        """Have the library see all used cells when ``n_tokens`` more are evaluated."""
        if not self._has_gaps:
            return
        self._search_from_start()
        used = self._used_cells()
        before = np.concatenate(([0], np.cumsum(used)))
        places = np.flatnonzero(before[n_tokens:] == before[:-n_tokens])
        if not len(places):
            return  # Nothing will be evaluated.
        used[places[0] : places[0] + n_tokens] = True
        last = int(np.flatnonzero(used)[-1])
        start = last // _BLOCK * _BLOCK
        if start and last != start + _BLOCK - 1 and not used[start - 1]:
            self._close_gaps()
            self._search_from_start()
        # Until a sequence is cut again, tokens go into gaps or next to the last used cell.
        self._has_gaps = False

    def _search_from_start(self) -> None:
        """Have the library look for empty cells from the first one on: so it does after a copy, here one of nothing."""
        self._api.llama_kv_cache_seq_cp(self._open(), 0, 1, 0, 0)

    def _close_gaps(self) -> None:
        """Move cells together until no empty one is below a used one."""
        for _ in range(_MOST_MOVES):
            used = self._used_cells()
            if used[: np.count_nonzero(used)].all():
                break
            self._move_together()

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target``, which has no cells there, share the cells of ``source`` at positions ``start`` to ``end``."""
        self._api.llama_kv_cache_seq_cp(self._open(), source, target, start, end)

    def truncate(self, sequence: int, length: int) -> None:
        """Drop all cells of ``sequence`` but the first ``length``."""
        self._has_gaps = True
        if not self._api.llama_kv_cache_seq_rm(self._open(), sequence, length, -1):
            raise EngineError(f"{self.model.path}: ik_llama.cpp cannot cut sequence {sequence} back to {length} tokens")

    def save(self, sequence: int) -> bytes:
        """The keys and values of ``sequence`` as ik_llama.cpp writes them.

        Raises:
            EngineError: it wrote nothing.
        """
        handle = self._open()
        size = self._api.llama_state_seq_get_size(handle, sequence, 0)
        buffer = (ctypes.c_uint8 * size)()
        written = self._api.llama_state_seq_get_data(handle, buffer, size, sequence, 0)
        if not 0 < written <= size:
            raise EngineError(f"ik_llama.cpp could not save sequence {sequence}")
        return self._mark + memoryview(buffer)[:written].tobytes()

    def load(self, sequence: int, state: bytes) -> None:
        """Put a saved state into ``sequence``, which must be empty. The caller vouches for the bytes.

        Raises:
            EngineError: ik_llama.cpp did not take it; the sequence is left empty.
        """
        handle = self._open()
        if not state.startswith(self._mark):
            raise EngineError(f"{self.model.path}: a saved state is not of this model, engine and machine")
        state = state[len(self._mark) :]
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        take_last_error()

        def put() -> int:
            taken = int(self._api.llama_state_seq_set_data(handle, buffer, len(state), sequence, 0))
            if taken != len(state):
                self.truncate(sequence, 0)
            return taken

        self._has_gaps = True
        # A state begins with the number of its cells.
        n_cells = int.from_bytes(state[:4], sys.byteorder)
        if self._with_room(n_cells, put, lambda taken: taken == len(state)) != len(state):
            raise EngineError(f"ik_llama.cpp did not take a saved state: {take_last_error() or 'it does not fit'}")

    def state_key(self) -> dict[str, object]:
        """Everything but the tokens that decides whether a saved state is valid in this engine."""
        return {
            **build_key(self.model.fingerprint),
            "kv_type": self.settings.kv_type,
            "n_batch": self._piece_size,
        }

    def close(self) -> None:
        """Free the context; the model stays."""
        self._free()
        self._handle = None
