"""The answers a model may give, and the GBNF grammar that allows exactly those.

GBNF: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md. llama.cpp crashes on a grammar it cannot
parse, so what is written here is read back and compared before it is handed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from archroute_edge.errors import GrammarError
from archroute_edge.routes import OTHER, RouteTable

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


def answers_for(
    table: RouteTable, reply: Callable[[str | None], str], spell: Callable[[str], str] = lambda name: name
) -> tuple[Answer, ...]:
    r"""All answers for ``table``: each route in each of its JSON spellings, then the one for no match.

    Args:
        table: the routes.
        reply: shapes a JSON-encoded name (or None for no match) into the whole reply, as the prompt format wants it.
        spell: how the prompt writes a name (NFC for models whose tokenizer normalises).
    """
    answers: dict[str, Answer] = {}
    for route in table:
        name = spell(route.name)
        # What the card's prompt shows (\uXXXX) comes first, then the raw form; for ASCII names they are one.
        for encoded in (json.dumps(name), json.dumps(name, ensure_ascii=False)):
            text = reply(encoded)
            answers.setdefault(text, Answer(text, route.name))
    nothing = reply(None)
    answers[nothing] = Answer(nothing, OTHER)
    return tuple(answers.values())


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
    grammar = f"root ::= {_literal(shared)} ({alternatives})\n" if shared else f"root ::= {alternatives}\n"
    if set(read_gbnf(grammar)) != set(texts):
        raise GrammarError("the grammar does not read back as the answers it was written from; please report the names")
    return grammar


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


_TOKEN = re.compile(r'\s*(?:(?P<literal>"(?:[^"\\\n]|\\.)*")|(?P<mark>[()|])|(?P<rule>root\s*::=))')
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([\"\\nrt]))")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_UNESCAPED = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def read_gbnf(grammar: str) -> list[str]:
    """The texts that a grammar of the kind :func:`to_gbnf` writes allows, in order.

    That kind is one rule, ``root``, of literals, or of one literal followed by alternatives in parentheses.

    Raises:
        GrammarError: anything else, with the position of the first character that does not fit.
    """
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(grammar.rstrip())
    while position < end:
        match = _TOKEN.match(grammar, position)
        if match is None:
            raise GrammarError(f"the grammar is not well formed at character {position}: {grammar[position : position + 20]!r}")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        position = match.end()
    shape = "".join({"literal": "L", "rule": "R"}.get(kind, text) for kind, text in tokens)
    literals = [_unescape(text) for kind, text in tokens if kind == "literal"]
    if re.fullmatch(r"RL\(L(\|L)*\)", shape):
        return [literals[0] + rest for rest in literals[1:]]
    if re.fullmatch(r"RL(\|L)*", shape):
        return literals
    raise GrammarError("the grammar is not one rule of alternatives; it cannot be checked, so it is not used")


def _unescape(literal: str) -> str:
    def replace(match: re.Match[str]) -> str:
        short, long, named = match.groups()
        if named:
            return _UNESCAPED[named]
        code = int(short or long, 16)
        if not 0 < code <= 0x10FFFF or 0xD800 <= code < 0xE000:
            raise GrammarError(f"the escape {match[0]} is no character")
        return chr(code)

    body = literal[1:-1]
    if "\\" in _ESCAPE.sub("", body):
        raise GrammarError(f"the literal {literal[:40]} holds an unknown escape")
    text = _ESCAPE.sub(replace, body)
    if not text:
        raise GrammarError("the grammar holds an empty alternative")
    if _UNUSABLE.search(body):
        raise GrammarError(f"the literal {literal[:40]!r} holds a zero byte or half a character")
    return text
