"""The bodies of requests and answers, as pydantic models: what is checked is what the OpenAPI document says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from archroute_edge.routes import MAX_ROUTES, Route, RouteTable

MAX_BATCH = 256
"""Most conversations in one batch."""


class _Request(BaseModel):
    # Texts are texts and numbers are numbers: nothing is guessed.
    model_config = ConfigDict(strict=True)


class ContentPart(_Request):
    """A part of a message. Parts that are not text are left out."""

    type: str = "text"
    text: str | None = None


class ChatMessage(_Request):
    """A message as OpenAI's API has it; what else stands in it, such as tool calls, is not looked at."""

    role: Literal["user", "assistant", "system", "developer", "tool", "function"]
    content: str | list[ContentPart] | None = None

    def plain(self) -> dict[str, Any]:
        """The message as the router takes it."""
        return self.model_dump()


Chat = Annotated[list[ChatMessage], Field(min_length=1)]
Caller = Annotated[
    str | None,
    Field(max_length=256, description="Who asks: callers take turns, and a warm-up replaces an earlier one of its caller."),
]


class StreamOptions(_Request):
    """What a streamed reply has beside its text."""

    include_usage: bool | None = None


class ChatRequest(_Request):
    """A chat completion of the router model: one user message that holds a router prompt.

    Parameters of sampling and length have no effect: the reply is the best one that the routes allow, whole.
    """

    model: str | None = Field(None, description="Any name; the reply carries it. The server has one model.")
    messages: Chat
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = Field(None, description="Not given here: POST /v1/route has probabilities.")
    user: Caller = None


class InlineRoute(_Request):
    """A route that comes with a request."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    models: list[Annotated[str, Field(min_length=1)]] = []


class RoutingPreference(InlineRoute):
    """A route as Plano's ``routing_preferences`` have it."""

    selection_policy: dict[str, Any] | None = Field(
        None, description="Taken and without effect: prices and latencies are not known here, so models keep their order."
    )


class DecisionRequest(_Request):
    """An ordinary chat body; what it would be answered with is not looked at."""

    model: str | None = Field(None, description="Answered as the model to ask where no route fits and there is no default.")
    messages: Chat
    routing_preferences: Annotated[list[RoutingPreference], Field(min_length=1, max_length=MAX_ROUTES)] | None = None
    user: Caller = None


class DecisionReply(BaseModel):
    """Plano's decision: which models to ask, in this order."""

    models: list[str]
    route: str | None = Field(description="null where no route fits")
    trace_id: str
    session_id: str | None = Field(description="what X-Model-Affinity said")
    pinned: bool = Field(description="whether an earlier decision of the session was repeated")


Conversation = Annotated[str, Field(min_length=1)] | Chat
Routes = Annotated[list[InlineRoute], Field(min_length=1, max_length=MAX_ROUTES)]


class RouteRequest(_Request):
    """A conversation to route."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Conversation
    routes: Routes | None = Field(None, description="Other routes than the server's own.")
    scores: bool = False
    key: str | None = Field(
        None, max_length=256, description="Names the conversation; keeps it on one of several weighted models."
    )
    deadline: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which the fallback is answered; the server's own also holds.",
    )
    user: Caller = None


class BatchRequest(_Request):
    """Conversations to route, one answer each."""

    model_config = ConfigDict(strict=True, extra="forbid")

    conversations: Annotated[list[Conversation], Field(min_length=1, max_length=MAX_BATCH)]
    routes: Routes | None = None
    scores: bool = False
    user: Caller = None


class WarmRequest(_Request):
    """What is typed so far, or nothing: then the routes alone are evaluated."""

    model_config = ConfigDict(strict=True, extra="forbid")

    messages: Conversation | None = None
    routes: Routes | None = None
    user: Caller = None


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
    reason: Literal["low_confidence", "deadline"] | None


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

    status: Literal["ok", "starting", "shutting down"]


class ErrorBody(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """An error, in the shape of OpenAI's API."""

    error: ErrorBody


def read_conversation(conversation: str | list[ChatMessage]) -> str | list[dict[str, Any]]:
    """A conversation as the router takes it."""
    return conversation if isinstance(conversation, str) else [message.plain() for message in conversation]


def read_routes(routes: list[InlineRoute] | list[RoutingPreference] | None) -> RouteTable | None:
    """The table of routes that came with a request.

    Raises:
        RouteTableError: they cannot be used together.
    """
    return None if routes is None else RouteTable(Route(each.name, each.description, tuple(each.models)) for each in routes)
