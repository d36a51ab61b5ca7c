"""JSON-RPC 2.0: requests read strictly, replies as lines of JSON."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import Any, Final

from archroute_edge.errors import (
    ArchRouteError,
    ContextOverflowError,
    ConversationError,
    DecisionCancelledError,
    QueueFullError,
    RequestError,
    RouteTableError,
    ServiceClosedError,
    SettingsError,
)

logger = logging.getLogger(__name__)

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
DECISION_FAILED: Final = -32000
# CANCELLED is the Language Server Protocol's, whose clients know it.
QUEUE_FULL, CLOSING, CANCELLED = -32001, -32002, -32800

_CODES: Final[dict[type[ArchRouteError], int]] = {
    QueueFullError: QUEUE_FULL,
    ServiceClosedError: CLOSING,
    DecisionCancelledError: CANCELLED,
    ConversationError: INVALID_PARAMS,
    RouteTableError: INVALID_PARAMS,
    SettingsError: INVALID_PARAMS,
    ContextOverflowError: INVALID_PARAMS,
}
_LONGEST_MESSAGE: Final = 500

RequestId = str | int | float | None
Reply = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A call of ``method``. A notification has no id and gets no reply, not even to say that something is wrong."""

    method: str
    params: dict[str, Any]
    id: RequestId
    is_notification: bool

    @classmethod
    def read(cls, value: Any) -> Request:
        """The request that a JSON value is.

        Raises:
            RequestError: it is none.
        """
        if not isinstance(value, dict):
            raise RequestError("a request is a JSON object with jsonrpc, id, method and params", code=INVALID_REQUEST)
        if value.get("jsonrpc") != "2.0":
            raise RequestError('a request says "jsonrpc": "2.0"', code=INVALID_REQUEST)
        if not is_id(value.get("id")):
            raise RequestError("the id of a request is text or a number", code=INVALID_REQUEST)
        method, params = value.get("method"), value.get("params", {})
        if not isinstance(method, str):
            raise RequestError("a request names its method", code=INVALID_REQUEST)
        if not isinstance(params, dict):
            raise RequestError("the params of a request are an object: parameters have names here")
        return cls(method, params, value.get("id"), "id" not in value)


def id_of(value: Any) -> RequestId:
    """The id to answer with to something that may be no request: its own if it has one, else null."""
    found = value.get("id") if isinstance(value, dict) else None
    return found if is_id(found) else None


def is_id(value: object) -> bool:
    """Whether ``value`` can be the id of a request: text, a number, or null."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, (str, int)) and not isinstance(value, bool))


def result_reply(request_id: RequestId, result: Any) -> Reply:
    """The reply to a request that succeeded."""
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_reply(request_id: RequestId, exc: BaseException) -> Reply:
    """The reply to a request that failed: ``data.type`` is the name of the error's class."""
    if isinstance(exc, RequestError):
        message, code = str(exc), exc.code
    elif isinstance(exc, ArchRouteError):
        message, code = str(exc), next((code for kind, code in _CODES.items() if isinstance(exc, kind)), DECISION_FAILED)
    else:
        logger.error("a request failed in a way that was not expected", exc_info=exc)
        message, code = "an error that was not expected; stderr has it", INTERNAL_ERROR
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    data: dict[str, Any] = {"type": type(exc).__name__}
    if isinstance(exc, QueueFullError):
        data["retry_after"] = round(exc.retry_after, 3)
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message, "data": data}}


def encode(reply: Reply | list[Reply]) -> bytes:
    """A reply as a line: ASCII, so that it is the same in any encoding that a host reads it in."""
    return json.dumps(reply, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
