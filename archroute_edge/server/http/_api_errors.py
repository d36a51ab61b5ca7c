"""Errors as HTTP answers, all in the shape of OpenAI's API."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from archroute_edge.errors import (
    ArchRouteError,
    ContextOverflowError,
    ConversationError,
    DecisionCancelledError,
    PromptFormatError,
    QueueFullError,
    RequestError,
    RouteTableError,
    ServiceClosedError,
    SettingsError,
)
from archroute_edge.gateway import error_body
from archroute_edge.server.http._forward_paths import FORWARD_PATHS

logger = logging.getLogger(__name__)

_CODES = {404: "not_found", 405: "method_not_allowed"}
_CALLERS_FAULT = (RequestError, ConversationError, RouteTableError, PromptFormatError, SettingsError)
_STEP_S = 0.05
_LONGEST_HELD_S = 2.0
_HALF_LIFE_S = 5.0
_MOST_HELD = 512
_MOST_CALLERS = 1024
CLIENT_GONE = 499
"""Stands in metrics for requests whose client went away; nobody receives it."""


class ApiError(HTTPException):
    """An answer that is an error.

    Args:
        status: HTTP status.
        message: what is wrong and what to do, in one line.
        code: a word for programs.
        param: the part of the request that it is about.
        headers: further headers.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.param = param

    def response(self, path: str = "") -> JSONResponse:
        """The answer, in the shape of the API that is spoken at ``path``."""
        operation = FORWARD_PATHS.get(path, "chat")
        body = error_body(operation, self.status_code, self.detail, self.code, self.param)
        return JSONResponse(body, self.status_code, self.headers)


class ClientGoneError(Exception):
    """The client closed its connection before it had an answer."""


def api_error(exc: ArchRouteError) -> ApiError:
    """What ``exc`` is to a client."""
    if isinstance(exc, QueueFullError):
        headers = {"Retry-After": str(max(1, math.ceil(exc.retry_after)))}
        return ApiError(429, str(exc), code="queue_full", headers=headers)
    if isinstance(exc, ContextOverflowError):
        return ApiError(400, str(exc), code="context_length_exceeded")
    if isinstance(exc, _CALLERS_FAULT):
        param = "messages" if isinstance(exc, PromptFormatError) else getattr(exc, "place", "")
        return ApiError(400, str(exc), code="invalid_request", param=param or None)
    if isinstance(exc, ServiceClosedError):
        return unavailable("the server is shutting down", "shutting_down")
    if isinstance(exc, DecisionCancelledError):
        return unavailable("the decision was called off", "called_off")
    logger.error("a decision failed: %s", exc)
    return unavailable("the decision failed; the server's log says why", "engine_failed")


def unavailable(message: str, code: str) -> ApiError:
    """A 503 that may be tried again in a second."""
    return ApiError(503, message, code=code, headers={"Retry-After": "1"})


class Refusals:
    """Holds the answers of callers whose requests are refused, longer and longer: one that asks again at once would leave no
    time for others. It costs a timer, and no thread.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._n_held = 0

    def delay(self, caller: str) -> float:
        """Seconds to hold one more refusal of ``caller``, which is noted; half as long after so much time without any."""
        now = self._clock()
        level, last = self._levels.pop(caller, (0.0, now))
        level = 1 + level * math.pow(0.5, (now - last) / _HALF_LIFE_S)
        self._levels[caller] = (level, now)
        if len(self._levels) > _MOST_CALLERS:
            self._levels.popitem(last=False)
        return min(_LONGEST_HELD_S, _STEP_S * level)

    async def hold(self, caller: str) -> None:
        """Return when ``caller`` may hear that it is refused."""
        delay = self.delay(caller)
        if self._n_held < _MOST_HELD:
            self._n_held += 1
            try:
                await asyncio.sleep(delay)
            finally:
                self._n_held -= 1


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of ``app`` in one shape."""
    refusals = Refusals()

    async def of_package(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, ArchRouteError)
        if isinstance(exc, QueueFullError):
            # Its body is not needed any more, and others need the place.
            if hasattr(request.state, "give_back"):
                request.state.give_back()
            host = request.client.host if request.client else ""
            await refusals.hold(getattr(request.state, "caller", host))
        return api_error(exc).response(request.url.path)

    async def of_body(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        first = exc.errors()[0]
        # Not what pydantic found there: that may be somebody's message.
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return ApiError(400, message, code="invalid_request", param=place or None).response(request.url.path)

    async def of_http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        if not isinstance(exc, ApiError):
            headers = dict(exc.headers) if exc.headers else None
            code = _CODES.get(exc.status_code, "invalid_request")
            exc = ApiError(exc.status_code, str(exc.detail), code=code, headers=headers)
        return exc.response(request.url.path)

    async def of_client(_request: Request, _exc: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)

    async def unexpected(request: Request, _exc: Exception) -> Response:
        message = "an error that was not expected; the server's log has it"
        return ApiError(500, message, code="internal_error").response(request.url.path)

    app.add_exception_handler(ArchRouteError, of_package)
    app.add_exception_handler(RequestValidationError, of_body)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(ClientGoneError, of_client)
    app.add_exception_handler(Exception, unexpected)
