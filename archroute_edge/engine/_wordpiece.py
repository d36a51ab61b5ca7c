"""BERT's tokenizer: text to the ids of word pieces, exactly as the models were trained.

llama.cpp has a tokenizer of this kind, but it drops the vowel signs of Indic scripts, leaves Korean syllables whole, and
cuts words that BERT calls unknown, so a message in such a script would reach the model as something it never saw.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from archroute_edge._unicode import normalized
from archroute_edge.engine._gguf_header import GGUFHeader
from archroute_edge.engine._model_check import control_tokens
from archroute_edge.engine._tokens import read_tokens

_BEGINS_A_WORD: Final = "▁"
_LONGEST_WORD: Final = 100
"""Letters; longer words are unknown, as in every published vocabulary."""
_IDEOGRAPHS: Final = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieceTokenizer:
    """Cuts text into the pieces of a vocabulary. Safe to use from several threads.

    Args:
        tokens: the ids of the vocabulary by token, word beginnings marked with ``▁``, as a GGUF has it.
        unknown: the id of a word that cannot be written in pieces.
        lowercase: whether letters are made small.
        strip_accents: whether accents are taken off.
    """

    def __init__(self, tokens: Mapping[str, int], *, unknown: int, lowercase: bool, strip_accents: bool) -> None:
        self._unknown = unknown
        self._lowercase = lowercase
        self._strip_accents = strip_accents
        self._first = {token[1:]: number for token, number in tokens.items() if token.startswith(_BEGINS_A_WORD)}
        self._later = {token: number for token, number in tokens.items() if not token.startswith(_BEGINS_A_WORD)}
        self._longest = max(map(len, tokens), default=0)

    def tokenize(self, text: str) -> Iterator[int]:
        """The ids of ``text``, one by one, without those that stand around every text; no text becomes a control token."""
        return (token for word in self._words(text) for token in self._pieces(word))

    def _words(self, text: str) -> Iterator[str]:
        # Ordinary text needs none of what follows.
        if text.isascii() and text.isprintable():
            cleaned = text.lower() if self._lowercase else text
        else:
            cleaned = self._normalise(text)
        for run in cleaned.split():
            begin = 0
            for place, character in enumerate(run):
                if not character.isalnum() and _is_punctuation(character):
                    if begin < place:
                        yield run[begin:place]
                    yield character
                    begin = place + 1
            if begin < len(run):
                yield run[begin:]

    def _normalise(self, text: str) -> str:
        cleaned = "".join(map(_clean, text))
        if self._strip_accents:
            decomposed = normalized("NFD", cleaned)
            cleaned = "".join(character for character in decomposed if unicodedata.category(character) != "Mn")
        # A character at a time: a sigma at a word's end is no exception here.
        return "".join(map(str.lower, cleaned)) if self._lowercase else cleaned

    def _pieces(self, word: str) -> list[int]:
        if len(word) > _LONGEST_WORD:
            return [self._unknown]
        found: list[int] = []
        begin = 0
        while begin < len(word):
            known = self._later if begin else self._first
            for end in range(min(len(word), begin + self._longest), begin, -1):
                token = known.get(word[begin:end])
                if token is not None:
                    break
            else:
                return [self._unknown]
            found.append(token)
            begin = end
        return found


def read_wordpiece(header: GGUFHeader) -> WordPieceTokenizer:
    """The tokenizer of a checked GGUF of a BERT encoder."""
    lowercase = bool(header.metadata.get("tokenizer.ggml.normalizer.lowercase", True))
    return WordPieceTokenizer(
        read_tokens(header),
        unknown=control_tokens(header)[2],
        lowercase=lowercase,
        strip_accents=bool(header.metadata.get("tokenizer.ggml.normalizer.strip_accents", lowercase)),
    )


def _clean(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Co") or character == "\ufffd":
        return ""
    if category[0] == "Z":
        return " "
    code = ord(character)
    return f" {character} " if any(first <= code <= last for first, last in _IDEOGRAPHS) else character


def _is_punctuation(character: str) -> bool:
    # Every printable ASCII character that is neither letter nor digit counts, those that Unicode calls symbols included.
    return character.isascii() or unicodedata.category(character).startswith("P")
