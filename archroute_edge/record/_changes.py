"""Changing the record from outside of a server: grades, and deleting what was kept."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from archroute_edge.errors import RecordError
from archroute_edge.record import _rows as rows
from archroute_edge.record._database import open_to_write
from archroute_edge.record._pruning import delete_before, give_back
from archroute_edge.record._reading import Grade, open_record
from archroute_edge.report import counted

_COLUMNS: Final = rows.listed(("request", rows.TIME, rows.SCORE, rows.RIGHT_ROUTE, rows.NOTE))
_GRADE: Final = (
    f'INSERT INTO outcomes ({_COLUMNS}) SELECT number, ?, ?, ?, ? FROM requests WHERE "{rows.ID}" = ? '
    "ON CONFLICT (request) DO UPDATE SET "
    + ", ".join(
        f'"{name}" = coalesce(excluded."{name}", "{name}")' for name in (rows.TIME, rows.SCORE, rows.RIGHT_ROUTE, rows.NOTE)
    )
)


def grade(file: Path, beginning: str, given: Grade) -> str:
    """Say what an answer or a decision was worth; what ``given`` leaves out stays as it was said before.

    Args:
        file: the record.
        beginning: of the entry's id.
        given: the grade.

    Returns: the entry's id.

    Raises:
        RecordError: there is no such entry or record, or it cannot be written.
    """
    with open_record(file) as record:
        found = record.entry(beginning).id
    with _open_there(file) as connection:
        connection.execute(_GRADE, (time.time(), *given, found))
    return found


def clear(file: Path, before: float | None = None) -> int:
    """Delete requests, all or those before a time in seconds since 1970, so that nothing of them is left in the file.

    Returns: how many.

    Raises:
        RecordError: there is no record, or it cannot be written; or the requests are deleted, but a program that reads the file
            keeps their texts in it.
    """
    with _open_there(file) as connection:
        # Else texts stay in the file until their room is needed.
        connection.execute("PRAGMA secure_delete = ON")
        deleted = delete_before(connection, before)
        give_back(connection)
        is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise RecordError(
            f"{file}: {counted(deleted, 'request')} deleted, but a program that is reading the file keeps their texts in it; "
            "end that program and clear the record again"
        )
    return deleted


@contextmanager
def _open_there(file: Path) -> Iterator[sqlite3.Connection]:
    """The record, which is not made."""
    with open_record(file):
        pass
    try:
        with open_to_write(file) as connection:
            yield connection
    except sqlite3.Error as exc:
        raise RecordError(f"{file}: the record cannot be written: {exc}") from exc
