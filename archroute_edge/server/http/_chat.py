"""``/v1/chat/completions``: the router model itself, for clients that bring a ready prompt of it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from archroute_edge.conversation import Conversation
from archroute_edge.decision import Decision
from archroute_edge.errors import ConversationError, RouteTableError
from archroute_edge.prompts import ReadyPrompt, recognise
from archroute_edge.server import options
from archroute_edge.server.http._api_errors import ApiError
from archroute_edge.server.http._bodies import body_of, read_body
from archroute_edge.server.http._reply_bodies import ChatReply
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Serving, error_responses

PATH = "/v1/chat/completions"

_SENDERS = ("user", "system", "developer")
OPTIONS: Final = options("the body", "messages", "model stream stream_options n logprobs user", others=True)
_BODY = body_of(
    OPTIONS,
    "A chat completion of the router model: user and system messages that together hold a router prompt. Parameters of "
    "sampling and length have no effect: the reply is the best one that the routes allow, whole.",
)
_STREAM: dict[str, Any] = {
    "description": "The reply; with `stream` as server-sent events, each a `chat.completion.chunk`, `[DONE]` at the end.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def chat_endpoint(serving: Serving) -> APIRouter:
    """The endpoint over ``serving``."""
    router = APIRouter(tags=["router model"], route_class=ServedRoute)

    @router.post(PATH, response_model=ChatReply, responses={200: _STREAM, **error_responses()}, openapi_extra=_BODY)
    async def complete(request: Request) -> Response:
        """Answer a router prompt, routes and conversation between their tags, in the shape that its sender expects."""
        return await answer_router_prompt(serving, request, await read_body(request, OPTIONS))

    return router


async def answer_router_prompt(serving: Serving, request: Request, body: dict[str, Any]) -> Response:
    """The router model's answer to a body that was read by :data:`OPTIONS`."""
    prompt = _prompt(body["messages"])
    answered = await serving.decide(
        request, prompt.turns, routes=prompt.table, user=body.get("user"), asked_model=body.get("model")
    )
    reply = prompt.shape.reply(answered.decision.route)
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": body.get("model", serving.model_name),
    }
    usage = _usage(answered.decision)
    if body.get("stream"):
        with_usage = usage if body.get("stream_options") else None
        return StreamingResponse(_events(head, reply, with_usage), media_type="text/event-stream")
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _prompt(chat: Conversation) -> ReadyPrompt:
    """The router prompt that the user and system messages of a chat hold together.

    Raises:
        ApiError: 400; there is none.
        PromptFormatError: one begins and does not go on.
        RouteTableError: its routes cannot be used together.
        ConversationError: the messages in the prompt are malformed.
    """
    # With turns of the assistant it is a conversation, in which a prompt may be quoted.
    if all(role in _SENDERS for role, _ in chat.texts):
        try:
            prompt = recognise("\n".join(text for _, text in chat.texts))
        except (ConversationError, RouteTableError) as exc:
            # A place in the prompt is none in the request.
            exc.place = "messages"
            raise
        if prompt is not None:
            return prompt
    raise ApiError(
        400,
        "this server is a router model: it answers messages that hold a router prompt (routes between <routes> and </routes>, "
        "a conversation between <conversation> and </conversation>); for an ordinary conversation use POST /v1/route or "
        "/routing/v1/chat/completions",
        code="not_a_router_prompt",
        param="messages",
    )


def _usage(decision: Decision) -> dict[str, Any]:
    tokens = decision.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.answer,
        "total_tokens": tokens.prompt + tokens.answer,
        "prompt_tokens_details": {"cached_tokens": tokens.reused},
    }


async def _events(head: dict[str, Any], reply: str, usage: dict[str, Any] | None) -> AsyncIterator[str]:
    """The chunks of a streamed reply: the role, the text, the end, the usage where it is asked for."""
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": reply}, None),
        ({}, "stop"),
    ]
    extra = {} if usage is None else {"usage": None}
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}], **extra}
        for delta, reason in deltas
    ]
    if usage is not None:
        chunks.append({"choices": [], "usage": usage})
    for chunk in chunks:
        yield f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **chunk})}\n\n"
    yield "data: [DONE]\n\n"
