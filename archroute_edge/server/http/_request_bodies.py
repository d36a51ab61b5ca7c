"""The bodies of requests, as pydantic models; messages and routes are read by the readers that every door has.

Those are plain values to pydantic, with a schema for the OpenAPI document: read twice, they would be refused twice, in two
wordings, and what one door takes another would not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from archroute_edge.config import read_routes
from archroute_edge.errors import RouteTableError
from archroute_edge.routes import MAX_ROUTES, RouteTable
from archroute_edge.routing import LONGEST_DEADLINE_S
from archroute_edge.server import MAX_BATCH
from archroute_edge.server.http._api_errors import ApiError, param_of

_TEXT = {"type": "string"}
_TEXT_PARTS = ["text", "input_text", "output_text"]
_PART = {
    "description": "A part of a message. Parts that are not text are left out.",
    "anyOf": [
        _TEXT,
        {"type": "object", "required": ["text"], "properties": {"text": _TEXT}},
        {"type": "object", "required": ["type"], "properties": {"type": {"not": {"enum": _TEXT_PARTS}}}},
    ],
}
_CONTENT = {"anyOf": [_TEXT, {"type": "array", "items": _PART}, {"type": "null"}]}
_MESSAGE = {
    "description": "A message as OpenAI's API has it; what else stands in it, such as tool calls, is not looked at.",
    "anyOf": [
        {
            "type": "object",
            "required": ["role"],
            "properties": {"role": {"enum": ["user", "assistant"]}, "content": _CONTENT},
        },
        {
            "type": "object",
            "required": ["role"],
            "properties": {"role": {"enum": ["system", "developer", "tool", "function"]}, "content": {}},
        },
    ],
}
_MESSAGES = {"type": "array", "items": _MESSAGE}
_ROUTE_KEYS = {
    "name": {"type": "string", "minLength": 1},
    "description": _TEXT,
    "models": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "selection_policy": {"description": "Without effect: prices and latencies are not known here, so models keep their order."},
    "skills": {"description": "Without effect."},
}
_ROUTE = {"type": "object", "required": ["name"], "properties": _ROUTE_KEYS}
_ITEM = {
    "description": "A message, or another item, which is left out.",
    "anyOf": [*_MESSAGE["anyOf"], {"type": "object", "required": ["type"], "properties": {"type": _TEXT}}],
}


def _routes_schema(route: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "array", "minItems": 1, "maxItems": MAX_ROUTES, "items": route}, {"type": "null"}]}


Chat = Annotated[Any, WithJsonSchema(_MESSAGES)]
Conversation = Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, _MESSAGES]})]
Routes = Annotated[Any, WithJsonSchema(_routes_schema({**_ROUTE, "additionalProperties": False}))]
Preferences = Annotated[Any, WithJsonSchema(_routes_schema(_ROUTE))]
Caller = Annotated[
    str | None,
    Field(max_length=256, description="Who asks: callers take turns, and a warm-up replaces an earlier one of its caller."),
]


class _Request(BaseModel):
    # Texts are texts and numbers are numbers: nothing is guessed.
    model_config = ConfigDict(strict=True)


class StreamOptions(_Request):
    """What a streamed reply has beside its text."""

    include_usage: bool | None = None


class ChatRequest(_Request):
    """A chat completion of the router model: user and system messages that together hold a router prompt.

    Parameters of sampling and length have no effect: the reply is the best one that the routes allow, whole.
    """

    model: str | None = Field(None, description="Any name; the reply carries it. The server has one model.")
    messages: Chat
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = Field(None, description="Not given here: POST /v1/route has probabilities.")
    user: Caller = None


class _DecisionRequest(_Request):
    model: str | None = Field(None, description="Answered as the model to ask where no route fits and there is no default.")
    routing_preferences: Preferences = Field(None, description="Other routes than the server's own; unknown keys are ignored.")
    tools: Any = Field(None, description="Not looked at, but for the names in an implicit session.")


class DecisionRequest(_DecisionRequest):
    """An ordinary chat body; what it would be answered with is not looked at."""

    messages: Chat
    user: Caller = None


class AnthropicDecisionRequest(_DecisionRequest):
    """A body of Anthropic's Messages API. Of its blocks the texts are read."""

    system: Any = Field(None, description="Not looked at, but in an implicit session.")
    messages: Chat
    user: Caller = None


class ResponsesDecisionRequest(_DecisionRequest):
    """A body of OpenAI's Responses API. Of its items the messages are read."""

    instructions: Any = Field(None, description="Not looked at, but in an implicit session.")
    input: Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _ITEM}]})]
    user: Caller = None


class RouteRequest(_Request):
    """A conversation to route."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Conversation
    routes: Routes = Field(None, description="Other routes than the server's own.")
    scores: bool = False
    key: str | None = Field(
        None, max_length=256, description="Names the conversation; keeps it on one of several weighted models."
    )
    deadline: float | None = Field(
        None,
        gt=0,
        le=LONGEST_DEADLINE_S,
        allow_inf_nan=False,
        description="Seconds after which the fallback is answered; the server's own also holds.",
    )
    user: Caller = None


class BatchRequest(_Request):
    """Conversations to route, one answer each."""

    model_config = ConfigDict(strict=True, extra="forbid")

    conversations: Annotated[list[Conversation], Field(min_length=1, max_length=MAX_BATCH)]
    routes: Routes = None
    scores: bool = False
    user: Caller = None


class WarmRequest(_Request):
    """What is typed so far, or nothing: then the routes alone are evaluated."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Annotated[Any, WithJsonSchema({"anyOf": [_TEXT, _MESSAGES, {"type": "null"}]})] = None
    routes: Routes = None
    user: Caller = None


def read_table(routes: Any, param: str, *, foreign: bool = False) -> RouteTable | None:
    """The table of routes that came with a request as ``param``; None if there is none.

    Raises:
        ApiError: 400; they are no routes, or cannot be used together.
    """
    try:
        return None if routes is None else read_routes(routes, foreign=foreign)
    except RouteTableError as exc:
        raise ApiError(400, str(exc), code="invalid_request", param=param_of(param, exc.place)) from exc
