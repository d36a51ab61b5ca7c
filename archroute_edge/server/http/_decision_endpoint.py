"""``/routing/v1/...``: Plano's decision endpoint in its three shapes, with sessions that stay on their model."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response

from archroute_edge.conversation import Messages, read_messages
from archroute_edge.errors import ConversationError
from archroute_edge.server.http._affinity import Pin
from archroute_edge.server.http._api_errors import ApiError, param_of
from archroute_edge.server.http._json_body import JsonRoute
from archroute_edge.server.http._neighbour_requests import implicit_session, responses_messages
from archroute_edge.server.http._reply_bodies import DecisionReply
from archroute_edge.server.http._request_bodies import (
    AnthropicDecisionRequest,
    DecisionRequest,
    ResponsesDecisionRequest,
    read_table,
)
from archroute_edge.server.http._serving import Answered, Serving, caller_of, error_responses

CHAT, MESSAGES, RESPONSES = "/routing/v1/chat/completions", "/routing/v1/messages", "/routing/v1/responses"
PATHS = (CHAT, MESSAGES, RESPONSES)
MAX_SESSION_LENGTH = 256

# W3C trace context: version, trace id, parent id, flags.
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
# Decisions that no model made: a session would stay on the fallback because of one slow moment, or one picture.
_NOT_KEPT = ("deadline", "no_user_text")


class Headers:
    """What the headers of a request say about sessions and traces."""

    def __init__(
        self,
        x_model_affinity: Annotated[
            str | None,
            Header(max_length=MAX_SESSION_LENGTH, description="A session: its later requests get its first decision."),
        ] = None,
        x_plano_cache: Annotated[
            str | None, Header(max_length=MAX_SESSION_LENGTH, description="`off`: no implicit session for this request.")
        ] = None,
        traceparent: Annotated[str | None, Header(description="W3C trace context; its trace id is answered.")] = None,
    ) -> None:
        self.session = x_model_affinity or None
        self.allows_implicit = (x_plano_cache or "").lower() != "off"
        found = _TRACE_PARENT.fullmatch(traceparent or "")
        self.trace_id = found[1] if found else uuid.uuid4().hex


def decision_endpoint(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(route_class=JsonRoute, tags=["decisions"])
    described: dict[str, Any] = {"response_model": DecisionReply, "responses": error_responses()}

    @router.post(CHAT, **described)
    async def chat(request: Request, body: DecisionRequest, headers: Annotated[Headers, Depends()]) -> Response:
        """Say which models to ask about an ordinary chat body, without asking any."""
        return await _decide(serving, request, headers, body, body.messages, None)

    @router.post(MESSAGES, **described)
    async def messages(request: Request, body: AnthropicDecisionRequest, headers: Annotated[Headers, Depends()]) -> Response:
        """Say which models to ask about a body of Anthropic's Messages API, without asking any."""
        return await _decide(serving, request, headers, body, body.messages, body.system)

    @router.post(RESPONSES, **described)
    async def responses(request: Request, body: ResponsesDecisionRequest, headers: Annotated[Headers, Depends()]) -> Response:
        """Say which models to ask about a body of OpenAI's Responses API, without asking any."""
        try:
            return await _decide(serving, request, headers, body, responses_messages(body.input), body.instructions)
        except ConversationError as exc:
            raise ApiError(400, str(exc), code="invalid_request", param=param_of("input", exc.place)) from exc

    return router


async def _decide(
    serving: Serving,
    request: Request,
    headers: Headers,
    body: DecisionRequest | AnthropicDecisionRequest | ResponsesDecisionRequest,
    conversation: Messages,
    system: Any,
) -> Response:
    routes = read_table(body.routing_preferences, "routing_preferences", foreign=True)
    session = headers.session
    if session is None and serving.settings.implicit_sessions and headers.allows_implicit:
        others = (caller_of(request, body.user), body.model, body.routing_preferences)
        session = implicit_session(conversation, system, body.tools, others)

    def pin_of_session() -> Pin | None:
        return serving.affinity.find(session, serving.config) if session else None

    earlier = serving.affinity.last(session) if session else None
    pin = pin_of_session()
    pinned, switched = pin is not None, False
    if pin is None:
        answered = await serving.decide(request, conversation, routes=routes, key=session, user=body.user)
        # Another request of the session may have been decided meanwhile: the first decision is the session's.
        decided_meanwhile = pin_of_session()
        pinned = decided_meanwhile is not None
        pin = decided_meanwhile or _pin(answered)
        # A session stays with what was decided.
        if session and not pinned and answered.decision.reason not in _NOT_KEPT:
            switched = earlier is not None and earlier.models[:1] != pin.models[:1]
            serving.affinity.pin(session, pin)
            serving.metrics.sessions.set(len(serving.affinity))
    else:
        # Also here: what is malformed is so whether or not there is a pin.
        read_messages(conversation)
    if pinned:
        serving.metrics.pinned()
    models = list(pin.models) or ([body.model] if body.model else [])
    reply: dict[str, Any] = {
        "models": models,
        "route": pin.route,
        "trace_id": headers.trace_id,
        "session_id": session,
        "pinned": pinned,
        "switched": switched,
    }
    return JSONResponse(reply)


def _pin(answered: Answered) -> Pin:
    decision = answered.decision
    config = None if answered.is_inline else answered.config
    return Pin(decision.route if decision.matched else None, decision.models, config)
