"""What an answer says of itself: tokens, the model that answered, how it ended; read from its first and last bytes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from archroute_edge.gateway._stream import KeptEnds
from archroute_edge.record import Operation, Usage

_MODEL: Final = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.){1,256})"')
_USAGE: Final = b'"usage"'
_DECODER: Final = json.JSONDecoder()
_MOST_TOKENS: Final = 1 << 40
_TRIES: Final = 64
_LONGEST: Final = 4096
# What stands in the last event of each API's streams. A text within JSON has neither new lines nor bare quotes, so what a model
# says about such events is not taken for one.
_END_MARKS: Final[dict[str, re.Pattern[bytes]]] = {
    "chat": re.compile(rb"^data: ?\[DONE\]", re.MULTILINE),
    "responses": re.compile(rb'(?:^event: ?|"type"\s*:\s*")response\.(?:completed|incomplete|failed)\b', re.MULTILINE),
    "messages": re.compile(rb'(?:^event: ?|"type"\s*:\s*")message_stop\b', re.MULTILINE),
}
_ERROR_BODY: Final = re.compile(rb'\s*\{\s*"(?:error"\s*:\s*[{"]|type"\s*:\s*"error")')
_ANSWERS: Final = ("choices", "output", "content")


def has_ended(operation: Operation, tail: bytes) -> bool:
    """Whether the last bytes of a stream hold its end."""
    return _END_MARKS[operation].search(tail.replace(b"\r", b"\n")) is not None


def ends_in_error(tail: bytes) -> bool:
    """Whether the last event of a stream is an error."""
    event = next((each for each in reversed(_events(tail)) if each.strip()), b"")
    return read_error_event(event) is not None


def read_error_event(received: bytes) -> dict[str, Any] | None:
    """The error that the first event of ``received`` is; None if it is none."""
    for event in _events(received):
        data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data:
            continue
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("choices"):
            return None
        if found.get("type") == "response.failed" and isinstance(found.get("response"), dict):
            return found["response"].get("error") or {}
        return _error_in(found)
    return None


def read_error_body(received: bytes) -> dict[str, Any] | None:
    """The error that a body in one piece is, whatever its status; None if it is none, or not whole."""
    if not _ERROR_BODY.match(received):
        return None
    try:
        found = json.loads(received)
    except (ValueError, RecursionError):
        return None
    return None if any(found.get(each) for each in _ANSWERS) else _error_in(found)


def _error_in(found: dict[str, Any]) -> dict[str, Any] | None:
    error = found.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str) and error:
        return {"message": error}
    return found if found.get("type") == "error" else None


def _events(text: bytes) -> list[bytes]:
    return text.replace(b"\r\n", b"\n").split(b"\n\n")


def response_model(ends: KeptEnds) -> str | None:
    """The model that the upstream says answered."""
    found = _MODEL.search(ends.head)
    if found is None:
        return None
    try:
        return str(json.loads(b'"' + found[1] + b'"'))
    except ValueError:
        return None


def read_usage(ends: KeptEnds) -> Usage:
    """The tokens of an answer; of a stream those in its last event that has any, and of Anthropic's API in the first, too."""
    last = _last_object(ends.tail)
    # Anthropic counts the prompt in a stream's first event and the answer in the last one.
    first = {} if {"input_tokens", "prompt_tokens"} & last.keys() else _first_object(ends.head)
    found = {**first, **last}
    if not found:
        return Usage()
    if "prompt_tokens" in found or "completion_tokens" in found:
        details = found.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else found.get("prompt_cache_hit_tokens")
        return Usage(_count(found.get("prompt_tokens")), _count(found.get("completion_tokens")), _count(cached))
    uncached, output = _count(found.get("input_tokens")), _count(found.get("output_tokens"))
    details = found.get("input_tokens_details")
    if isinstance(details, dict):
        return Usage(uncached, output, _count(details.get("cached_tokens")))
    cached = _count(found.get("cache_read_input_tokens"))
    written = _count(found.get("cache_creation_input_tokens"))
    if uncached is None:
        return Usage(None, output, cached)
    return Usage(uncached + (cached or 0) + (written or 0), output, cached)


def _last_object(text: bytes) -> dict[str, Any]:
    """The last ``usage`` that is an object and is whole."""
    end = len(text)
    for _ in range(_TRIES):
        end = text.rfind(_USAGE, 0, end)
        if end < 0:
            return {}
        found = _object_at(text, end)
        if found:
            return found
    return {}


def _first_object(text: bytes) -> dict[str, Any]:
    """The first ``usage``, if it is a whole object."""
    start = text.find(_USAGE)
    return {} if start < 0 else _object_at(text, start)


def _object_at(text: bytes, start: int) -> dict[str, Any]:
    start += len(_USAGE)
    value = text[start : start + _LONGEST].decode("utf-8", "replace").lstrip()
    value = value[1:].lstrip() if value.startswith(":") else ""
    if not value.startswith("{"):
        return {}
    try:
        found: dict[str, Any] = _DECODER.raw_decode(value)[0]
    except (ValueError, RecursionError):
        return {}
    return found


def _count(value: Any) -> int | None:
    """A number of tokens; None if it is none."""
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None
