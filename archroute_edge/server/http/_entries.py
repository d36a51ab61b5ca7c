"""Entries of decisions that are answered as such, without a request to a model."""

from __future__ import annotations

import json
import time
import uuid

from archroute_edge.conversation import Messages, read_messages
from archroute_edge.decision import Decision
from archroute_edge.record import Content, Entry, session_digest


def decision_entry(
    decision: Decision,
    messages: Messages | None = None,
    *,
    asked_model: str | None = None,
    session: str | None = None,
    client: str | None = None,
) -> Entry:
    """The entry of a decision that has just been made.

    Args:
        decision: it.
        messages: what was decided on, if the entry is to hold it.
        asked_model: the model that the request names.
        session: what names the conversation.
        client: name of the client's API key.
    """
    total_ms = decision.timings.total_ms
    return Entry(
        id=uuid.uuid4().hex,
        time=time.time() - total_ms / 1000,
        operation="route",
        outcome="completed",
        status=200,
        asked_model=asked_model,
        route=decision.route,
        confidence=decision.confidence,
        scores=decision.scores,
        decided_by=decision.decided_by,
        reason=decision.reason,
        model_reason=decision.model_reason,
        expected_scores=decision.expected_scores,
        model=decision.model,
        decision_ms=total_ms,
        total_ms=total_ms,
        session=session_digest(session),
        client=client,
        content=None if messages is None else _content(messages),
    )


def _content(messages: Messages) -> Content:
    """The texts that a decision was made on, as a body of a chat."""
    turns = [{"role": turn.role, "content": turn.content} for turn in read_messages(messages)]
    return Content(json.dumps({"messages": turns}, ensure_ascii=False), None)


def pinned_entry(
    route: str | None, model: str | None, *, asked_model: str | None, session: str | None, client: str | None
) -> Entry:
    """The entry of an earlier decision that was repeated for its session."""
    return Entry(
        id=uuid.uuid4().hex,
        time=time.time(),
        operation="route",
        outcome="completed",
        status=200,
        asked_model=asked_model,
        route=route,
        reason="pinned",
        model=model,
        session=session_digest(session),
        client=client,
    )
