"""The bodies of answers, as the OpenAPI document has them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from archroute_edge.decision import Reason


class DecisionReply(BaseModel):
    """Plano's decision: which models to ask, in this order."""

    models: list[str]
    route: str | None = Field(description="null where no route fits")
    trace_id: str
    session_id: str | None = Field(description="what X-Model-Affinity said, or an implicit session's")
    pinned: bool = Field(description="whether an earlier decision of the session was repeated")
    switched: bool = Field(description="whether the session, after its pin had ended, goes to another model than before")


class TokenCountsReply(BaseModel):
    """Tokens of a decision."""

    prompt: int
    reused: int
    evaluated: int
    answer: int
    evaluations: int


class TimingsReply(BaseModel):
    """Times of a decision in milliseconds."""

    total_ms: float
    wait_ms: float
    prompt_ms: float
    evaluate_ms: float
    score_ms: float


class RouteReply(BaseModel):
    """A decision, as ``archroute route --json`` prints it."""

    route: str
    matched: bool
    model: str | None
    models: list[str]
    confidence: float
    scores: dict[str, float] | None = Field(None, description="only where they were asked for")
    tokens: TokenCountsReply
    timings: TimingsReply
    trimmed: bool
    dropped_turns: int
    cut_turns: int
    decided_by: str | None
    prompt_format: str | None
    reason: Reason | None


class BatchReply(BaseModel):
    """Decisions in the order of the conversations."""

    decisions: list[RouteReply]


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
