"""``/routing/v1/...``: Plano's decision endpoint in its three shapes, with sessions that stay on their model."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response

from archroute_edge.conversation import Conversation
from archroute_edge.server import MAX_NAME, options
from archroute_edge.server.http._affinity import Pin
from archroute_edge.server.http._bodies import body_of, read_body
from archroute_edge.server.http._entries import pinned_entry
from archroute_edge.server.http._reply_bodies import DecisionReply
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Answered, Serving, caller_of, client_of, error_responses

CHAT, MESSAGES, RESPONSES = "/routing/v1/chat/completions", "/routing/v1/messages", "/routing/v1/responses"
PATHS = (CHAT, MESSAGES, RESPONSES)
IMPLICIT = "implicit:"
"""What the name of an implicit session begins with."""

_MORE = "model routing_preferences tools user"
_CHAT = options("the body", "messages", _MORE, others=True)
_MESSAGES = options("the body", "messages", f"{_MORE} system", others=True)
_RESPONSES = options("the body", "input", f"{_MORE} instructions", others=True)
# W3C trace context: version, trace id, parent id, flags.
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
# Decisions that no model made: a session would stay on the fallback because of one slow moment, or one picture.
_NOT_KEPT = ("deadline", "no_user_text", "unreachable")


class Headers:
    """What the headers of a request say about sessions and traces."""

    def __init__(
        self,
        x_model_affinity: Annotated[
            str | None,
            Header(max_length=MAX_NAME, description="A session: its later requests get its first decision."),
        ] = None,
        x_plano_cache: Annotated[
            str | None, Header(max_length=MAX_NAME, description="`off`: no implicit session for this request.")
        ] = None,
        traceparent: Annotated[str | None, Header(description="W3C trace context; its trace id is answered.")] = None,
    ) -> None:
        self.session = x_model_affinity or None
        self.allows_implicit = (x_plano_cache or "").lower() != "off"
        found = _TRACE_PARENT.fullmatch(traceparent or "")
        self.trace_id = found[1] if found else uuid.uuid4().hex


def decision_endpoint(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(tags=["decisions"], route_class=ServedRoute)
    described: dict[str, Any] = {"response_model": DecisionReply, "responses": error_responses()}

    @router.post(
        CHAT, **described, openapi_extra=body_of(_CHAT, "An ordinary chat body; how it would be answered is not looked at.")
    )
    async def chat(request: Request, headers: Annotated[Headers, Depends()]) -> Response:
        """Say which models to ask about an ordinary chat body, without asking any."""
        return await _decide(serving, request, headers, await read_body(request, _CHAT))

    @router.post(
        MESSAGES,
        **described,
        openapi_extra=body_of(_MESSAGES, "A body of Anthropic's Messages API. Of its blocks the texts are read."),
    )
    async def messages(request: Request, headers: Annotated[Headers, Depends()]) -> Response:
        """Say which models to ask about a body of Anthropic's Messages API, without asking any."""
        return await _decide(serving, request, headers, await read_body(request, _MESSAGES))

    @router.post(
        RESPONSES,
        **described,
        openapi_extra=body_of(_RESPONSES, "A body of OpenAI's Responses API. Of its items the messages are read."),
    )
    async def responses(request: Request, headers: Annotated[Headers, Depends()]) -> Response:
        """Say which models to ask about a body of OpenAI's Responses API, without asking any."""
        return await _decide(serving, request, headers, await read_body(request, _RESPONSES))

    return router


async def _decide(serving: Serving, request: Request, headers: Headers, body: dict[str, Any]) -> Response:
    conversation: Conversation = body["input"] if "input" in body else body["messages"]
    conversation.offers_tools = bool(body.get("tools"))
    routes, model, user = (body.get(name) for name in ("routing_preferences", "model", "user"))
    session = headers.session
    if session is None and serving.settings.implicit_sessions and headers.allows_implicit:
        others = (caller_of(request, user), model, routes and [asdict(route) for route in routes])
        session = implicit_session(conversation, body.get("system", body.get("instructions")), body.get("tools"), others)

    def pin_of_session() -> Pin | None:
        return serving.affinity.find(session, serving.config) if session else None

    earlier = serving.affinity.last(session) if session else None
    pin = pin_of_session()
    pinned, switched = pin is not None, False
    if pin is None:
        answered = await serving.ask(request, conversation, routes=routes, key=session, user=user)
        # Another request of the session may have been decided meanwhile: the first decision is the session's.
        decided_meanwhile = pin_of_session()
        pinned = decided_meanwhile is not None
        pin = decided_meanwhile or _pin(answered)
        if not pinned:
            serving.note(request, answered.decision, conversation, asked_model=model, session=session)
        # A session stays with what was decided.
        if session and not pinned and answered.decision.reason not in _NOT_KEPT:
            switched = earlier is not None and earlier.models[:1] != pin.models[:1]
            serving.affinity.pin(session, pin)
            serving.metrics.sessions.set(len(serving.affinity))
    if pinned:
        serving.metrics.pinned()
        first = pin.models[0] if pin.models else None
        client = client_of(request)
        serving.entries.add(pinned_entry(pin.route, first, asked_model=model, session=session, client=client))
    reply: dict[str, Any] = {
        "models": list(pin.models) or ([model] if model else []),
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


def implicit_session(conversation: Conversation, system: Any, tools: Any, others: Iterable[Any]) -> str | None:
    """A name for the conversation, the same for each of its requests; None if no user message has text yet.

    It is a digest of what stands at the head of every request: the system prompt, the names of the tools, the first user
    message, and ``others``: the caller, the model asked for, routes of the request. Nothing of them is kept.
    """
    user = next((text for role, text in conversation.texts if role == "user" and text.strip()), None)
    if user is None:
        return None
    earlier = [text for role, text in conversation.texts if role in ("system", "developer")]
    head = json.dumps([system, earlier, _names(tools), user, *others], sort_keys=True)
    return IMPLICIT + hashlib.sha256(head.encode("ascii")).hexdigest()[:32]


def _names(tools: Any) -> list[Any]:
    found = []
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict):
            function = tool.get("function")
            found.append(function.get("name") if isinstance(function, dict) else tool.get("name"))
    return found
