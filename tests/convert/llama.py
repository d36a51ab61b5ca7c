"""What llama.cpp itself makes of a GGUF: token ids and logits, through the plain C interface."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from archroute_edge.engine import _backend as backend

_lines: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _remember(_level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    _lines.append(text.decode("utf-8", "replace"))


@contextmanager
def listening() -> Iterator[list[str]]:
    """What llama.cpp logs meanwhile; whoever listened before listens again afterwards."""
    before, user_data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(user_data))
    _lines.clear()
    llama_cpp.llama_log_set(_remember, ctypes.c_void_p(0))
    try:
        yield _lines
    finally:
        llama_cpp.llama_log_set(before, user_data)


@contextmanager
def loaded(path: Path, *, vocabulary_only: bool = False) -> Iterator[Any]:
    """The model in ``path``, on the CPU, with kernels that are safe on it."""
    backend.initialise()
    with listening() as log:
        params = llama_cpp.llama_model_default_params()
        params.vocab_only, params.n_gpu_layers = vocabulary_only, 0
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert model, "".join(log)
        try:
            yield model
        finally:
            llama_cpp.llama_model_free(model)


def tokenize(model: Any, text: str, *, special: bool) -> list[int]:
    """Ids of ``text``; with ``special`` the control tokens in it are matched."""
    raw = text.encode()
    room = len(raw) + 8
    ids = (llama_cpp.llama_token * room)()
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), ids, room, False, special)
    assert count >= 0
    return list(ids[:count])


def logits(model: Any, token_ids: list[int]) -> npt.NDArray[np.float32]:
    """The next-token logits after each token: (tokens, vocabulary), with nothing rounded to half precision."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(len(token_ids), 32)
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = 0  # GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(token_ids), 0, 1)
    try:
        for place, token_id in enumerate(token_ids):
            batch.token[place], batch.pos[place], batch.logits[place] = token_id, place, True
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        batch.n_tokens = len(token_ids)
        assert llama_cpp.llama_decode(context, batch) == 0
        n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        rows = llama_cpp.llama_get_logits(context)
        result: npt.NDArray[np.float32] = np.ctypeslib.as_array(rows, shape=(len(token_ids), n_vocab)).copy()
        return result
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


def sentence_vector(model: Any, token_ids: list[int]) -> npt.NDArray[np.float32]:
    """The unit vector of one text, pooled as the GGUF says."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(len(token_ids), 32)
    params.n_threads = params.n_threads_batch = 1
    params.embeddings = True
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(token_ids), 0, 1)
    try:
        for place, token_id in enumerate(token_ids):
            batch.token[place], batch.pos[place], batch.logits[place] = token_id, place, True
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        batch.n_tokens = len(token_ids)
        assert llama_cpp.llama_decode(context, batch) == 0
        n_embd = llama_cpp.llama_model_n_embd(model)
        vector: npt.NDArray[np.float32] = np.ctypeslib.as_array(
            llama_cpp.llama_get_embeddings_seq(context, 0), shape=(n_embd,)
        ).copy()
        unit: npt.NDArray[np.float32] = vector / np.linalg.norm(vector)
        return unit
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
