"""Which process something was made in: a fork copies the memory, and no thread but the one that forked."""

from __future__ import annotations

import os

from archroute_edge.errors import ForkedProcessError


class OwnProcess:
    """Remembers the process it was made in.

    Locks are no use in a forked one, since the threads that held them are not there to let go. So whatever takes a lock, or
    uses llama.cpp's memory, asks here first.
    """

    def __init__(self) -> None:
        self._id = os.getpid()

    @property
    def is_this(self) -> bool:
        """Whether the calling process is the one."""
        return self._id == os.getpid()

    def check(self, what: str) -> None:
        """Go on only in that process.

        Raises:
            ForkedProcessError: this one was forked from it; the message names ``what``.
        """
        if not self.is_this:
            raise ForkedProcessError(
                f"the {what} was made in process {self._id}, and this is process {os.getpid()}, which was forked from it; "
                f"make the {what} after the fork, or start processes with spawn"
            )
