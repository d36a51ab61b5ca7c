"""The record's file: a SQLite database, private to the user, which several processes may write and read at once."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from archroute_edge.errors import RecordError
from archroute_edge.system import overriding_folder, own_folder

FOLDER_VARIABLE: Final = "ARCHROUTE_DATA_DIR"
LOCK_WAIT_S: Final = 5.0
"""How long one process waits for another that writes."""

_PASSING: Final = tuple(getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO"))
_APPLICATION: Final = 0x41524543
"""``AREC``, which marks the file as ours."""
_STEPS: Final = (
    """
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        "archroute.id" TEXT NOT NULL UNIQUE,
        "archroute.time" REAL NOT NULL,
        "gen_ai.operation.name" TEXT NOT NULL,
        "archroute.outcome" TEXT NOT NULL,
        "http.response.status_code" INTEGER NOT NULL,
        "gen_ai.request.model" TEXT,
        "archroute.route" TEXT,
        "archroute.confidence" REAL,
        "archroute.scores" TEXT,
        "archroute.decided_by" TEXT,
        "archroute.reason" TEXT,
        "archroute.model_reason" TEXT,
        "archroute.model" TEXT,
        "gen_ai.response.model" TEXT,
        "gen_ai.request.stream" INTEGER NOT NULL,
        "archroute.decision.duration" REAL,
        "gen_ai.response.time_to_first_chunk" REAL,
        "archroute.duration" REAL NOT NULL,
        "gen_ai.usage.input_tokens" INTEGER,
        "gen_ai.usage.output_tokens" INTEGER,
        "gen_ai.usage.cache_read.input_tokens" INTEGER,
        "archroute.cost" REAL,
        "archroute.default_cost" REAL,
        "gen_ai.conversation.id" TEXT,
        "archroute.client" TEXT,
        "archroute.shadow_of" TEXT
    );
    CREATE INDEX requests_by_time ON requests ("archroute.time");
    CREATE INDEX requests_by_conversation ON requests ("gen_ai.conversation.id") WHERE "gen_ai.conversation.id" IS NOT NULL;
    CREATE INDEX requests_by_shadow ON requests ("archroute.shadow_of") WHERE "archroute.shadow_of" IS NOT NULL;
    CREATE TABLE tries (
        request INTEGER NOT NULL REFERENCES requests (number) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        "archroute.model" TEXT NOT NULL,
        "gen_ai.provider.name" TEXT NOT NULL,
        "http.response.status_code" INTEGER,
        "error.type" TEXT,
        "gen_ai.response.time_to_first_chunk" REAL,
        "archroute.duration" REAL NOT NULL,
        PRIMARY KEY (request, number)
    ) WITHOUT ROWID;
    CREATE INDEX tries_by_model ON tries ("archroute.model", request);
    CREATE TABLE outcomes (
        request INTEGER PRIMARY KEY REFERENCES requests (number) ON DELETE CASCADE,
        "archroute.time" REAL NOT NULL,
        "gen_ai.evaluation.score.value" REAL,
        "archroute.right_route" TEXT,
        "gen_ai.evaluation.explanation" TEXT
    );
    CREATE TABLE contents (
        request INTEGER PRIMARY KEY REFERENCES requests (number) ON DELETE CASCADE,
        "archroute.request_body" TEXT NOT NULL,
        "archroute.answer_body" TEXT
    );
    """,
    """
    ALTER TABLE requests ADD COLUMN "archroute.expected_scores" TEXT
    """,
)
"""What takes a file from each version to the next, an empty one being version 0.

A step that has been released stays as it is. Files of earlier versions are brought up to date when they are opened; those of
later versions are refused, since what they mean is not known.
"""
VERSION: Final = len(_STEPS)


def record_file() -> Path:
    """Where requests are recorded: ``requests.sqlite`` in ``$ARCHROUTE_DATA_DIR``, or in the user's data folder."""
    override = os.environ.get(FOLDER_VARIABLE)
    return (overriding_folder(override) if override else own_folder("data")) / "requests.sqlite"


