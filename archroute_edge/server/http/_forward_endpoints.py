"""``/v1/chat/completions``, ``/v1/responses`` and ``/v1/messages`` of a server that forwards: route, send on, pass back."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from archroute_edge.config import shorten
from archroute_edge.conversation import Conversation, read_messages
from archroute_edge.decision import Decision
from archroute_edge.errors import (
    ArchRouteError,
    ConversationError,
    DecisionCancelledError,
    QueueFullError,
)
from archroute_edge.gateway import AUTO, BrokenAnswerError, Forwarded, ForwardRequest, Gateway, RouteFound, model_span
from archroute_edge.record import Operation
from archroute_edge.server import MAX_NAME, read_input, read_options
from archroute_edge.server.http import _chat as chat
from archroute_edge.server.http._api_errors import ApiError, ClientGoneError
from archroute_edge.server.http._bodies import LARGE, read_json
from archroute_edge.server.http._client_watch import ClientWatch, uncancel
from archroute_edge.server.http._decision_endpoint import implicit_session
from archroute_edge.server.http._forward_paths import FORWARD_PATHS
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Serving, caller_of, client_of, error_responses
from archroute_edge.targets import RequestFacts

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

# What a browser sends along. A page elsewhere can send any text with a plain form, and these headers give it away.
_OF_BROWSERS: Final = ("origin", "referer", "sec-fetch-site", "cookie")
_BETA: Final = b"beta=true"
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_DESCRIPTIONS: Final[Mapping[Operation, str]] = {
    "chat": "A body of OpenAI's Chat Completions API. `model` is `auto`, an alias or a model of the configuration, or the "
    "router's own model, for router prompts.",
    "responses": "A body of OpenAI's Responses API; `model` is `auto`, an alias or a model of the configuration.",
    "messages": "A body of Anthropic's Messages API; `model` is `auto`, an alias or a model of the configuration.",
}
_NAMES: Final[Mapping[Operation, str]] = {"chat": "complete", "responses": "respond", "messages": "answer"}


@dataclass(frozen=True)
class _Body:
    """A request's body.

    Args:
        raw: as it came.
        parsed: its JSON object.
        model: what it asks for; None if it does not say so.
        model_at: where that stands in ``raw``.
        facts: what a target must be able to take.
        conversation: what is routed, or names its session; None if the router cannot read it, or nothing depends on it.
    """

    raw: bytes
    parsed: dict[str, Any]
    model: str | None
    model_at: tuple[int, int]
    facts: RequestFacts
    conversation: Conversation | None


def forward_endpoints(serving: Serving, gateway: Gateway) -> APIRouter:
    """The endpoints over ``serving`` and ``gateway``."""
    router = APIRouter(tags=["forwarding"], route_class=ServedRoute)

    def add(path: str, operation: Operation) -> None:
        async def forward(request: Request) -> Response:
            return await answer_forwarded(serving, gateway, request, operation)

        schema = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}
        described = {"description": _DESCRIPTIONS[operation], "required": True, "content": {_JSON: {"schema": schema}}}
        router.add_api_route(
            path,
            forward,
            methods=["POST"],
            name=_NAMES[operation],
            description="Send a request to the first target of its route that answers, and pass the answer back.",
            responses={200: {"description": "The model's answer, as it came."}, **error_responses()},
            openapi_extra={"requestBody": described},
        )

    for path, operation in FORWARD_PATHS.items():
        add(path, operation)
    return router


async def answer_forwarded(serving: Serving, gateway: Gateway, request: Request, operation: Operation) -> Response:
    """The answer of a model to a request, once its first byte is there."""
    started = time.perf_counter()
    body = await _read(request, operation, gateway)
    model = body.model
    if model is None:
        message = f"the body needs a model: {AUTO}, or an alias or a model of the configuration"
        raise ApiError(400, message, code="invalid_request", param="model")
    # A configuration may call an alias like the router's model, ``mini``.
    if operation == "chat" and model in _own_names(serving) and not gateway.knows(model):
        asked = read_options(body.parsed, chat.OPTIONS)
        return await chat.answer_router_prompt(serving, request, asked)
    # A wildcard lets clients name any model, and names stand in the log.
    if len(model) > MAX_NAME or not model.isprintable() or not gateway.knows(model):
        message = f"there is no model {shorten(model)}; see GET /v1/models, or ask for {AUTO}"
        raise ApiError(404, message, code="model_not_found", param="model")
    client = client_of(request)
    wait = gateway.limits.ask(client)
    if wait is not None:
        headers = {"Retry-After": str(max(1, math.ceil(wait)))}
        raise ApiError(
            429, "this key has used its requests or tokens of the minute", code="rate_limit_exceeded", headers=headers
        )
    session = await _by_size(body.raw, lambda: _session(request, body))
    watch = ClientWatch(request.receive)
    try:
        with watch.armed():
            found = await _decide(serving, request, body, session) if model == AUTO else None
            asked_of_gateway = _asked(request, operation, body, found, session, started)
            forwarded = await gateway.forward(asked_of_gateway)
    except BaseException:
        watch.stop()
        raise
    # The body has done its duty, and others need its place, unless it stays in memory.
    if not forwarded.holds_request and hasattr(request.state, "give_back"):
        request.state.give_back()
    return _PassedOn(forwarded, watch)


def _asked(
    request: Request, operation: Operation, body: _Body, found: RouteFound | None, session: str | None, started: float
) -> ForwardRequest:
    server_key_in: tuple[str, ...] = getattr(request.state, "server_key_in", ())
    return ForwardRequest(
        operation=operation,
        raw=body.raw,
        body=body.parsed,
        model_at=body.model_at,
        facts=body.facts,
        headers=request.headers.raw,
        found=found,
        session=session,
        client=client_of(request),
        server_key_in=frozenset(name.encode("ascii") for name in server_key_in),
        started=started,
        query=_query(request, operation),
    )


def _query(request: Request, operation: Operation) -> bytes:
    """What goes upstream of a query: Anthropic's clients say there that they use what is new. A key may stand in others."""
    query: bytes = request.scope["query_string"]
    return query if operation == "messages" and query == _BETA else b""


