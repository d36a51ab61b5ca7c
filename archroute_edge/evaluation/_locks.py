"""Locks among processes, also of machines that share a folder: a run has a file or a folder to itself while it lasts."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)


class LockedError(Exception):
    """Another run holds the lock."""


class RunLock:
    """Holds the lock in a file until it is released or this process ends.

    Args:
        path: the file, which is made, and goes again.

    Raises:
        LockedError: another run holds it.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout

        self._path = path
        self._lock: BaseFileLock | None = FileLock(path, mode=0o600)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LockedError from None
        except (OSError, NotImplementedError) as exc:
            logger.debug("%s: no lock there: %s", path, exc)
            self._lock = None

    @property
    def is_held(self) -> bool:
        """Whether it is; on a file system without locks it is not, and another run may go unnoticed."""
        return self._lock is not None

    def release(self) -> None:
        """Let others have it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            # The file first: later it may be another run's. Windows deletes no file that is open.
            with contextlib.suppress(OSError):
                self._path.unlink()
            lock.release()
