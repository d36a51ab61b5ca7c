"""Keeping the record's file below its bound: the oldest requests go, and their room is used again or given back."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Final

from archroute_edge.errors import RecordError
from archroute_edge.record._rows import TIME

_PIECE: Final = 500
"""Requests deleted in one transaction, so that other processes can write between two."""
_SLACK: Final = 0.02
_LARGEST_LOG: Final = 256 << 20
_SIZES: Final = ("page_size", "page_count", "freelist_count")
# Numbers are given in order, and only the oldest go.
_COUNT: Final = "SELECT coalesce((SELECT max(number) FROM requests) - (SELECT min(number) FROM requests) + 1, 0)"
_DELETE: Final = "DELETE FROM requests WHERE number IN (SELECT number FROM requests WHERE {condition} ORDER BY number LIMIT ?)"


def keep_below(connection: sqlite3.Connection, file: Path, max_bytes: int) -> None:
    """Delete the oldest requests until the rest fits into ``max_bytes``, and give back what the file is larger.

    Raises:
        RecordError: the log beside the file (``-wal``) grows, since a program has been reading for so long.
        sqlite3.Error: the file cannot be written.
    """
    page, pages, free = (_number(connection, f"PRAGMA {name}") for name in _SIZES)
    if (pages - free) * page > max_bytes:
        most = int(max_bytes * (1 - _SLACK)) // page
        while pages - free > most and (count := _number(connection, _COUNT)):
            # About as many as are too much, if requests were of one size.
            excess = math.ceil(count * (pages - free - most) / (pages - free))
            connection.execute(_DELETE.format(condition="TRUE"), (min(excess, _PIECE),))
            pages, free = (_number(connection, f"PRAGMA {name}") for name in _SIZES[1:])
    if pages * page > max_bytes:
        give_back(connection, pages - max_bytes // page)
    _bound_log(connection, file)


def delete_before(connection: sqlite3.Connection, before: float | None) -> int:
    """Delete all requests that came before a time, or all that there are; how many those were."""
    condition, values = ("TRUE", ()) if before is None else (f'"{TIME}" < ?', (before,))
    deleted = 0
    while count := connection.execute(_DELETE.format(condition=condition), (*values, _PIECE)).rowcount:
        deleted += count
    return deleted


def give_back(connection: sqlite3.Connection, pages: int = 0) -> None:
    """Cut free pages off the end of the file, all of them if no number is given."""
    # Each step gives back a page, and execute() makes one step of what has no columns.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def _bound_log(connection: sqlite3.Connection, file: Path) -> None:
    """Changes are moved from the log into the file as soon as no reader needs the file as it was."""
    log = file.with_name(f"{file.name}-wal")
    if _size(log) > _LARGEST_LOG:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if _size(log) > _LARGEST_LOG:
            raise RecordError(f"a program has been reading for so long that {log.name} cannot be emptied")


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
