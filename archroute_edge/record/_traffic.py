"""Requests as columns: what reports are counted from, so that a million of them take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.record import _rows as rows
from archroute_edge.record._entry import BLAMELESS
from archroute_edge.record._intervals import Floats, Integers
from archroute_edge.record._reading import Record, Wanted

Booleans = npt.NDArray[np.bool_]

_PIECE: Final = 50_000


@dataclass(frozen=True)
class Names:
    """A column of names: ``names[code]`` for each row, -1 for none."""

    names: tuple[str, ...]
    codes: Integers

    def of(self, name: str) -> Booleans:
        """Which rows have this name."""
        wanted = self.names.index(name) if name in self.names else -2
        return np.equal(self.codes, wanted)

    def counted(self, within: Booleans) -> list[str]:
        """The names among those rows, the most frequent first."""
        counts = np.bincount(self.codes[within & (self.codes >= 0)], minlength=len(self.names))
        return [self.names[place] for place in np.argsort(-counts, kind="stable") if counts[place]]


@dataclass(frozen=True)
class Tries:
    """All tries, a row each; ``request`` is the row of the request."""

    request: Integers
    place: Integers
    model: Names
    error: Names
    status: Floats
    first_byte: Floats


@dataclass(frozen=True)
class Traffic:
    """Requests of clients, a row each, in the order of time; seconds and US dollars, NaN for what is not known."""

    number: Integers
    time: Floats
    route: Names
    model: Names
    asked_model: Names
    model_reason: Names
    session: Names
    is_decision: Booleans
    is_failed: Booleans
    is_aborted: Booleans
    confidence: Floats
    decision: Floats
    first_byte: Floats
    duration: Floats
    input: Floats
    output: Floats
    cached: Floats
    cost: Floats
    default_cost: Floats
    score: Floats
    tries: Tries

    @cached_property
    def is_priced(self) -> Booleans:
        """Whether the cost is known with the model that answered and with the default model, so that both can be compared."""
        return ~np.isnan(self.cost) & ~np.isnan(self.default_cost)

    @cached_property
    def n_tries(self) -> Integers:
        """Of each request."""
        return np.bincount(self.tries.request, minlength=len(self.number)).astype(np.int64)

    @cached_property
    def first_model(self) -> Integers:
        """Code, in ``tries.model``, of the target that was tried first; -1 if none was."""
        found = np.full(len(self.number), -1, dtype=np.int64)
        first = self.tries.place == 0
        found[self.tries.request[first]] = self.tries.model.codes[first]
        return found

    @cached_property
    def first_try_failed(self) -> Booleans:
        """Whether the first target failed, and not because the client asked for something impossible or went away meanwhile."""
        errors = self.tries.error
        blamed = [code for code, word in enumerate(errors.names) if word not in BLAMELESS]
        found = np.zeros(len(self.number), dtype=bool)
        found[self.tries.request[(self.tries.place == 0) & np.isin(errors.codes, blamed)]] = True
        # A client that went away ended the last try of its request.
        found[self.is_aborted & (self.n_tries == 1)] = False
        return found

    @cached_property
    def first_try_first_byte(self) -> Floats:
        """Until the first target's first byte; NaN if it failed."""
        found = np.full(len(self.number), np.nan)
        answered = (self.tries.place == 0) & (self.tries.error.codes < 0)
        found[self.tries.request[answered]] = self.tries.first_byte[answered]
        return found

    @cached_property
    def clusters(self) -> Integers:
        """Number of the conversation; of its own for a request that belongs to none."""
        codes = self.session.codes
        return np.where(codes >= 0, codes, len(self.session.names) + np.arange(len(codes)))


_NAMES: Final = {
    "route": rows.ROUTE,
    "model": rows.MODEL,
    "asked_model": rows.ASKED_MODEL,
    "model_reason": rows.MODEL_REASON,
    "session": rows.SESSION,
}
_FLOATS: Final = {
    "time": rows.TIME,
    "confidence": rows.CONFIDENCE,
    "decision": rows.DECISION,
    "first_byte": rows.FIRST_BYTE,
    "duration": rows.DURATION,
    "input": rows.INPUT_TOKENS,
    "output": rows.OUTPUT_TOKENS,
    "cached": rows.CACHED_TOKENS,
    "cost": rows.COST,
    "default_cost": rows.DEFAULT_COST,
}
_FLAGS: Final = {
    "is_decision": f"\"{rows.OPERATION}\" = 'route'",
    "is_failed": f"\"{rows.OUTCOME}\" = 'failed'",
    "is_aborted": f"\"{rows.OUTCOME}\" = 'aborted'",
}


