"""A lock among processes, also of machines that share a folder."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)


class ProcessLock:
    """A lock in a file, held until it is released or this process ends.

    Some file systems have no locks. Nothing keeps processes apart there, and none has to wait.

    Args:
        path: the file, which is made when the lock is taken.
    """

    def __init__(self, path: Path) -> None:
        # Here, since few commands take one.
        from filelock import FileLock

        self.path = path
        # Any thread may release it.
        self._lock = FileLock(path, mode=0o600, thread_local=False)

    @property
    def is_held(self) -> bool:
        """Whether this process holds it."""
        return self._lock.is_locked

    def take(self, seconds: float = 0.0) -> bool:
        """Take it, waiting for at most ``seconds``; whether no other process holds it."""
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=seconds, poll_interval=max(seconds / 2, 0.001))
        except Timeout:
            return False
        except (OSError, NotImplementedError) as exc:
            logger.debug("%s: no lock there: %s", self.path, exc)
        return True

    def release(self, *, remove: bool = False) -> None:
        """Let others have it.

        Args:
            remove: whether the file goes, too. Not if others wait for it: they would hold the lock of a file that is gone.
        """
        if remove and self.is_held:
            # The file first: later it may be another process's. Windows deletes no file that is open.
            with suppress(OSError):
                self.path.unlink()
        self._lock.release()
