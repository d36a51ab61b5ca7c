"""The bodies of answers, as the OpenAPI document has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, get_type_hints

from pydantic import BaseModel, Field, create_model

from archroute_edge.decision import Decision
from archroute_edge.record import Entry, Minute, Share, Totals


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
    __doc__=(
        "A decision, as `archroute route --json` prints it; `scores` only if they were asked for, `targets` only if the route "
        "prefers `quality`."
    ),
    **{name: (kind, None if name in ("scores", "targets") else ...) for name, kind in get_type_hints(Decision).items()},
)


class BatchReply(BaseModel):
    """Decisions in the order of the conversations."""

    decisions: list[RouteReply]  # type: ignore[valid-type]


class WarmReply(BaseModel):
    """What was evaluated."""

    done: bool = Field(description="false if something newer of the same caller took its place")
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


class DecidingModel(BaseModel):
    """A model that answers questions, as TypeSafe's clients list them."""

    name: str
    description: str
    release_date: str = Field(description="the day of the server's start")


class ModelsReply(BaseModel):
    """The server's models: one."""

    object: Literal["list"]
    data: list[ModelReply]
    models: list[DecidingModel]


class MoreOfAnswer(BaseModel):
    """What is known of an answer beyond its protocol."""

    matched: bool = Field(description="whether one of the options fits; else the answer would be `other`")
    confidence: float = Field(description="probability of the answer, with `other` among the options")
    other: float = Field(description="probability that none of the options fits")
    calibrated: bool = Field(description="whether the probabilities are calibrated")
    decided_by: str | None
    reason: str | None


class SystemOneAnswer(BaseModel):
    """The answer to a choice."""

    type: Literal["choice"]
    choice: str
    confidence: float = Field(description="(p - 1/k) / (1 - 1/k), p the largest probability of k options; 1 for a single one")
    probabilities: dict[str, float] = Field(description="of the options; they sum to 1")
    archroute: MoreOfAnswer


class SystemOneUsage(BaseModel):
    """Tokens of all questions' prompts, and those evaluated for the answers."""

    input_tokens: int
    output_tokens: int


class SystemOneReply(BaseModel):
    """Answers by the questions' names."""

    model: str
    answers: dict[str, SystemOneAnswer]
    usage: SystemOneUsage


class OptionProbability(BaseModel):
    """How probable an option is."""

    value: str | bool
    probability: float


class DecisionsAnswer(BaseModel):
    """The answer to a choice."""

    type: Literal["choice"]
    name: str | None
    choice: str | bool
    confidence: float = Field(description="(p - 1/k) / (1 - 1/k), p the largest probability of k options; 1 for a single one")
    probabilities: list[OptionProbability]
    archroute: MoreOfAnswer


class InputTokens(BaseModel):
    """Tokens of prompts that were evaluated before."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokens(BaseModel):
    """Tokens that were thought about the answers: none."""

    reasoning_tokens: int


class DecisionsUsage(BaseModel):
    """Tokens of all questions' prompts, and those evaluated for the answers."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class DecisionsReply(BaseModel):
    """Answers in the questions' order."""

    model: str
    answers: list[DecisionsAnswer]
    usage: DecisionsUsage


class StatusReply(BaseModel):
    """How the server is."""

    status: Literal["ok", "starting", "shutting down", "failed"]


SHOWN_OF_ENTRY: Final = (
    *("id", "time", "operation", "outcome", "status", "asked_model", "route", "confidence", "decided_by", "reason"),
    *("model_reason", "model", "tries", "streamed", "decision_ms", "first_byte_ms", "total_ms", "usage", "cost", "client"),
    "shadow_of",
)
"""What the activity tells of an entry: neither texts nor sessions."""


def _of(name: str, text: str, kind: type, names: Iterable[str] | None = None) -> Any:
    """A body with the fields of a dataclass."""
    hints = get_type_hints(kind)
    return create_model(name, __doc__=text, **{each: (hints[each], ...) for each in names or hints})  # type: ignore[call-overload]


ActivityEntry = _of("ActivityEntry", "A request, without its texts and its session.", Entry, SHOWN_OF_ENTRY)


class WithdrawnTarget(BaseModel):
    """A target that did worse than the incumbent in its trial."""

    kind: str = Field(description="route or alias")
    name: str = Field(description="of that route or alias")
    model: str


class ActivityReply(BaseModel):
    """What happened since the server's start."""

    number: int = Field(description="entries so far")
    time: float = Field(description="now, in seconds since 1970")
    since: float = Field(description="the start")
    decider: str = Field(description="the router's model")
    forwards: bool = Field(description="whether requests go on to the models of their routes")
    default_model: str | None
    totals: Totals
    routes: list[Share] = Field(description="most first; the name is null for all that are counted together")
    models: list[Share] = Field(description="the same")
    minutes: list[Minute] = Field(description="the last hour, the oldest minute first")
    resting: list[str] = Field(description="models that failed too often in a row, and are asked last for a while")
    withdrawn: list[WithdrawnTarget]
    entries: list[ActivityEntry] = Field(description="the latest ones, oldest first")  # type: ignore[valid-type]


class ErrorBody(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """An error, in the shape of OpenAI's API."""

    error: ErrorBody
