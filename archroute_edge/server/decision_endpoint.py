"""``/routing/v1/chat/completions``: Plano's decision endpoint, with sessions that stay on their model."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from archroute_edge.server.affinity import Pin
from archroute_edge.server.json_body import JsonRoute
from archroute_edge.server.reply_bodies import DecisionReply
from archroute_edge.server.request_bodies import DecisionRequest, read_routes
from archroute_edge.server.serving import Answered, Serving, error_responses

PATH = "/routing/v1/chat/completions"
MAX_SESSION_LENGTH = 256

# W3C trace context: version, trace id, parent id, flags.
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def decision_endpoint(serving: Serving) -> APIRouter:
    """The endpoint over ``serving``."""
    router = APIRouter(route_class=JsonRoute, tags=["decisions"])

    @router.post(PATH, response_model=DecisionReply, responses=error_responses())
    async def decide(
        request: Request,
        body: DecisionRequest,
        x_model_affinity: Annotated[
            str | None,
            Header(max_length=MAX_SESSION_LENGTH, description="A session: its later requests get its first decision."),
        ] = None,
        traceparent: Annotated[str | None, Header(description="W3C trace context; its trace id is answered.")] = None,
    ) -> Response:
        """Say which models to ask about an ordinary chat body, without asking any."""
        session = x_model_affinity or None

        def pin_of_session() -> Pin | None:
            return serving.affinity.find(session, serving.config) if session else None

        pin = pin_of_session()
        pinned = pin is not None
        if pin is None:
            answered = await serving.decide(
                request,
                [message.plain() for message in body.messages],
                routes=read_routes(body.routing_preferences),
                key=session,
                user=body.user,
            )
            # Another request of the session may have been decided meanwhile: the first decision is the session's.
            earlier = pin_of_session()
            pinned = earlier is not None
            pin = earlier or _pin(answered)
            # A session stays with what was decided, and nothing was where the time was up.
            if session and not pinned and answered.decision.reason != "deadline":
                serving.affinity.pin(session, pin)
                serving.metrics.sessions.set(len(serving.affinity))
        if pinned:
            serving.metrics.pinned()
        models = list(pin.models) or ([body.model] if body.model else [])
        reply: dict[str, Any] = {
            "models": models,
            "route": pin.route,
            "trace_id": _trace_id(traceparent),
            "session_id": session,
            "pinned": pinned,
        }
        return JSONResponse(reply)

    return router


def _pin(answered: Answered) -> Pin:
    decision = answered.decision
    config = None if answered.is_inline else answered.config
    return Pin(decision.route if decision.matched else None, decision.models, config)


def _trace_id(traceparent: str | None) -> str:
    found = _TRACE_PARENT.fullmatch(traceparent or "")
    return found[1] if found else uuid.uuid4().hex
