"""A model's vocabulary: text to token ids, token ids to bytes, and ids found by the bytes they render to."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llama_cpp

from archroute_edge.errors import EngineError

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
            self._control_texts = self._read_control_texts()
        return self._control_texts

    def _read_control_texts(self) -> tuple[str, ...]:
        texts = {self._text(token) for token in range(self.n_tokens) if llama_cpp.llama_vocab_is_control(self.handle, token)}
        return tuple(sorted(texts - {""}, key=lambda text: (-len(text), text)))

    def is_control(self, token: int) -> bool:
        """Whether ``token`` is a control token, which no message may bring in."""
        return bool(llama_cpp.llama_vocab_is_control(self.handle, token))

    def is_end_of_generation(self, token: int) -> bool:
        """Whether ``token`` ends an answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self.handle, token))

    def _text(self, token: int) -> str:
        return bytes(llama_cpp.llama_vocab_get_text(self.handle, token) or b"").decode("utf-8", "replace")

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
