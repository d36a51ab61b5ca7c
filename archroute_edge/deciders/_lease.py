"""Several routers over one loaded model."""

from __future__ import annotations

import threading

from archroute_edge.deciders._interface import Decider
from archroute_edge.errors import EngineError
from archroute_edge.system import OwnProcess


class DeciderLease:
    """A share in a decider, which is closed when the last share is given back. Thread-safe.

    Args:
        decider: taken over.
    """

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._closed = False
        # A number that all shares have in common. Were it the shares themselves, none would be freed before the garbage
        # collector finds them, and with them models.
        self._n_shares = [1]
        self._lock = threading.Lock()
        self._process = OwnProcess()

    @property
    def decider(self) -> Decider:
        """The decider.

        Raises:
            EngineError: this share has been given back.
            ForkedProcessError: the decider is another process's.
        """
        self._process.check("router")
        if self._closed:
            raise EngineError("the router has been closed")
        return self._decider

    def share(self) -> DeciderLease:
        """Another share.

        Raises:
            EngineError: this one has been given back.
            ForkedProcessError: the decider is another process's.
        """
        self._process.check("router")
        with self._lock:
            other = DeciderLease(self.decider)
            other._n_shares, other._lock = self._n_shares, self._lock
            self._n_shares[0] += 1
        return other

    def close(self) -> None:
        """Give this share back; the last one waits for a decision that is under way, and closes the decider.

        In a forked process nothing is closed: what the decider has there is a copy that nothing can use.
        """
        if not self._process.is_this:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._n_shares[0] -= 1
            is_last = self._n_shares[0] == 0
        if is_last:
            self._decider.close()
