"""One decision or forwarded request, as the record and the page of the server know it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

Outcome = Literal["completed", "failed", "aborted"]
"""How a request ended: an answer to its end, an error, or the client went away."""

Operation = Literal["route", "chat", "responses", "messages"]
"""A decision alone, or which API a forwarded request speaks."""

OUT_OF_TIME: Final = "out_of_time"
"""Error of a try that began when little of the request's time was left."""

BLAMELESS: Final = ("refused", "overloaded", OUT_OF_TIME)
"""Errors of a try that say nothing about its target: the client is to blame, too much is under way here, or it had no time."""


@dataclass(frozen=True)
class Try:
    """One attempt to have a target answer.

    Args:
        model: the target, as the configuration names it.
        provider: the provider's name.
        status: HTTP status; None if there was none.
        error: why it failed, in a word for programs (``connection_refused``, ``timeout``, ``rate_limited``, ``server_error``,
            ``not_authorised``, ``broken_stream``, ``refused``, ...); None if it answered.
        first_byte_ms: from the try's beginning to the first byte of the answer; None if none came.
        total_ms: from the try's beginning to its end.
    """

    model: str
    provider: str
    status: int | None
    error: str | None
    first_byte_ms: float | None
    total_ms: float


@dataclass(frozen=True)
class Usage:
    """Tokens as the upstream counts them; ``input`` includes ``cached``. None where it says nothing."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None


@dataclass(frozen=True)
class Content:
    """Texts, kept only if asked for: the request's body and the answer's, as they passed."""

    request: str
    answer: str | None


@dataclass(frozen=True)
class Entry:
    """One request. Holds no text unless :attr:`content` was asked for.

    Args:
        id: 32 hexadecimal digits.
        time: when it came, in seconds since 1970.
        operation: what was asked for.
        outcome: how it ended.
        status: the HTTP status that the client got.
        asked_model: the model in the request: ``auto``, an alias or a model.
        route: the decision's route; None if no decision was made, ``other`` if none fitted.
        confidence: of the route.
        scores: of every route, where they were computed.
        decided_by: the router's model that decided.
        reason: why the route is not the model's own answer.
        model_reason: why the first target stood first.
        expected_scores: target to the score that was expected of it, if the route prefers ``quality``.
        model: the target that answered, as the configuration names it; for a decision alone the first one.
        response_model: the model that the upstream says answered.
        tries: in their order.
        streamed: whether the client asked for a stream.
        decision_ms: the decision.
        first_byte_ms: from the request to the first byte that went to the client.
        total_ms: from the request to the end of the answer.
        usage: tokens.
        cost: US dollars; None if a price or the tokens are not known.
        default_cost: what the same tokens would have cost with the default model.
        session: names the conversation (a digest of what clients call it).
        client: name of the client's API key, if it has one.
        shadow_of: id of the entry that this one repeats with another model.
        content: texts, if they are kept.
    """

    id: str
    time: float
    operation: Operation
    outcome: Outcome
    status: int
    asked_model: str | None = None
    route: str | None = None
    confidence: float | None = None
    scores: Mapping[str, float] | None = None
    decided_by: str | None = None
    reason: str | None = None
    model_reason: str | None = None
    expected_scores: Mapping[str, float] | None = None
    model: str | None = None
    response_model: str | None = None
    tries: tuple[Try, ...] = ()
    streamed: bool = False
    decision_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    default_cost: float | None = None
    session: str | None = None
    client: str | None = None
    shadow_of: str | None = None
    content: Content | None = None


class EntrySink(Protocol):
    """Takes entries; never blocks and never raises."""

    def add(self, entry: Entry) -> None:
        """Take one more."""


def session_digest(session: str | None) -> str | None:
    """What stands for a session's name in entries: its digest, since clients put names of people there."""
    if session is None:
        return None
    return hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:32]
