"""JSON bodies, read strictly: UTF-8, one value, bounded nesting and number of parts, valid Unicode."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from archroute_edge.config import parse_json
from archroute_edge.errors import ConversationError
from archroute_edge.server.http._api_errors import ApiError

MAX_DEPTH = 64
"""Deepest nesting of lists and objects in a body."""
MAX_PARTS = 20_000
"""Most lists and objects in a body: its messages, their parts and everything else together."""
# A body of more bytes is parsed in a thread of its own, so that other requests are answered meanwhile.
_LARGE = 1 << 16

# A string, or a bracket outside of strings. Also takes a string that does not end: a match that fails would be tried again from
# each quote in it.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class _JsonRequest(Request):
    async def json(self) -> Any:
        raw = await self.body()
        return read_json(raw) if len(raw) < _LARGE else await asyncio.to_thread(read_json, raw)


class JsonRoute(APIRoute):
    """A route whose body is JSON, or there is an error that says why not."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the checks."""
        handler = super().get_route_handler()

        async def checked(plain: Request) -> Response:
            request = _JsonRequest(plain.scope, plain.receive)
            if self.body_field is not None:
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind != "application/json":
                    raise ApiError(415, "the body must be JSON: Content-Type: application/json", code="unsupported_media_type")
                if not await request.body():
                    raise ApiError(400, "the body is empty; a JSON object is needed", code="invalid_json")
            return await handler(request)

        return checked


def read_json(raw: bytes) -> Any:
    """The JSON value in ``raw``; lone surrogates, which some clients cut texts into, become U+FFFD.

    Raises:
        ApiError: 400; not UTF-8, not JSON, nested too deep, or of too many parts.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_nesting(raw)
    try:
        value = parse_json(raw, "body")
    except ConversationError as exc:
        raise ApiError(400, str(exc), code="invalid_json") from exc
    return _valid_unicode(value) if _SURROGATE_ESCAPE.search(raw) else value


def _check_nesting(raw: bytes) -> None:
    depth = n_parts = 0
    # One by one: other threads have their turn in between, and too many are not looked at to the end.
    for found in _STRING_OR_BRACKET.finditer(raw):
        first = raw[found.start()]
        if first in b"[{":
            depth += 1
            n_parts += 1
        elif first in b"]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise ApiError(400, f"the body is nested deeper than {MAX_DEPTH} levels", code="invalid_json")
        if n_parts > MAX_PARTS:
            message = f"the body has more than {MAX_PARTS:,} lists and objects; send fewer messages"
            raise ApiError(400, message, code="invalid_request")


def _valid_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_valid_unicode(each) for each in value]
    if isinstance(value, dict):
        return {_valid_unicode(key): _valid_unicode(each) for key, each in value.items()}
    return value
