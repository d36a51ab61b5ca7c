"""Requests that are forwarded go straight to their endpoint: each layer in between costs a part of a millisecond."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from archroute_edge.record import Operation
from archroute_edge.server.http._api_errors import unavailable
from archroute_edge.server.http._client_watch import uncancel
from archroute_edge.server.http._forward_paths import FORWARD_PATHS

Endpoint = Callable[[Request, Operation], Awaitable[Response]]


class ForwardDoor:
    """ASGI middleware.

    Args:
        app: gets all other requests.
        endpoint: answers those that are forwarded.
        handlers: of the errors of ``app``, by their classes.
    """

    def __init__(self, app: ASGIApp, endpoint: Endpoint, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        self._app = app
        self._endpoint = endpoint
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        operation = FORWARD_PATHS.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if operation is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request, operation)
        except asyncio.CancelledError:
            # The server ends, and waits for no answer any longer.
            uncancel()
            response = unavailable("the server is shutting down", "shutting_down").response(scope["path"])
        except Exception as exc:
            kind = next(kind for kind in type(exc).__mro__ if kind in self._handlers)
            answer: Response = await self._handlers[kind](request, exc)
            await answer(scope, receive, send)
            if kind is Exception:
                # The server's log has it.
                raise
            return
        await response(scope, receive, send)
