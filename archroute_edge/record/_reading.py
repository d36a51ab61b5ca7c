"""Reading the record: entries by what they have in common, and what became of the latest tries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from archroute_edge.errors import RecordError
from archroute_edge.record import _rows as rows
from archroute_edge.record._database import open_to_read
from archroute_edge.record._entry import BLAMELESS, Content, Entry, Try

_COLUMNS: Final = rows.listed(each.name for each in rows.REQUEST)
_TRY_COLUMNS: Final = rows.listed(each.name for each in rows.TRY)
_TEXTS: Final = rows.listed((rows.REQUEST_BODY, rows.ANSWER_BODY))
_MOST_VARIABLES: Final = 500
# A client that went away ended the last try of its request.
_LAST_TRIES: Final = (
    f'SELECT main."{rows.TIME}", main."{rows.ROUTE}", main."{rows.ASKED_MODEL}", tries.number, '
    + ", ".join(f'tries."{each.name}"' for each in rows.TRY)
    + f' FROM tries JOIN requests AS main ON request = main.number WHERE tries."{rows.MODEL}" = ? '
    f'AND main."{rows.SHADOW_OF}" IS NULL AND coalesce(tries."{rows.ERROR}", \'\') NOT IN {BLAMELESS} '
    f"AND (main.\"{rows.OUTCOME}\" != 'aborted' OR EXISTS "
    "(SELECT 1 FROM tries AS later WHERE later.request = main.number AND later.number > tries.number)) "
    "ORDER BY request DESC LIMIT ?"
)


@dataclass(frozen=True)
class Wanted:
    """Which entries; what is None does not matter.

    Args:
        since: those from this time on, in seconds since 1970.
        until: those before this time.
        route: of the decision.
        model: that answered.
        status: that the client got.
        session: of this conversation: its digest, or the beginning of it.
        client: with this key.
        failed: those that ended in an error, or needed more than one try.
        forwarded: whether they went to a model; else only a decision was asked for.
        shadows: whether copies to shadow models are among them.
    """

    since: float | None = None
    until: float | None = None
    route: str | None = None
    model: str | None = None
    status: int | None = None
    session: str | None = None
    client: str | None = None
    failed: bool = False
    forwarded: bool | None = None
    shadows: bool = True

    def condition(self, table: str = "requests") -> tuple[str, list[Any]]:
        """For ``WHERE``, with its values; ``table`` is what the statement calls the table of requests."""
        parts: list[tuple[str, Any]] = [
            (f'{table}."{rows.TIME}" >= ?', self.since),
            (f'{table}."{rows.TIME}" < ?', self.until),
            (f'{table}."{rows.ROUTE}" = ?', self.route),
            (f'{table}."{rows.MODEL}" = ?', self.model),
            (f'{table}."{rows.STATUS}" = ?', self.status),
            (f'{table}."{rows.CLIENT}" = ?', self.client),
        ]
        said = [(text, value) for text, value in parts if value is not None]
        texts, values = [text for text, _ in said], [value for _, value in said]
        if self.session is not None:
            # A range, so that the index is of use.
            texts.append(f'{table}."{rows.SESSION}" >= ? AND {table}."{rows.SESSION}" < ?')
            values += [self.session, f"{self.session}\U0010ffff"]
        if self.failed:
            tried_again = f"SELECT 1 FROM tries WHERE request = {table}.number AND number > 0"
            texts.append(f"({table}.\"{rows.OUTCOME}\" = 'failed' OR EXISTS ({tried_again}))")
        if self.forwarded is not None:
            texts.append(f"{table}.\"{rows.OPERATION}\" {'!=' if self.forwarded else '='} 'route'")
        if not self.shadows:
            texts.append(f'{table}."{rows.SHADOW_OF}" IS NULL')
        return " AND ".join(texts) or "TRUE", values


class RecordedTry(NamedTuple):
    """A try, with what is needed of its request.

    Args:
        time: of the request, in seconds since 1970.
        route: of the request; None if no decision was made.
        asked_model: by the request.
        place: of the try among those of the request, from 0.
        one: it.
    """

    time: float
    route: str | None
    asked_model: str | None
    place: int
    one: Try


class Grade(NamedTuple):
    """What a person or a program thinks of an answer or a decision.

    Args:
        score: the higher, the better; None if only the route is known.
        right_route: that should have been decided; None if nothing is said about it.
        note: a reason.
    """

    score: float | None
    right_route: str | None
    note: str | None


class Record:
    """The record, open to read. Made by :func:`open_record`.

    Args:
        connection: to it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def entries(self, wanted: Wanted | None = None, limit: int | None = None) -> list[Entry]:
        """The latest ``limit`` entries that are wanted, the oldest first."""
        condition, values = (wanted or Wanted()).condition()
        found = self.connection.execute(
            f'SELECT number, {_COLUMNS} FROM requests WHERE {condition} ORDER BY "{rows.TIME}" DESC, number DESC LIMIT ?',
            (*values, -1 if limit is None else limit),
        ).fetchall()
        return list(self._whole(found[::-1]))

    def each(self, wanted: Wanted | None = None) -> Iterator[Entry]:
        """All entries that are wanted, the oldest first, without having all of them in memory."""
        condition, values = (wanted or Wanted()).condition()
        cursor = self.connection.execute(
            f'SELECT number, {_COLUMNS} FROM requests WHERE {condition} ORDER BY "{rows.TIME}", number', values
        )
        while found := cursor.fetchmany(_MOST_VARIABLES):
            yield from self._whole(found)

    def entry(self, beginning: str) -> Entry:
        """The entry whose id begins so.

        Raises:
            RecordError: there is none, or there are several.
        """
        found = self.connection.execute(
            f'SELECT number, {_COLUMNS} FROM requests WHERE "{rows.ID}" >= ? AND "{rows.ID}" < ? LIMIT 2',
            (beginning, f"{beginning}\U0010ffff"),
        ).fetchall()
        if len(found) != 1 or not beginning:
            raise RecordError(f"{'several requests begin' if found else 'no request begins'} with {beginning!r}")
        return next(self._whole(found))

    def grades(self, ids: Iterable[str]) -> dict[str, Grade]:
        """The grades of those entries that have one, by id."""
        columns = rows.listed((rows.SCORE, rows.RIGHT_ROUTE, rows.NOTE))
        found: dict[str, Grade] = {}
        for some in _pieces(list(ids)):
            of_some = f'"{rows.ID}" IN ({_marks(some)})'
            statement = f'SELECT "{rows.ID}", {columns} FROM outcomes JOIN requests ON request = number WHERE {of_some}'
            found |= {name: Grade(*rest) for name, *rest in self.connection.execute(statement, some)}
        return found

    def shadows_of(self, ids: Iterable[str]) -> dict[str, list[Entry]]:
        """The entries that repeat others with another model, by the id of those."""
        found: dict[str, list[Entry]] = {}
        for some in _pieces(list(ids)):
            statement = f'SELECT number, {_COLUMNS} FROM requests WHERE "{rows.SHADOW_OF}" IN ({_marks(some)}) ORDER BY number'
            for entry in self._whole(self.connection.execute(statement, some).fetchall()):
                found.setdefault(entry.shadow_of or "", []).append(entry)
        return found

    def corrected(self, wanted: Wanted) -> int:
        """How many of the entries that are wanted have a grade that names another route."""
        condition, values = wanted.condition()
        other = f'"{rows.RIGHT_ROUTE}" IS NOT NULL AND "{rows.RIGHT_ROUTE}" IS NOT "{rows.ROUTE}"'
        statement = f"SELECT count(*) FROM outcomes JOIN requests ON requests.number = request WHERE {other} AND {condition}"
        return int(self.connection.execute(statement, values).fetchone()[0])

    def shadow_cost(self, wanted: Wanted) -> float:
        """US dollars that copies of those entries have cost."""
        condition, values = wanted.condition("main")
        statement = (
            f'SELECT total(copy."{rows.COST}") FROM requests AS copy JOIN requests AS main '
            f'ON main."{rows.ID}" = copy."{rows.SHADOW_OF}" WHERE copy."{rows.SHADOW_OF}" IS NOT NULL AND {condition}'
        )
        return float(self.connection.execute(statement, values).fetchone()[0])

    def last_tries(self, models: Iterable[str], most: int) -> list[RecordedTry]:
        """The latest tries of each of ``models``, ``most`` of each, the oldest first: what a gateway knows of its targets.

        Tries that say nothing about the target are left out: the client went away meanwhile, or had asked for something
        impossible, or too much was under way here. So are copies to shadow models, which have no place in an order.
        """
        found: list[RecordedTry] = []
        for model in dict.fromkeys(models):
            for time, route, asked_model, place, *one in self.connection.execute(_LAST_TRIES, (model, most)):
                found.append(RecordedTry(time, route, asked_model, place, rows.try_of(one)))
        return sorted(found, key=lambda each: (each.time, each.place))

    def _whole(self, found: Sequence[Sequence[Any]]) -> Iterator[Entry]:
        """Entries of rows that begin with their number."""
        tries: dict[int, list[Try]] = {}
        contents: dict[int, Content] = {}
        for some in _pieces([row[0] for row in found]):
            of_some = f"request IN ({_marks(some)})"
            of_tries = f"SELECT request, {_TRY_COLUMNS} FROM tries WHERE {of_some} ORDER BY request, number"
            for request, *one in self.connection.execute(of_tries, some):
                tries.setdefault(request, []).append(rows.try_of(one))
            for request, *two in self.connection.execute(f"SELECT request, {_TEXTS} FROM contents WHERE {of_some}", some):
                contents[request] = Content(*two)
        for number, *row in found:
            yield rows.entry_of(row, tries.get(number, ()), contents.get(number))


@contextmanager
def open_record(file: Path) -> Iterator[Record]:
    """The record, while servers may write it.

    Raises:
        RecordError: there is none, or it cannot be read.
    """
    with open_to_read(file) as connection:
        yield Record(connection)


def _pieces(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
