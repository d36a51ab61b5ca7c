"""llama.cpp's own grammar sampler: the reference that says which tokens a GBNF grammar allows next."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from archroute_edge.engine._interface import Logits
from archroute_edge.engine._vocabulary import Vocabulary
from archroute_edge.errors import GrammarError

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)


class GrammarSampler:
    """Follows one answer through a grammar, token by token. Use as a context manager, or close it.

    Args:
        vocabulary: of the loaded model.
        gbnf: the grammar, already validated (:func:`archroute_edge.prompts._grammar.read_gbnf`); its start rule is ``root``.

    Raises:
        GrammarError: llama.cpp does not take the grammar.
    """

    def __init__(self, vocabulary: Vocabulary, gbnf: str) -> None:
        self._n_tokens = vocabulary.n_tokens
        self._handle: Any = llama_cpp.llama_sampler_init_grammar(vocabulary.handle, gbnf.encode("utf-8"), b"root")
        if not self._handle:
            raise GrammarError("llama.cpp refused the grammar; please report the route names that led to it")

    def allowed(self, logits: Logits) -> npt.NDArray[np.bool_]:
        """Which tokens the grammar leaves possible next, shape (vocabulary size,)."""
        candidates = np.empty(self._n_tokens, _CANDIDATE)
        candidates["id"] = np.arange(self._n_tokens, dtype=np.int32)
        candidates["logit"] = logits
        candidates["p"] = 0.0
        data = candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        array = llama_cpp.llama_token_data_array(data=data, size=self._n_tokens, selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(self._handle, ctypes.byref(array))
        possible = np.zeros(self._n_tokens, np.bool_)
        possible[candidates["id"]] = candidates["logit"] > -np.inf
        return possible

    def accept(self, token: int) -> None:
        """Take ``token``, which must be allowed, as the next of the answer."""
        llama_cpp.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free the sampler."""
        if self._handle:
            llama_cpp.llama_sampler_free(self._handle)
            self._handle = None

    def __enter__(self) -> GrammarSampler:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
