"""The model in a request's bytes: found and replaced there, so that everything else passes as it came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

_STRING_OR_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
# However its letters are written. No other quote stands before "model" without a backslash, nor behind it before a colon.
_KEY: Final = re.compile(
    rb'(?<!\\)"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"[ \t\r\n]*:[ \t\r\n]*'
)


def model_span(raw: bytes) -> tuple[int, int] | None:
    """Where the text stands that is the value of the top-level key ``model``; None if the key is there twice.

    Args:
        raw: a JSON object in UTF-8, known to be well-formed and to have a text as its ``model``.
    """
    keys = list(islice(_KEY.finditer(raw), 2))
    if len(keys) > 1:
        keys = list(islice(_top_level_keys(raw), 2))
    string = _STRING_OR_BRACKET.match(raw, keys[0].end()) if len(keys) == 1 else None
    return None if string is None else string.span()


def _top_level_keys(raw: bytes) -> Iterator[re.Match[bytes]]:
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(raw):
        first = raw[found.start()]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        elif depth == 1 and (key := _KEY.match(raw, found.start())) is not None:
            yield key


def replace_model(raw: bytes, span: tuple[int, int], model: str) -> bytes:
    """``raw`` with ``model`` in place of the text at ``span``; every other byte stays."""
    start, end = span
    return b"".join((raw[:start], json.dumps(model).encode("ascii"), raw[end:]))
