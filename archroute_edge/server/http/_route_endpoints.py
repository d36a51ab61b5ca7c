"""``/v1/route``, ``/v1/route/batch`` and ``/v1/warm``: decisions with all that is known about them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from archroute_edge.errors import ConversationError, DecisionCancelledError
from archroute_edge.server.http._api_errors import ApiError, param_of
from archroute_edge.server.http._json_body import JsonRoute
from archroute_edge.server.http._reply_bodies import BatchReply, RouteReply, WarmReply
from archroute_edge.server.http._request_bodies import BatchRequest, RouteRequest, WarmRequest, read_table
from archroute_edge.server.http._serving import Serving, caller_of, error_responses

PATHS = ("/v1/route", "/v1/route/batch", "/v1/warm")


def route_endpoints(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(route_class=JsonRoute, tags=["decisions"])

    @router.post("/v1/route", response_model=RouteReply, responses=error_responses())
    async def route(request: Request, body: RouteRequest) -> Response:
        """Route a conversation."""
        answered = await serving.decide(
            request,
            body.messages,
            routes=read_table(body.routes, "routes"),
            scores=body.scores,
            key=body.key,
            deadline=body.deadline,
            user=body.user,
        )
        return JSONResponse(answered.decision.to_dict())

    @router.post("/v1/route/batch", response_model=BatchReply, responses=error_responses())
    async def batch(request: Request, body: BatchRequest) -> Response:
        """Route several conversations; one that is malformed fails them all."""
        routes = serving.inline(read_table(body.routes, "routes"))
        try:
            future = serving.service.submit_many(
                body.conversations,
                routes=routes,
                scores=body.scores,
                caller=caller_of(request, body.user),
            )
        except ConversationError as exc:
            raise ApiError(400, str(exc), code="invalid_request", param=param_of("conversations", exc.place)) from exc
        decisions = await serving.wait(request, future)
        for decision in decisions:
            serving.metrics.decided(decision, is_inline=routes is not None)
        return JSONResponse({"decisions": [decision.to_dict() for decision in decisions]})

    @router.post("/v1/warm", response_model=WarmReply, responses=error_responses())
    async def warm(request: Request, body: WarmRequest) -> Response:
        """Evaluate ahead of time what a conversation begins with, while its last message is being typed."""
        future = serving.service.warm(
            body.messages,
            routes=serving.inline(read_table(body.routes, "routes")),
            caller=caller_of(request, body.user),
        )
        reply: dict[str, Any] = {"done": False, "tokens": 0, "evaluated": 0, "total_ms": 0.0}
        try:
            done = await serving.wait(request, future)
        except DecisionCancelledError:
            pass
        else:
            reply = {"done": True, "tokens": done.tokens, "evaluated": done.evaluated, "total_ms": round(done.total_ms, 3)}
        return JSONResponse(reply)

    return router
