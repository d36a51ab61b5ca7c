"""Keeps entries in the record, on a thread of its own: whatever happens to the file, requests go on."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, islice, takewhile
from pathlib import Path
from typing import Final

from archroute_edge.errors import RecordError
from archroute_edge.record._bounds import DEFAULT_MAX_BYTES, MOST_CHARACTERS, MOST_WAITING, MOST_WAITING_CHARACTERS
from archroute_edge.record._database import check_file, open_to_write
from archroute_edge.record._entry import Entry
from archroute_edge.record._pruning import keep_below
from archroute_edge.record._rows import insert, rows_of
from archroute_edge.system import OwnProcess, stop_at_the_end

logger = logging.getLogger(__name__)

_COMMIT_S: Final = 0.5
_BATCH: Final = 1000
_RETRY_S: Final = 10.0
_END_S: Final = 10.0


class Recorder:
    """A sink that writes to the record. Threads may share it; in a forked process it keeps nothing.

    A commit is made half a second after the first entry that is not in the file, so a process that is killed loses no more than
    that. While the file cannot be written, entries wait, as many as there is room for, and it is tried again.

    Args:
        file: the record.
        max_bytes: bound on its size; the oldest requests go.
        keep_content: whether texts are kept.
        retry: seconds until a file that could not be written is tried again.

    Raises:
        RecordError: requests cannot be recorded there, and never will be.
    """

    def __init__(
        self, file: Path, *, max_bytes: int = DEFAULT_MAX_BYTES, keep_content: bool = False, retry: float = _RETRY_S
    ) -> None:
        check_file(file)
        self._file = file
        self._max_bytes = max_bytes
        self._keep_content = keep_content
        self._retry = retry
        self._process = OwnProcess()
        self._changed = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._characters = 0
        self._lost = 0
        self.has_failed = False
        """Whether the file could not be written when it was last tried."""
        self._is_closing = False
        # A daemon: the interpreter waits for no other at its end, but stop_at_the_end has this one finish.
        self._thread = threading.Thread(target=self._run, name="archroute record", daemon=True)
        self._thread.start()
        stop_at_the_end(self)

    def add(self, entry: Entry) -> None:
        """Take one more."""
        if not self._process.is_this:
            return
        n_characters = _length(entry) if self._keep_content else 0
        if entry.content is not None and not (self._keep_content and n_characters <= MOST_CHARACTERS):
            entry, n_characters = replace(entry, content=None), 0
        with self._changed:
            is_full = len(self._waiting) >= MOST_WAITING or self._characters + n_characters > MOST_WAITING_CHARACTERS
            if is_full or self._is_closing:
                self._lost += 1
                return
            self._waiting.append(entry)
            self._characters += n_characters
            # The first one begins the half second; a full batch ends it.
            if len(self._waiting) in (1, _BATCH):
                self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, and end; takes 10 s at most."""
        if self._process.is_this:
            self.stop()
            self.wait_for_stop()

    def stop(self) -> None:
        """Have it write what waits, and end. Does not wait."""
        if self._process.is_this:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()

    def wait_for_stop(self) -> None:
        """Return when it has ended, after 10 s at most."""
        if self._process.is_this:
            self._thread.join(_END_S)

    def _run(self) -> None:
        while True:
            try:
                with open_to_write(self._file) as connection:
                    if self._fill(connection):
                        return
            except (sqlite3.Error, RecordError, OSError) as exc:
                if not self._pause(exc):
                    return

    def _fill(self, connection: sqlite3.Connection) -> bool:
        """Write entries until the end, and wait while there are none; False if the file has gone from its place."""
        opened = self._file.stat()
        keep_below(connection, self._file, self._max_bytes)
        while batch := self._next_batch():
            if not _is_still(opened, self._file):
                # SQLite would write on to what no process can open any more.
                return False
            with _transaction(connection):
                for entry in batch:
                    self._insert(connection, entry)
            self._written(len(batch))
            keep_below(connection, self._file, self._max_bytes)
        return True

    def _next_batch(self) -> list[Entry]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            self._changed.wait_for(lambda: len(self._waiting) >= _BATCH or self._is_closing, timeout=_COMMIT_S)
            lengths = accumulate(_length(each) for each in islice(self._waiting, _BATCH))
            n_fitting = sum(1 for _ in takewhile(lambda length: length <= MOST_CHARACTERS, lengths))
            return list(islice(self._waiting, n_fitting))

    def _insert(self, connection: sqlite3.Connection, entry: Entry) -> None:
        try:
            insert(connection, rows_of(entry))
        except (sqlite3.OperationalError, sqlite3.InternalError):
            raise
        except sqlite3.DatabaseError as exc:
            # The damage of a file has no class of its own.
            if type(exc) is sqlite3.DatabaseError:
                raise
            self._leave_out(exc)
        except Exception as exc:  # noqa: BLE001 - what can never be written must not hold up the others
            self._leave_out(exc)

    def _leave_out(self, exc: Exception) -> None:
        logger.warning("a request is missing in the record: %s", exc)

    def _written(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._characters -= _length(self._waiting.popleft())
            lost, self._lost = self._lost, 0
            had_failed, self.has_failed = self.has_failed, False
        if had_failed:
            logger.warning("%s: requests are recorded again; %d are missing", self._file, lost)
        elif lost:
            logger.warning("%s: %d requests came faster than they could be recorded, and are missing", self._file, lost)

    def _pause(self, exc: Exception) -> bool:
        """Wait until it makes sense to try again; False if there is no more time for that."""
        with self._changed:
            is_news, self.has_failed = not self.has_failed, True
            is_last, n_waiting = self._is_closing, len(self._waiting)
        if is_last:
            logger.error("%s: the last %d requests are not in the record: %s", self._file, n_waiting, exc)
            return False
        if is_news:
            logger.error("%s: requests are not recorded, but served as before: %s", self._file, exc)
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, timeout=self._retry)
        return True


def _is_still(opened: os.stat_result, file: Path) -> bool:
    try:
        return os.path.samestat(opened, file.stat())
    except OSError:
        return False


def _length(entry: Entry) -> int:
    return 0 if entry.content is None else len(entry.content.request) + len(entry.content.answer or "")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Where SQLite has given up a transaction already, there is none to be given up.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
