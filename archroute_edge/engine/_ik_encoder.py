"""Sentence vectors with ik_llama.cpp.

This module makes up for how it differs from llama.cpp:

- It has ``llama_encode`` for models that decode afterwards alone, and evaluates encoders by ``llama_decode``.
- It reads past the end of its tables for a token that there is not, so tokens are checked here.
- If an evaluation has four tokens, its product of attention and values is wrong (0.1.5, AVX2). So few tokens get company: a
  text of their own, which no other sees.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

import numpy as np

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._batch import BatchArrays
from archroute_edge.engine._cancellation import ABORT_CALLBACK, Cancellation
from archroute_edge.engine._ik_weights import build_key, free_here, initialised, take_last_error
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.errors import EngineError, ModelLoadError
from archroute_edge.system import OwnProcess

_FEWEST: Final = 16
"""Tokens of an evaluation."""


class IkEncoder:
    """A context of ik_llama.cpp that computes vectors. Not thread-safe: one caller at a time.

    Args:
        model: a sentence encoder with its weights in ik_llama.cpp; it stays open when this is closed.
        n_threads: threads for evaluation.
        n_tokens: most tokens of an evaluation.
        n_texts: most texts of an evaluation.

    Raises:
        ModelLoadError: ik_llama.cpp could not make the context.
    """

    def __init__(self, model: LoadedModel, n_threads: int, n_tokens: int, n_texts: int) -> None:
        self.model = model
        self._n_threads, self._n_vocab = n_threads, model.vocabulary.n_tokens
        weights = model.ik_weights
        self._api = api = initialised()
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = n_tokens
        params.n_seq_max = n_texts
        params.n_threads = params.n_threads_batch = n_threads
        params.embeddings = True
        params.flash_attn = params.offload_kqv = False
        # As for completion: an evaluation can only be stopped between operations, and each text makes its own graph.
        params.fused_up_gate = params.graph_reuse = False
        take_last_error()
        with backend.making():
            self._handle = api.llama_init_from_model(weights.handle, params)
        if not self._handle:
            raise ModelLoadError(
                f"{model.path}: no context for embeddings could be made: {take_last_error() or 'no reason given'}"
            )
        # It holds the weights, so that they outlive the context even if the garbage collector takes both.
        self._free = weakref.finalize(self, free_here, api.llama_free, self._handle, weights, OwnProcess())
        self._free.atexit = False

    def evaluate(self, batch: BatchArrays, n_texts: int, cancellation: Cancellation) -> list[Any]:
        """As :meth:`~archroute_edge.engine._embedding.Encoder.evaluate` says."""
        api, handle = self._api, self._handle
        if not handle:
            raise EngineError(f"{self.model.path}: the engine has been closed")
        if not ((batch.tokens >= 0) & (batch.tokens < self._n_vocab)).all():
            raise EngineError(f"{self.model.path}: a token is none of the {self._n_vocab} of the vocabulary")
        batch = _with_company(batch, n_texts)
        n_threads = backend.usable_threads(self._n_threads)
        api.llama_set_n_threads(handle, n_threads, n_threads)
        api.llama_set_abort_callback(handle, ABORT_CALLBACK, cancellation.address)
        take_last_error()
        status = api.llama_decode(handle, batch.structure(api.llama_batch))
        rows = [api.llama_get_embeddings_seq(handle, number) for number in range(n_texts)]
        # An evaluation that was stopped returns as if it had been finished.
        cancellation.check()
        if status != 0:
            raise EngineError(f"ik_llama.cpp failed to encode {len(batch.tokens)} tokens ({status}): {take_last_error()}")
        if not all(rows):
            raise EngineError(f"{self.model.path}: ik_llama.cpp gave no vector for a text")
        return rows

    def state_key(self) -> dict[str, object]:
        """As :meth:`~archroute_edge.engine._embedding.Encoder.state_key` says."""
        return build_key(self.model.fingerprint)

    def close(self) -> None:
        """Free the context; the model stays."""
        self._free()
        self._handle = None


def _with_company(batch: BatchArrays, n_texts: int) -> BatchArrays:
    """``batch``, and as a text after its own as many tokens as it lacks, all at the first position: a model may have few."""
    n_more = _FEWEST - len(batch.tokens)
    if n_more <= 0:
        return batch
    return BatchArrays(
        np.append(batch.tokens, np.zeros(n_more, np.int32)),
        np.append(batch.positions, np.zeros(n_more, np.int32)),
        np.append(batch.counts, np.ones(n_more, np.int32)),
        np.append(batch.sequences, np.full(n_more, n_texts, np.int32)),
        np.append(batch.wanted, np.ones(n_more, np.int8)),
    )
