"""Texts to the ids of tokens, for encoders: the kinds of tokenizer that their files can have.

They are our own, because llama.cpp's give other ids on some texts than those that the models were trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from archroute_edge.engine._gguf_header import GGUFHeader
from archroute_edge.engine._model_check import UNIGRAM
from archroute_edge.engine._unigram import read_unigram
from archroute_edge.engine._wordpiece import read_wordpiece


class Tokenizer(Protocol):
    """Cuts texts into tokens. Safe to use from several threads."""

    def tokenize(self, text: str) -> Iterator[int]:
        """The ids of ``text``, one by one, without those that stand around every text; no text becomes a control token."""


def read_tokenizer(header: GGUFHeader) -> Tokenizer:
    """The tokenizer of a checked GGUF of an encoder."""
    return read_unigram(header) if header.text("tokenizer.ggml.model") == UNIGRAM else read_wordpiece(header)