def _own_names(serving: Serving) -> set[str]:
    """What the router's own model is called."""
    internal = {name for each in serving.config.models if each.internal for name in (each.model, each.name) if name}
    return {serving.model_name, *internal}


async def _read(request: Request, operation: Operation, gateway: Gateway) -> _Body:
    """The body, whole and parsed.

    Raises:
        ApiError: 415; not declared as JSON, or compressed. 400; no JSON object.
    """
    headers = request.headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    # What ``curl -d`` says of any body. A web page can say so, too.
    is_plain = kind in ("", _FORM) and not any(name in headers for name in _OF_BROWSERS)
    if kind != _JSON and not is_plain:
        raise ApiError(415, "the body must be JSON: Content-Type: application/json", code="unsupported_media_type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(415, "the body must not be compressed", code="unsupported_media_type")
    # The guard has read it to its end. The request would keep it for as long as the answer takes.
    raw: bytes = (await request.receive()).get("body", b"")
    return await _by_size(raw, lambda: _parsed(raw, operation, gateway))


async def _by_size(raw: bytes, work: Callable[[], Result]) -> Result:
    """The result of ``work``, done in a thread if it is about a large body: other requests are answered meanwhile."""
    return work() if len(raw) < LARGE else await asyncio.to_thread(work)


def _parsed(raw: bytes, operation: Operation, gateway: Gateway) -> _Body:
    # It goes on as it is, for the model to judge.
    parsed = read_json(raw, may_repeat=True)
    if not isinstance(parsed, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    model = parsed.get("model")
    if not isinstance(model, str):
        return _Body(raw, parsed, None, (0, 0), RequestFacts(), None)
    model_at = model_span(raw)
    if model_at is None:
        raise ApiError(400, "the body names a model twice", code="invalid_request", param="model")
    conversation: Conversation | None = None
    if gateway.chooses(model):
        # Another API's newer forms are for its models to judge.
        with suppress(ConversationError):
            is_input = operation == "responses"
            conversation = read_input(parsed.get("input")) if is_input else read_messages(parsed.get("messages", ()))
    return _Body(raw, parsed, model, model_at, gateway.facts_of(parsed), conversation)


async def _decide(serving: Serving, request: Request, body: _Body, session: str | None) -> RouteFound:
    """The route. A decision that cannot be made costs no request: the default model answers."""
    if body.conversation is None:
        return RouteFound(None, "not_understood")
    user = body.parsed.get("user")
    asked_at = time.perf_counter()
    decision: Decision | None = None
    reason: str | None = None
    try:
        user = user if isinstance(user, str) and len(user) <= MAX_NAME else None
        answered = await serving.ask(request, body.conversation, key=session, user=user, is_watched=True)
    except QueueFullError:
        reason = "queue_full"
    except DecisionCancelledError:
        reason = "called_off"
    except ApiError as exc:
        reason = exc.code
    except ArchRouteError as exc:
        logger.error("a decision failed, the default model answers: %s", exc)
        reason = "engine_failed"
    else:
        decision = answered.decision
    return RouteFound(decision, reason, 1000 * (time.perf_counter() - asked_at))


def _session(request: Request, body: _Body) -> str | None:
    """What names the conversation: a header, the body, or else its own beginning."""
    named = request.headers.get("x-model-affinity") or _named_session(body.parsed)
    if named:
        return named[:MAX_NAME]
    if body.conversation is None or request.headers.get("x-plano-cache", "").lower() == "off":
        return None
    others = (caller_of(request, None), client_of(request))
    system = body.parsed.get("system", body.parsed.get("instructions"))
    return implicit_session(body.conversation, system, body.parsed.get("tools"), others)


def _named_session(body: Mapping[str, Any]) -> str | None:
    metadata, conversation = body.get("metadata"), body.get("conversation")
    metadata = metadata if isinstance(metadata, dict) else {}
    found = (
        body.get("prompt_cache_key"),
        conversation.get("id") if isinstance(conversation, dict) else conversation,
        metadata.get("session_id"),
        body.get("user"),
        body.get("safety_identifier"),
        metadata.get("user_id"),
    )
    return next((each for each in found if isinstance(each, str) and each), None)


class _PassedOn(Response):
    """An answer that is passed on as it comes, until its end or until the client goes away.

    Args:
        forwarded: the answer.
        watch: of its client.
    """

    def __init__(self, forwarded: Forwarded, watch: ClientWatch) -> None:
        self._forwarded = forwarded
        self._watch = watch
        self.status_code = forwarded.status
        self.raw_headers = list(forwarded.headers)
        self.background = None

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            with self._watch.armed(), suppress(BrokenAnswerError):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for chunk in self._forwarded.content:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # Not behind an answer that broke: the server closes the connection then, and the client sees that it is cut.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGoneError:
            pass
        except asyncio.CancelledError:
            # The server ends, and waits for no answer any longer.
            uncancel()
            last = self._forwarded.break_off("the server is shutting down")
            if last is not None:
                await send({"type": "http.response.body", "body": last, "more_body": False})
        finally:
            self._watch.stop()
            await self._forwarded.close()
