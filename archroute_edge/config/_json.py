"""JSON from outside, read one way whichever file or request it stands in: what it may not say, and in which line it does."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from archroute_edge.config._node import shorten
from archroute_edge.errors import ConversationError

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}:]|-?[0-9][-+.0-9eE]*|-?Infinity|NaN', re.DOTALL)


class _UnusableError(ValueError):
    """The value is JSON, or nearly, and cannot be used."""


def parse_json(raw: bytes, place: str, *, may_repeat: bool = False) -> Any:
    """The JSON value in ``raw``.

    Args:
        raw: in UTF-8.
        place: names it in messages.
        may_repeat: whether a key may stand twice in an object, as in what is for other programs to judge; the last counts.

    Raises:
        ConversationError: it is not UTF-8 or not JSON, a number is infinite or none, or a key stands twice; the message says
            where in ``place``.
    """
    if not raw.strip():
        raise ConversationError(f"{place}: empty; expected JSON")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConversationError(f"{place}: not UTF-8 (byte {exc.start})") from exc
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=None if may_repeat else _object)
    except json.JSONDecodeError as exc:
        raise ConversationError(f"{place}:{exc.lineno}: not JSON: {exc.msg} (column {exc.colno})") from exc
    except RecursionError as exc:
        raise ConversationError(f"{place}: JSON that cannot be used: nested too deep") from exc
    except _UnusableError as exc:
        line, problem = next(_problems(text, may_repeat))
        raise ConversationError(f"{place}:{line}: {problem}") from exc
    except ValueError as exc:
        raise ConversationError(f"{place}: JSON that cannot be used: a number too long") from exc


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise _UnusableError
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _UnusableError
    return fields


def _problems(text: str, may_repeat: bool) -> Iterator[tuple[int, str]]:
    """Numbers that are infinite or none, and keys that stand twice, with their lines; ``text`` is JSON but for these."""
    line, at = 1, 0
    objects: list[dict[str, int]] = []
    last = ""
    for found in _TOKEN.finditer(text):
        token = found[0]
        line, at = line + text.count("\n", at, found.start()), found.start()
        if token == "{":
            objects.append({})
        elif token == "}":
            objects.pop()
        elif token == ":":
            key = json.loads(last)
            if key in objects[-1] and not may_repeat:
                first = objects[-1][key]
                where = f" (first on line {first})" if first != line else ""
                yield line, f"JSON that cannot be used: the key {shorten(key)} appears twice in one object{where}"
            objects[-1][key] = line
        elif token.endswith(("NaN", "Infinity")):
            yield line, f"not JSON: {token} is no value of it"
        elif not token.startswith('"') and set(token) & set(".eE") and not math.isfinite(float(token)):
            yield line, f"JSON that cannot be used: {shorten(token)[1:-1]} is too large a number"
        last = token
