"""``/v1/route``, ``/v1/route/batch`` and ``/v1/warm``: decisions with all that is known about them."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from archroute_edge.decision import Warmup
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.server import options
from archroute_edge.server.http._bodies import body_of, read_body
from archroute_edge.server.http._reply_bodies import BatchReply, RouteReply, WarmReply
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Serving, caller_of, error_responses

PATHS = ("/v1/route", "/v1/route/batch", "/v1/warm")

_ROUTE = options("the body", "messages", "routes scores key deadline user")
_BATCH = options("the body", "conversations", "routes scores keys user")
_WARM = options("the body", "", "messages routes whole scores user")


def route_endpoints(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(tags=["decisions"], route_class=ServedRoute)

    @router.post(
        "/v1/route",
        response_model=RouteReply,
        responses=error_responses(),
        openapi_extra=body_of(_ROUTE, "A conversation to route."),
    )
    async def route(request: Request) -> Response:
        """Route a conversation."""
        answered = await serving.decide(request, **await read_body(request, _ROUTE))
        return JSONResponse(answered.decision.to_dict())

    @router.post(
        "/v1/route/batch",
        response_model=BatchReply,
        responses=error_responses(),
        openapi_extra=body_of(_BATCH, "Conversations to route, one answer each."),
    )
    async def batch(request: Request) -> Response:
        """Route several conversations; one that is malformed fails them all."""
        asked = await read_body(request, _BATCH)
        caller, routes = caller_of(request, asked.pop("user", None)), serving.inline(asked.pop("routes", None))
        conversations = asked.pop("conversations")
        keys = asked.get("keys") or [None] * len(conversations)
        future = serving.service.submit_many(conversations, **asked, routes=routes, caller=caller)
        decisions = await serving.wait(request, future)
        for decision, messages, key in zip(decisions, conversations, keys, strict=True):
            serving.metrics.decided(decision, is_inline=routes is not None)
            serving.note(request, decision, messages, session=key)
        return JSONResponse({"decisions": [decision.to_dict() for decision in decisions]})

    @router.post(
        "/v1/warm",
        response_model=WarmReply,
        responses=error_responses(),
        openapi_extra=body_of(_WARM, "What is typed so far, or nothing: then the routes alone are evaluated."),
    )
    async def warm(request: Request) -> Response:
        """Evaluate ahead of time what a conversation begins with, or decide on it, while its last message is being typed."""
        asked = await read_body(request, _WARM)
        caller, routes = caller_of(request, asked.pop("user", None)), serving.inline(asked.pop("routes", None))
        future = serving.service.warm(asked.pop("messages", None), routes=routes, caller=caller, **asked)
        done: Warmup | None = None
        with suppress(DecisionCancelledError):
            done = await serving.wait(request, future)
        return JSONResponse(Warmup.reply(done))

    return router
