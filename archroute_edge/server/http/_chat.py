"""``/v1/chat/completions``: the router model itself, for clients that bring a ready prompt of it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from archroute_edge.conversation import Messages, read_texts
from archroute_edge.decision import Decision
from archroute_edge.prompts import ReadyPrompt, recognise
from archroute_edge.server.http._api_errors import ApiError
from archroute_edge.server.http._json_body import JsonRoute
from archroute_edge.server.http._reply_bodies import ChatReply
from archroute_edge.server.http._request_bodies import ChatRequest
from archroute_edge.server.http._serving import Serving, error_responses

PATH = "/v1/chat/completions"

_SENDERS = ("user", "system", "developer")

_STREAM: dict[str, Any] = {
    "description": "The reply; with `stream` as server-sent events, each a `chat.completion.chunk`, `[DONE]` at the end.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def chat_endpoint(serving: Serving) -> APIRouter:
    """The endpoint over ``serving``."""
    router = APIRouter(route_class=JsonRoute, tags=["router model"])

    @router.post(PATH, response_model=ChatReply, responses={200: _STREAM, **error_responses()})
    async def complete(request: Request, body: ChatRequest) -> Response:
        """Answer a router prompt, routes and conversation between their tags, in the shape that its sender expects."""
        prompt = read_prompt(body.messages)
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        answered = await serving.decide(request, turns, routes=prompt.table, user=body.user)
        reply = prompt.shape.reply(answered.decision.route)
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": serving.model_name if body.model is None else body.model,
        }
        usage = _usage(answered.decision)
        if body.stream:
            with_usage = bool(body.stream_options and body.stream_options.include_usage)
            return StreamingResponse(_events(head, reply, usage if with_usage else None), media_type="text/event-stream")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply},
            "logprobs": None,
            "finish_reason": "stop",
        }
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    return router


def read_prompt(messages: Messages) -> ReadyPrompt:
    """The router prompt that the user and system messages of a chat hold together.

    Raises:
        ApiError: 400; there is none.
        PromptFormatError: one begins and does not go on.
        RouteTableError: its routes cannot be used together.
        ConversationError: the messages of the chat, or those in the prompt, are malformed.
    """
    chat = read_texts(messages)
    # With turns of the assistant it is a conversation, in which somebody may quote a prompt.
    if all(role in _SENDERS for role, _ in chat):
        prompt = recognise("\n".join(text for _, text in chat))
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