def read_traffic(record: Record, wanted: Wanted) -> Traffic:
    """The requests that are wanted."""
    condition, values = wanted.condition()
    columns = ["number", *_FLAGS.values(), *(f'"{name}"' for name in [*_FLOATS.values(), *_NAMES.values()])]
    statement = f"SELECT {', '.join(columns)} FROM requests WHERE {condition}"
    n_floats = 1 + len(_FLAGS) + len(_FLOATS)
    numbers, names = _columns(record.connection.execute(statement, values), n_floats, len(_NAMES))
    # Sorted here, since SQLite would jump through the file along its index.
    order = np.argsort(numbers[1 + len(_FLAGS)], kind="stable")
    numbers = [column[order] for column in numbers]
    names = [Names(column.names, column.codes[order]) for column in names]
    number = numbers[0].astype(np.int64)
    flags, floats = numbers[1 : 1 + len(_FLAGS)], numbers[1 + len(_FLAGS) :]
    told: Mapping[str, Any] = {
        **dict(zip(_NAMES, names, strict=True)),
        **dict(zip(_FLOATS, floats, strict=True)),
        **{name: flag.astype(bool) for name, flag in zip(_FLAGS, flags, strict=True)},
    }
    return Traffic(number=number, score=_scores(record, number), tries=_tries(record, number), **told)


def _tries(record: Record, number: Integers) -> Tries:
    first, last = (int(number.min()), int(number.max())) if len(number) else (0, -1)
    columns = rows.listed((rows.STATUS, rows.FIRST_BYTE, rows.MODEL, rows.ERROR))
    found = record.connection.execute(
        f"SELECT request, number, {columns} FROM tries WHERE request BETWEEN ? AND ?", (first, last)
    )
    (request, place, status, first_byte), (model, error) = _columns(found, 4, 2)
    rows_of_requests, is_ours = _find(request.astype(np.int64), number)
    return Tries(
        rows_of_requests[is_ours],
        place[is_ours].astype(np.int64),
        Names(model.names, model.codes[is_ours]),
        Names(error.names, error.codes[is_ours]),
        status[is_ours],
        first_byte[is_ours],
    )


def _scores(record: Record, number: Integers) -> Floats:
    found = record.connection.execute(f'SELECT request, "{rows.SCORE}" FROM outcomes WHERE "{rows.SCORE}" IS NOT NULL')
    (request, score), _ = _columns(found, 2, 0)
    scores = np.full(len(number), np.nan)
    places, is_ours = _find(request.astype(np.int64), number)
    scores[places[is_ours]] = score[is_ours]
    return scores


def _find(wanted: Integers, number: Integers) -> tuple[Integers, Booleans]:
    """In which row each of ``wanted`` stands, and whether it does at all."""
    if not len(number):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    order = np.argsort(number, kind="stable")
    places = order[np.minimum(np.searchsorted(number[order], wanted), len(number) - 1)]
    return places, number[places] == wanted


def _columns(cursor: Any, n_numbers: int, n_names: int) -> tuple[list[Floats], list[Names]]:
    """Columns of numbers, followed by columns of names."""
    numbers: list[list[Floats]] = [[] for _ in range(n_numbers)]
    codes: list[list[Integers]] = [[] for _ in range(n_names)]
    known: list[dict[str | None, int]] = [{None: -1} for _ in range(n_names)]
    for piece in _pieces(cursor):
        columns = list(zip(*piece, strict=True))
        for place, column in enumerate(columns[:n_numbers]):
            # None becomes NaN.
            numbers[place].append(np.array(column, dtype=np.float64))
        for place, column in enumerate(columns[n_numbers:]):
            names = known[place]
            codes[place].append(np.array([names.setdefault(name, len(names) - 1) for name in column], dtype=np.int64))
    return (
        [np.concatenate(pieces) if pieces else np.empty(0) for pieces in numbers],
        [
            Names(
                tuple(name for name in found if name is not None),
                np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64),
            )
            for pieces, found in zip(codes, known, strict=True)
        ],
    )


def _pieces(cursor: Any) -> Iterator[Sequence[Any]]:
    while piece := cursor.fetchmany(_PIECE):
        yield piece
