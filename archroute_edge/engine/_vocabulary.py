"""A model's vocabulary, and llama.cpp's own grammar sampler over it: the reference that says which tokens may come next."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from archroute_edge.engine._interface import Logits
from archroute_edge.errors import EngineError, GrammarError

_LONGEST_PIECE = 1024


class Vocabulary:
    """The vocabulary of a loaded model. Safe to use from several threads; lives as long as its model.

    Args:
        handle: the ``llama_vocab *`` of the model.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.n_tokens: int = llama_cpp.llama_vocab_n_tokens(handle)
        # Before Python 3.12 functools.cached_property holds a lock of its class, which a process forked by another thread in
        # the meantime would never get. These two take long.
        self._control_texts: tuple[str, ...] | None = None
        self._tokens_by_piece: dict[bytes, tuple[int, ...]] | None = None

    @property
    def handle(self) -> Any:
        """The ``llama_vocab *``.

        Raises:
            EngineError: its model has been closed.
        """
        if self._handle is None:
            raise EngineError("the model of this vocabulary has been closed")
        return self._handle

    def close(self) -> None:
        """Note that the model is gone, so that no call reaches freed memory."""
        self._handle = None

    def tokenize(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Token ids of ``text``; the text of control tokens becomes those tokens only where ``control_tokens`` is set.

        No BOS or EOS is added.
        """
        raw = text.encode("utf-8")
        capacity = len(raw) + 8
        while True:
            buffer = (llama_cpp.llama_token * capacity)()
            count = llama_cpp.llama_tokenize(self.handle, raw, len(raw), buffer, capacity, False, control_tokens)
            if count >= 0:
                return list(buffer[:count])
            if count == -(2**31) or -count <= capacity:
                raise EngineError(f"llama.cpp could not tokenize a text of {len(raw)} bytes")
            capacity = -count

    @functools.cached_property
    def bos_tokens(self) -> list[int]:
        """The ids that the model wants in front of every prompt: its BOS token, or nothing."""
        return [llama_cpp.llama_vocab_bos(self.handle)] if llama_cpp.llama_vocab_get_add_bos(self.handle) else []

    @property
    def control_texts(self) -> tuple[str, ...]:
        """The texts of all control tokens (``<|im_start|>`` and the like), longest first."""
        if self._control_texts is None:
            control = (token for token in range(self.n_tokens) if llama_cpp.llama_vocab_is_control(self.handle, token))
            texts = {
                (llama_cpp.llama_vocab_get_text(self.handle, token) or b"").decode("utf-8", "replace") for token in control
            }
            self._control_texts = tuple(sorted(texts - {""}, key=lambda text: (-len(text), text)))
        return self._control_texts

    def is_end_of_generation(self, token: int) -> bool:
        """Whether ``token`` ends an answer, and so can never be part of one."""
        return bool(llama_cpp.llama_vocab_is_eog(self.handle, token))

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` renders to, control tokens included."""
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        length = llama_cpp.llama_token_to_piece(self.handle, token, buffer, _LONGEST_PIECE, 0, True)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = llama_cpp.llama_token_to_piece(self.handle, token, buffer, -length, 0, True)
        return buffer.raw[:length]

    @property
    def tokens_by_piece(self) -> dict[bytes, tuple[int, ...]]:
        """For each non-empty piece the ids that render to it, lowest first; end-of-generation tokens are left out.

        Those are exactly the tokens that llama.cpp's grammar sampler can ever allow before the end of an answer.
        """
        if self._tokens_by_piece is None:
            self._tokens_by_piece = self._read_pieces()
        return self._tokens_by_piece

    def _read_pieces(self) -> dict[bytes, tuple[int, ...]]:
        # The loop runs over the whole vocabulary, so it calls the C functions without llama_cpp's wrappers around them.
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        to_piece, is_eog = llama_cpp.llama_token_to_piece, llama_cpp.llama_vocab_is_eog
        handle = self.handle
        found: dict[bytes, tuple[int, ...]] = {}
        for token in range(self.n_tokens):
            length = to_piece(handle, token, buffer, _LONGEST_PIECE, 0, True)
            piece = buffer.raw[:length] if length >= 0 else self.piece(token)
            if piece and not is_eog(handle, token):
                found[piece] = (*found.get(piece, ()), token)
        return found


_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)


class GrammarSampler:
    """Follows one answer through a grammar, token by token; a context manager.

    Args:
        vocabulary: of the loaded model.
        gbnf: the grammar, well formed (llama.cpp crashes on others); its start rule is ``root``.

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

    def __enter__(self) -> GrammarSampler:
        return self

    def __exit__(self, *_exc: object) -> None:
        llama_cpp.llama_sampler_free(self._handle)
