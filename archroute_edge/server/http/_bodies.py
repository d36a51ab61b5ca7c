"""JSON bodies, read strictly: UTF-8, one value, bounded nesting and number of parts, and in it the options of an endpoint."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import Request

from archroute_edge.config import Keys, parse_json
from archroute_edge.errors import ConversationError
from archroute_edge.server import options_schema, read_options
from archroute_edge.server.http._api_errors import ApiError
from archroute_edge.server.http._zstd import decompressed

Result = TypeVar("Result")

MAX_DEPTH: Final = 64
"""Deepest nesting of lists and objects in a body."""
MAX_PARTS: Final = 20_000
"""Most lists and objects in a body: its messages, their parts and everything else together."""
LARGE: Final = 1 << 16
"""A body of more bytes is parsed in a thread of its own, so that other requests are answered meanwhile."""

# A string, or a bracket outside of strings. Also takes a string that does not end: a match that fails would be tried again from
# each quote in it.
_STRING_OR_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def body_of(keys: Keys, description: str) -> dict[str, Any]:
    """What an endpoint's entry in the OpenAPI document says of its body."""
    content = {"application/json": {"schema": options_schema(keys, description)}}
    return {"requestBody": {"required": True, "content": content}}


async def read_body(request: Request, keys: Keys) -> dict[str, Any]:
    """The options in a request's body.

    Raises:
        ApiError: 415; not declared as JSON, or compressed with something else than zstd. 400; not UTF-8, not JSON, nested too
            deep, or of too many parts.
        ArchRouteError: an option cannot be used.
    """
    return await read_body_by(request, lambda value: read_options(value, keys))


async def read_body_by(request: Request, read: Callable[[Any], Result]) -> Result:
    """What ``read`` makes of a request's body, a JSON value that may have been compressed with zstd.

    Raises:
        ApiError: as :func:`read_body`. 413, 429; what it is decompressed to is larger than a body may be.
        ArchRouteError: what ``read`` raises.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the body must be JSON: Content-Type: application/json", code="unsupported_media_type")
    raw = await request.body()
    if not raw:
        raise ApiError(400, "the body is empty; a JSON object is needed", code="invalid_json")
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "zstd"):
        raise ApiError(415, "the body may be compressed with zstd, and with nothing else", code="unsupported_media_type")
    if coding == "zstd":
        raw = await asyncio.to_thread(decompressed, raw, request.state.max_body)
        request.state.take_room(len(raw))
    if len(raw) < LARGE:
        return read(read_json(raw))
    return await asyncio.to_thread(lambda: read(read_json(raw)))


def read_json(raw: bytes, *, may_repeat: bool = False) -> Any:
    """The JSON value in ``raw``; ``may_repeat`` as for :func:`parse_json`.

    Raises:
        ApiError: 400; not UTF-8, not JSON, with a key twice or an infinite number, nested too deep, or of too many parts.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_nesting(raw)
    try:
        return parse_json(raw, "body", may_repeat=may_repeat)
    except ConversationError as exc:
        raise ApiError(400, str(exc), code="invalid_json") from exc


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
