"""Errors in the shape of each API: as a body, and as an event of a stream."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from archroute_edge.record import Operation

_NUMBER: Final = re.compile(rb'"sequence_number": ?([0-9]{1,9})[,}]')
_OPENAI: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(operation: Operation, status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """An error as the API of ``operation`` has it."""
    # A name of the request may stand in the message, half a surrogate pair included.
    message = message.encode("utf-8", "replace").decode()
    if operation == "messages":
        kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_event(operation: Operation, message: str, code: str, tail: bytes = b"") -> bytes:
    """The same as the last event of a stream that broke; nothing follows it, neither ``[DONE]`` nor another end.

    Args:
        operation: whose API is spoken.
        message: for people.
        code: for programs.
        tail: the last bytes of the stream before it; the Responses API numbers its events.
    """
    if operation == "responses":
        numbers = _NUMBER.findall(tail)
        number = int(numbers[-1]) + 1 if numbers else 0
        named: dict[str, Any] = {"code": code, "message": message, "param": None}
        # Its event has them beside the type. OpenAI's package raises an exception only if they stand under "error" as well.
        body: dict[str, Any] = {"type": "error", **named, "sequence_number": number, "error": named}
        return _event("error", body)
    body = error_body(operation, 502, message, code)
    return _event("error" if operation == "messages" else None, body)


def _event(name: str | None, body: dict[str, Any]) -> bytes:
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(body)}\n\n".encode("ascii")


def dump(body: dict[str, Any]) -> bytes:
    """An error as the bytes of a reply."""
    return json.dumps(body).encode("ascii")
