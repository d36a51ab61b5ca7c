"""BERT's tokenizer, WordPiece, as llama.cpp has it: with its normaliser and pre-tokenizer built in.

A vocabulary marks pieces inside a word (``##ing``); llama.cpp's marks those that begin one (``▁walk``). The WordPiece module of
``archroute_edge.engine`` says how llama.cpp's own tokenizer differs from BERT's, and how text is split for an encoder here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import gguf

from archroute_edge.errors import CheckpointError
from tools.convert.tokenizer_files import Definition

UNKNOWN_WORDPIECE: Final = "default"
"""Pre-tokenizer of vocabularies that llama.cpp has no name for; it reads none for WordPiece."""
_INSIDE: Final = "##"
_BEGINNING: Final = "▁"


def with_word_beginnings(tokens: Sequence[str], types: Sequence[int], definition: Definition) -> list[str]:
    """``tokens`` marked at the beginning of words instead of at continuations; control tokens stay as they are.

    Raises:
        CheckpointError: two tokens become one.
    """
    marked = [_mark(token, kind) for token, kind in zip(tokens, types, strict=True)]
    if len(set(marked)) != len(marked):
        raise CheckpointError(f"{definition.path}: two tokens are one for llama.cpp, which marks word beginnings instead")
    return marked


def _mark(token: str, kind: int) -> str:
    if kind == gguf.TokenType.CONTROL:
        return token
    return token.removeprefix(_INSIDE) if token.startswith(_INSIDE) else _BEGINNING + token


def read_normalizer(definition: Definition) -> dict[str, bool]:
    """The normaliser's treatment of letters, as keys of a GGUF.

    Raises:
        CheckpointError: text is normalised or split in another way than BERT's.
    """
    normalizer, cutter = (definition.content.get(key) or {} for key in ("normalizer", "pre_tokenizer"))
    whole = normalizer.get("clean_text", True) and normalizer.get("handle_chinese_chars", True)
    if normalizer.get("type") != "BertNormalizer" or cutter.get("type") != "BertPreTokenizer" or not whole:
        raise CheckpointError(f"{definition.path}: does not normalise and cut text as BERT does; it cannot be converted")
    # Spelt out, since older versions of the gguf package do not know these keys.
    settings = {key: normalizer.get(key) for key in ("lowercase", "strip_accents")}
    return {f"tokenizer.ggml.normalizer.{key}": value for key, value in settings.items() if isinstance(value, bool)}
