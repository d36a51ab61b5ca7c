"""The answers a model may give, and the GBNF grammar that allows exactly those.

GBNF: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from archroute_edge.errors import GrammarError

Element = TypeVar("Element")


@dataclass(frozen=True)
class Answer:
    """One text that the model may answer with, and the route it means (``other`` for none)."""

    text: str
    route: str

    @property
    def raw(self) -> bytes:
        """The text in UTF-8."""
        return self.text.encode("utf-8")


def to_gbnf(answers: Sequence[Answer]) -> str:
    """A GBNF grammar whose language is exactly the texts of ``answers``.

    Raises:
        GrammarError: no answers, or an answer that cannot be written in GBNF.
    """
    texts = [answer.text for answer in answers]
    if not texts or not all(texts):
        raise GrammarError("a grammar needs at least one answer, and no empty one")
    shared = "".join(common_prefix(texts))
    if shared in texts:
        # One answer, or one that begins another: nothing may be left empty in an alternative.
        shared = ""
    alternatives = " | ".join(_literal(text[len(shared) :]) for text in texts)
    return f"root ::= {_literal(shared)} ({alternatives})\n" if shared else f"root ::= {alternatives}\n"


def common_prefix(sequences: Sequence[Sequence[Element]]) -> Sequence[Element]:
    """The longest beginning that all ``sequences`` (at least one) share."""
    # Only the smallest and the largest can differ earliest.
    low, high = min(sequences), max(sequences)  # type: ignore[type-var]
    for index, element in enumerate(low):
        if index >= len(high) or element != high[index]:
            return low[:index]
    return low


_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _literal(text: str) -> str:
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if 0x20 <= code < 0x7F:
        return char
    if code == 0 or 0xD800 <= code < 0xE000:
        raise GrammarError(f"U+{code:04X} cannot stand in a grammar")
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