def check_file(file: Path) -> None:
    """Make sure, before a server starts, that no mistake keeps requests from being recorded in ``file``.

    What passes by itself (a full disk, a lock) or needs a look (a damaged file) is no such mistake.

    Raises:
        RecordError: no file can be there, or it is another program's, another user's or of a later version.
    """
    try:
        with open_to_write(file):
            pass
    except sqlite3.Error:
        return


@contextmanager
def open_to_write(file: Path) -> Iterator[sqlite3.Connection]:
    """The record, made private to the user if it is not there, and brought up to date.

    Commits are transactions of the caller (``isolation_level`` is None). They are in the file for good when the process dies;
    when the machine does, the last ones may be missing, since only checkpoints are flushed to the disk (``synchronous`` is
    NORMAL): a flush for each commit would wear a disk for what is a log.

    Raises:
        RecordError: no file can be there, or it is another program's, another user's or of a later version.
        sqlite3.Error: anything else: locked, full, damaged.
    """
    _make_private(file)
    with contextlib.closing(_connect(file, "rw")) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version(connection, file) < VERSION:
            _bring_up_to_date(connection, file)
        yield connection


@contextmanager
def open_to_read(file: Path) -> Iterator[sqlite3.Connection]:
    """The record, while servers may write it.

    Raises:
        RecordError: there is none, or it cannot be read; the message has the file.
    """
    if not file.is_file():
        raise RecordError(f"{file}: no such record; archroute serve --record makes one")
    try:
        with contextlib.closing(_connect(file, "ro")) as connection:
            version = _version(connection, file)
        if version < VERSION:
            with open_to_write(file):
                pass
        with contextlib.closing(_connect(file, "ro")) as connection:
            yield connection
    except sqlite3.Error as exc:
        raise RecordError(f"{file}: the record cannot be read: {exc}") from exc


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    uri = f"{file.absolute().as_uri()}?mode={mode}"
    # Python's own transactions would begin at the first change, and be upgraded from a reader's at a time of their choice.
    return sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)


def _version(connection: sqlite3.Connection, file: Path) -> int:
    with _one_state(connection):
        application, version = (int(_one(connection, f"PRAGMA {name}")) for name in ("application_id", "user_version"))
        n_tables = _one(connection, "SELECT count(*) FROM sqlite_master")
    if application != _APPLICATION:
        if application or version or n_tables:
            raise RecordError(f"{file}: the database of another program; name another file")
        return 0
    if version > VERSION:
        raise RecordError(f"{file}: made by a later archroute-edge (version {version}, this one knows {VERSION}); update it")
    return version


@contextmanager
def _one_state(connection: sqlite3.Connection) -> Iterator[None]:
    """A block that reads one state of the file: another process may be making it."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _one(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _bring_up_to_date(connection: sqlite3.Connection, file: Path) -> None:
    if _version(connection, file) == 0:
        # Before the first table. It lets pages go that are no longer needed, in pieces.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _turn_wal_on(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        for number in range(_version(connection, file), VERSION):
            for statement in _STEPS[number].split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _turn_wal_on(connection: sqlite3.Connection) -> None:
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # SQLite does not wait here for a process that does the same.
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _make_private(file: Path) -> None:
    """Make the file (0600) and its folder (0700), and keep others from reading a file that is there.

    SQLite gives its files beside it the same mode.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        # A disk that has no room, or may not be written now, may have or be so later.
        if exc.errno in _PASSING:
            raise sqlite3.OperationalError(exc.strerror or str(exc)) from exc
        raise RecordError(f"{file}: requests cannot be recorded there ({exc.strerror or exc}); name another file") from exc
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise RecordError(f"{file}: not a file; name another one")
        if hasattr(os, "getuid"):
            if status.st_uid != os.getuid():
                raise RecordError(f"{file}: belongs to another user; name another file")
            if stat.S_IMODE(status.st_mode) & 0o077:
                os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
