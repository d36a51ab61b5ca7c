"""The model in a request's bytes: found and replaced there, so that everything else passes as it came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

_STRING_OR_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_KEY: Final = b'"model"'


def replace_model(raw: bytes, model: str) -> bytes:
    """``raw`` with ``model`` in place of each value of its top-level key ``model``; every other byte stays.

    Args:
        raw: a JSON object in UTF-8, known to be well-formed and to have a text as its ``model``.
        model: the new one.
    """
    value = json.dumps(model).encode("ascii")
    parts = []
    end = 0
    for start, stop in _model_values(raw):
        parts += [raw[end:start], value]
        end = stop
    parts.append(raw[end:])
    return b"".join(parts)


def _model_values(raw: bytes) -> Iterator[tuple[int, int]]:
    """Where the texts stand that are values of the top-level key ``model``; more than one if it is there twice."""
    if raw.count(_KEY) == 1 and rb"\u" not in raw:
        # Without escapes of letters the key is written so, and what is written so but once is the key.
        span = _value_span(raw, raw.index(_KEY) + len(_KEY))
        if span is not None:
            yield span
        return
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(raw):
        first = raw[found.start()]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        elif depth == 1 and _is_key(found[0]):
            span = _value_span(raw, found.end())
            if span is not None:
                yield span


def _is_key(string: bytes) -> bool:
    return string == _KEY or (b"\\" in string and json.loads(string) == "model")


def _value_span(raw: bytes, key_end: int) -> tuple[int, int] | None:
    """Where the text stands that is the value of a key; None if there is no colon, or no text behind it."""
    colon = _COLON.match(raw, key_end)
    if colon is None or raw[colon.end() : colon.end() + 1] != b'"':
        return None
    string = _STRING_OR_BRACKET.match(raw, colon.end())
    return None if string is None else string.span()
