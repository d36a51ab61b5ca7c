"""Entries as rows of the record's tables. Columns have the names of OpenTelemetry's attributes where there is one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from archroute_edge.record._entry import Content, Entry, Operation, Outcome, Try, Usage

OPERATION: Final = "gen_ai.operation.name"
STATUS: Final = "http.response.status_code"
ASKED_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
STREAMED: Final = "gen_ai.request.stream"
FIRST_BYTE: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
SESSION: Final = "gen_ai.conversation.id"
PROVIDER: Final = "gen_ai.provider.name"
ERROR: Final = "error.type"
ID: Final = "archroute.id"
TIME: Final = "archroute.time"
OUTCOME: Final = "archroute.outcome"
ROUTE: Final = "archroute.route"
CONFIDENCE: Final = "archroute.confidence"
SCORES: Final = "archroute.scores"
DECIDED_BY: Final = "archroute.decided_by"
REASON: Final = "archroute.reason"
MODEL_REASON: Final = "archroute.model_reason"
EXPECTED_SCORES: Final = "archroute.expected_scores"
MODEL: Final = "archroute.model"
DECISION: Final = "archroute.decision.duration"
DURATION: Final = "archroute.duration"
COST: Final = "archroute.cost"
DEFAULT_COST: Final = "archroute.default_cost"
CLIENT: Final = "archroute.client"
SHADOW_OF: Final = "archroute.shadow_of"
SCORE: Final = "gen_ai.evaluation.score.value"
RIGHT_ROUTE: Final = "archroute.right_route"
NOTE: Final = "gen_ai.evaluation.explanation"
REQUEST_BODY: Final = "archroute.request_body"
ANSWER_BODY: Final = "archroute.answer_body"


@dataclass(frozen=True)
class Attribute:
    """A figure of an entry or a try, under its name in the record and in spans; None is left out there."""

    name: str
    get: Callable[[Any], Any]


REQUEST: Final = (
    Attribute(ID, lambda entry: entry.id),
    Attribute(TIME, lambda entry: entry.time),
    Attribute(OPERATION, lambda entry: entry.operation),
    Attribute(OUTCOME, lambda entry: entry.outcome),
    Attribute(STATUS, lambda entry: entry.status),
    Attribute(ASKED_MODEL, lambda entry: entry.asked_model),
    Attribute(ROUTE, lambda entry: entry.route),
    Attribute(CONFIDENCE, lambda entry: entry.confidence),
    Attribute(SCORES, lambda entry: _dumped(entry.scores)),
    Attribute(DECIDED_BY, lambda entry: entry.decided_by),
    Attribute(REASON, lambda entry: entry.reason),
    Attribute(MODEL_REASON, lambda entry: entry.model_reason),
    Attribute(EXPECTED_SCORES, lambda entry: _dumped(entry.expected_scores)),
    Attribute(MODEL, lambda entry: entry.model),
    Attribute(RESPONSE_MODEL, lambda entry: entry.response_model),
    Attribute(STREAMED, lambda entry: bool(entry.streamed)),
    Attribute(DECISION, lambda entry: _seconds(entry.decision_ms)),
    Attribute(FIRST_BYTE, lambda entry: _seconds(entry.first_byte_ms)),
    Attribute(DURATION, lambda entry: _seconds(entry.total_ms)),
    Attribute(INPUT_TOKENS, lambda entry: entry.usage.input),
    Attribute(OUTPUT_TOKENS, lambda entry: entry.usage.output),
    Attribute(CACHED_TOKENS, lambda entry: entry.usage.cached),
    Attribute(COST, lambda entry: entry.cost),
    Attribute(DEFAULT_COST, lambda entry: entry.default_cost),
    Attribute(SESSION, lambda entry: entry.session),
    Attribute(CLIENT, lambda entry: entry.client),
    Attribute(SHADOW_OF, lambda entry: entry.shadow_of),
)
TRY: Final = (
    Attribute(MODEL, lambda each: each.model),
    Attribute(PROVIDER, lambda each: each.provider),
    Attribute(STATUS, lambda each: each.status),
    Attribute(ERROR, lambda each: each.error),
    Attribute(FIRST_BYTE, lambda each: _seconds(each.first_byte_ms)),
    Attribute(DURATION, lambda each: _seconds(each.total_ms)),
)


def listed(names: Iterable[str]) -> str:
    """Columns for a statement."""
    return ", ".join(f'"{name}"' for name in names)


def _insert(table: str, names: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({listed(names)}) VALUES ({', '.join('?' * len(names))})"


# Two processes give no two entries one id; an entry that is given twice is kept once.
_INSERT_REQUEST: Final = _insert("requests", [each.name for each in REQUEST]) + f' ON CONFLICT ("{ID}") DO NOTHING'
_INSERT_TRY: Final = _insert("tries", ["request", "number", *(each.name for each in TRY)])
_INSERT_CONTENT: Final = _insert("contents", ["request", REQUEST_BODY, ANSWER_BODY])


@dataclass(frozen=True)
class EntryRows:
    """What an entry is in the tables."""

    request: tuple[Any, ...]
    tries: tuple[tuple[Any, ...], ...]
    content: tuple[Any, ...] | None


def rows_of(entry: Entry) -> EntryRows:
    """The rows of ``entry``."""
    content = entry.content
    return EntryRows(
        tuple(_storable(each.get(entry)) for each in REQUEST),
        tuple(tuple(_storable(each.get(one)) for each in TRY) for one in entry.tries),
        None if content is None else (_storable(content.request), _storable(content.answer)),
    )


def insert(connection: sqlite3.Connection, rows: EntryRows) -> None:
    """Write the rows of one entry, within a transaction of the caller."""
    made = connection.execute(_INSERT_REQUEST, rows.request)
    if made.rowcount != 1:
        return
    number = made.lastrowid
    if rows.tries:
        connection.executemany(_INSERT_TRY, [(number, place, *each) for place, each in enumerate(rows.tries)])
    if rows.content is not None:
        connection.execute(_INSERT_CONTENT, (number, *rows.content))


def entry_of(row: Sequence[Any], tries: Sequence[Try], content: Content | None) -> Entry:
    """The entry of a row with the columns of :data:`REQUEST`."""
    found = dict(zip((each.name for each in REQUEST), row, strict=True))
    return Entry(
        id=found[ID],
        time=found[TIME],
        operation=cast(Operation, found[OPERATION]),
        outcome=cast(Outcome, found[OUTCOME]),
        status=found[STATUS],
        asked_model=found[ASKED_MODEL],
        route=found[ROUTE],
        confidence=found[CONFIDENCE],
        scores=_loaded(found[SCORES]),
        decided_by=found[DECIDED_BY],
        reason=found[REASON],
        model_reason=found[MODEL_REASON],
        expected_scores=_loaded(found[EXPECTED_SCORES]),
        model=found[MODEL],
        response_model=found[RESPONSE_MODEL],
        tries=tuple(tries),
        streamed=bool(found[STREAMED]),
        decision_ms=_milliseconds(found[DECISION]),
        first_byte_ms=_milliseconds(found[FIRST_BYTE]),
        total_ms=1000 * found[DURATION],
        usage=Usage(found[INPUT_TOKENS], found[OUTPUT_TOKENS], found[CACHED_TOKENS]),
        cost=found[COST],
        default_cost=found[DEFAULT_COST],
        session=found[SESSION],
        client=found[CLIENT],
        shadow_of=found[SHADOW_OF],
        content=content,
    )


def try_of(row: Sequence[Any]) -> Try:
    """The try of a row with the columns of :data:`TRY`."""
    model, provider, status, error, first_byte, duration = row
    return Try(model, provider, status, error, _milliseconds(first_byte), 1000 * duration)


def _dumped(scores: Mapping[str, float] | None) -> str | None:
    return None if scores is None else json.dumps(dict(scores))


def _loaded(scores: str | None) -> Any:
    return None if scores is None else json.loads(scores)


def _storable(value: Any) -> Any:
    # Half a surrogate pair in a client's text cannot be stored, and is no reason to lose the entry.
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
