"""The bodies of answers, as the OpenAPI document has them."""

from __future__ import annotations

from typing import Literal, get_type_hints

from pydantic import BaseModel, Field, create_model

from archroute_edge.decision import Decision


class DecisionReply(BaseModel):
    """Plano's decision: which models to ask, in this order."""

    models: list[str]
    route: str | None = Field(description="null where no route fits")
    trace_id: str
    session_id: str | None = Field(description="what X-Model-Affinity said, or an implicit session's")
    pinned: bool = Field(description="whether an earlier decision of the session was repeated")
    switched: bool = Field(description="whether the session, after its pin had ended, goes to another model than before")


RouteReply = create_model(  # type: ignore[call-overload]
    "RouteReply",
    __doc__="A decision, as `archroute route --json` prints it; `scores` only if they were asked for.",
    **{name: (kind, None if name == "scores" else ...) for name, kind in get_type_hints(Decision).items()},
)


class BatchReply(BaseModel):
    """Decisions in the order of the conversations."""

    decisions: list[RouteReply]  # type: ignore[valid-type]


class WarmReply(BaseModel):
    """What was evaluated."""

    done: bool = Field(description="false where a decision, or a newer warm-up, came first")
    tokens: int
    evaluated: int
    total_ms: float


class ReplyMessage(BaseModel):
    """The router model's message."""

    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    """The one reply."""

    index: int
    message: ReplyMessage
    logprobs: None
    finish_reason: Literal["stop"]


class CachedTokens(BaseModel):
    """Tokens of the prompt that were evaluated before."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens of the prompt that the router's own model was given, and those evaluated for its answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatReply(BaseModel):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class ModelReply(BaseModel):
    """The server's model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsReply(BaseModel):
    """The server's models: one."""

    object: Literal["list"]
    data: list[ModelReply]


class StatusReply(BaseModel):
    """How the server is."""

    status: Literal["ok", "starting", "shutting down", "failed"]


class ErrorBody(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """An error, in the shape of OpenAI's API."""

    error: ErrorBody
