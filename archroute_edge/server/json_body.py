"""JSON bodies, read strictly: UTF-8, one value, bounded nesting, valid Unicode."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from archroute_edge.errors import ConversationError
from archroute_edge.json_requests import parse_json
from archroute_edge.server.api_errors import ApiError

MAX_DEPTH = 64
"""Deepest nesting of lists and objects in a body."""

# Also takes a string that does not end: a match that fails would be tried again from each quote in it.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class _JsonRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


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
        ApiError: 400; not UTF-8, not JSON, or nested too deep.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_depth(raw)
    try:
        value = parse_json(raw, "body")
    except ConversationError as exc:
        raise ApiError(400, str(exc), code="invalid_json") from exc
    return _valid_unicode(value) if _SURROGATE_ESCAPE.search(raw) else value


def _check_depth(raw: bytes) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ApiError(400, f"the body is nested deeper than {MAX_DEPTH} levels", code="invalid_json")


def _valid_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_valid_unicode(each) for each in value]
    if isinstance(value, dict):
        return {_valid_unicode(key): _valid_unicode(each) for key, each in value.items()}
    return value
