"""The texts of an encoder's tokens, read at once: a process reads some 100,000 of them before its first decision."""

from __future__ import annotations

from typing import Final

import numpy as np

from archroute_edge.engine._gguf_header import GGUFHeader, read_array, read_texts
from archroute_edge.errors import ModelFileError

_TOKENS: Final = "tokenizer.ggml.tokens"
_LENGTH_BYTES: Final = 8


def read_tokens(header: GGUFHeader) -> dict[str, int]:
    """The ids of all tokens of a checked GGUF, by token, in their order.

    Raises:
        ModelFileError: two tokens are the same.
    """
    tokens = _read_short_texts(read_array(header, _TOKENS))
    if len(tokens) != header.length(_TOKENS):
        tokens = [text.decode("utf-8", "replace") for text in read_texts(header, _TOKENS)]
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) < len(tokens):
        raise ModelFileError(f"{header.path}: the same token stands twice in {_TOKENS}; the file is damaged")
    return ids


def _read_short_texts(raw: bytes) -> list[str]:
    """The texts of an array of which each has 1 to 255 bytes and none a zero byte; of any other array none.

    Before each stands its length in 8 bytes, of which 7 are zero.
    """
    numbers = np.frombuffer(raw, np.uint8)
    zero = numbers == 0
    n_bytes = len(numbers)
    before_zeros = np.ones(max(n_bytes - _LENGTH_BYTES, 0), np.bool_)
    for place in range(1, _LENGTH_BYTES):
        before_zeros &= zero[place : n_bytes - _LENGTH_BYTES + place]
    lengths = np.flatnonzero(before_zeros)
    ends = lengths + _LENGTH_BYTES + numbers[lengths]
    is_chain = len(lengths) and lengths[0] == 0 and ends[-1] == n_bytes and np.array_equal(ends[:-1], lengths[1:])
    if not is_chain or np.count_nonzero(zero) != (_LENGTH_BYTES - 1) * len(lengths):
        return []
    marked = numbers.copy()
    marked[lengths] = 0
    text: str = marked[~zero].tobytes().decode("utf-8", "replace")
    return text.split("\0")[1:]
