"""Rows to labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from archroute_edge.conversation import Conversation, read_messages
from archroute_edge.decision import Decision
from archroute_edge.errors import ConversationError
from archroute_edge.label._rows import Row
from archroute_edge.routing import Router


@dataclass(frozen=True)
class Label:
    """What was decided about a row, or why nothing could be."""

    row: Row
    decision: Decision | None = None
    error: str | None = None

    def to_dict(self, *, scores: bool) -> dict[str, Any]:
        """Plain values, the same columns for every row."""
        found = self.decision
        values: dict[str, Any] = {
            "row": self.row.number,
            "id": self.row.id,
            "route": found.route if found else None,
            "model": found.model if found else None,
            "confidence": found.confidence if found else None,
            "decided_by": found.decided_by if found else None,
            "reason": found.reason if found else None,
            "trimmed": found.trimmed if found else None,
            "error": self.error,
        }
        if scores:
            values["scores"] = dict(found.scores) if found and found.scores is not None else None
        return values


class Labeller:
    """Decides about rows.

    Args:
        router: decides.
        scores: whether to give the probability of every route, too.
    """

    def __init__(self, router: Router, *, scores: bool = False) -> None:
        self._router = router
        self.scores = scores

    @property
    def at_once(self) -> int:
        """How many rows are worth giving at once."""
        return self._router.batch_size

    def label(self, rows: Sequence[Row], keys: Sequence[str]) -> list[Label]:
        """The label of each row, in order. What is wrong with a row's messages is its label.

        Args:
            rows: conversations, or what is wrong with them.
            keys: names each row. They decide between models that share a route by weight, so that a row that is labelled
                again has the same label.

        Raises:
            ArchRouteError: the model failed. That says nothing about the rows.
        """
        read = [_read(row) for row in rows]
        conversations = [each for each in read if isinstance(each, Conversation)]
        wanted = [key for key, each in zip(keys, read, strict=True) if isinstance(each, Conversation)]
        decided = iter(self._router.route_many(conversations, scores=self.scores, keys=wanted) if conversations else ())
        return [
            Label(row, next(decided)) if isinstance(each, Conversation) else Label(row, error=each)
            for row, each in zip(rows, read, strict=True)
        ]


def _read(row: Row) -> Conversation | str:
    if row.error is not None:
        return row.error
    try:
        return read_messages(row.messages)
    except ConversationError as exc:
        return f"row {row.number}: {exc}"
