"""The record as files for other tools: labelled cases for ``archroute eval``, and what models made of the same prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archroute_edge.conversation import Turn, read_messages
from archroute_edge.errors import ConversationError, RecordError
from archroute_edge.record._entry import Entry
from archroute_edge.record._reading import Grade, Record, Wanted
from archroute_edge.routes import OTHER, RouteTable

UNVERIFIED: Final = "unverified"
"""Tag of a case whose route is what was decided, right or not."""
VERIFIED: Final = "verified"
"""Tag of a case whose route a grade names."""
_PIECE: Final = 500
_OWN_ANSWERS: Final = (None, "low_confidence", "pinned")


@dataclass
class ExportedCases:
    """What came of requests on their way to labelled cases.

    Args:
        written: cases.
        without_text: requests whose texts were not kept.
        elsewhere: requests whose route is not in the table.
    """

    written: int = 0
    without_text: int = 0
    elsewhere: int = 0


def cases(record: Record, wanted: Wanted, table: RouteTable | None, counts: ExportedCases) -> Iterator[dict[str, Any]]:
    """Labelled cases, the oldest first; a conversation that was sent several times is one case, its last.

    The right route is the one that a grade names, else the one that was decided.

    Args:
        record: with texts.
        wanted: the requests.
        table: the routes that each case gets; None where the file's reader has them.
        counts: is counted up meanwhile.
    """
    routes = None if table is None else [{"name": route.name, "description": route.description} for route in table]
    found: dict[tuple[Turn, ...], tuple[Entry, str, str]] = {}
    for some in _pieces(record, wanted):
        grades = record.grades(entry.id for entry in some)
        for entry in some:
            right, tag = _right_route(entry, grades.get(entry.id))
            turns = turns_of(entry)
            if right is None or entry.shadow_of is not None:
                continue
            if not turns:
                counts.without_text += 1
            elif table is not None and right != OTHER and right not in table:
                counts.elsewhere += 1
            elif found.get(turns, (None, None, UNVERIFIED))[2] == UNVERIFIED or tag == VERIFIED:
                found[turns] = (entry, right, tag)
    for turns, (entry, right, tag) in found.items():
        counts.written += 1
        case: dict[str, Any] = {"messages": [{"role": turn.role, "content": turn.content} for turn in turns], "route": right}
        if entry.session is not None:
            case |= {"conversation_id": entry.session, "turn": len(turns)}
        yield case | {"tags": [tag]} | ({} if routes is None else {"routes": routes})


def outcomes(record: Record, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """A prompt each, with what every model made of it that was asked: those that failed, the one that answered, and shadows."""
    for some in _pieces(record, wanted):
        requests = [entry for entry in some if entry.operation != "route" and entry.shadow_of is None]
        shadows = record.shadows_of(entry.id for entry in requests)
        everything = [*requests, *(each for copies in shadows.values() for each in copies)]
        grades = record.grades(entry.id for entry in everything)
        for entry in requests:
            answers = [entry, *shadows.get(entry.id, ())]
            said = {"id": entry.id, "time": entry.time, "route": entry.route, "session": entry.session}
            if entry.content is not None:
                said["request"] = entry.content.request
            yield said | {"outcomes": [one for each in answers for one in _outcomes(each, grades.get(each.id))]}


def turns_of(entry: Entry) -> tuple[Turn, ...]:
    """The conversation that an entry's route was decided on; none if its texts were not kept."""
    try:
        body = json.loads(entry.content.request) if entry.content is not None else {}
    except (ValueError, RecursionError):
        return ()
    messages = (body.get("messages") or body.get("input")) if isinstance(body, Mapping) else None
    if isinstance(messages, Sequence) and not isinstance(messages, str):
        # Items of the Responses API that are no messages, such as calls of tools, have no role.
        messages = [each for each in messages if isinstance(each, Mapping) and "role" in each]
    try:
        return tuple(read_messages(messages or []))
    except ConversationError:
        return ()


def _right_route(entry: Entry, grade: Grade | None) -> tuple[str | None, str]:
    if grade is not None and grade.right_route is not None:
        return grade.right_route, VERIFIED
    # A fallback, because time ran out or nothing could be read, says nothing about the conversation.
    return (entry.route if entry.reason in _OWN_ANSWERS else None), UNVERIFIED


def _outcomes(entry: Entry, grade: Grade | None) -> Iterator[dict[str, Any]]:
    """Of each target that was tried, in this order; the last one answered if the entry has a model."""
    for place, one in enumerate(entry.tries, start=1):
        answered = entry.model is not None and place == len(entry.tries)
        outcome: dict[str, Any] = {
            "model": one.model,
            "shadow": entry.shadow_of is not None,
            "outcome": entry.outcome if answered else "failed",
            "status": one.status,
            "error": one.error,
            "first_byte_ms": one.first_byte_ms,
            "total_ms": one.total_ms,
        }
        if answered:
            outcome |= {
                "input_tokens": entry.usage.input,
                "output_tokens": entry.usage.output,
                "cached_tokens": entry.usage.cached,
                "cost": entry.cost,
                "score": None if grade is None else grade.score,
            }
            if entry.content is not None:
                outcome["answer"] = entry.content.answer
        yield outcome


def _pieces(record: Record, wanted: Wanted) -> Iterator[list[Entry]]:
    piece: list[Entry] = []
    for entry in record.each(wanted):
        piece.append(entry)
        if len(piece) == _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def check_has_texts(counts: ExportedCases) -> None:
    """Say what is missing if not one case could be made.

    Raises:
        RecordError: there is none.
    """
    if counts.written:
        return
    if counts.without_text:
        raise RecordError("no texts were recorded, which cases need: archroute serve --record=content")
    raise RecordError("no decision is wanted that a case could be made of")
