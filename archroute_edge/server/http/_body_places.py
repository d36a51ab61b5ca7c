"""Places for bodies that are being read, and how fast one has to come."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Final

WINDOW_S: Final = 5.0
"""How often the rate of a body is looked at."""
LEAST_RATE: Final = 1024
"""Bytes a second that come of a body in each :data:`WINDOW_S`, until it is whole."""
# Whoever stands still for less is no stalled client.
_PATIENCE_S: Final = 0.25


class Stopped(Enum):
    """Why the rest of a body is not waited for."""

    TOO_SLOW = "too slow"
    NO_PLACE = "no place"
    CLOSING = "closing"


class Place:
    """A body that is being read, or whose request waits for its answer.

    Args:
        address: the client's.
        clock: seconds that only grow.
    """

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        self.address = address
        self.is_whole = False
        self.stopped: Stopped | None = None
        """Why it is not read to its end."""
        self.last = clock()
        """When the last bytes came."""
        self._clock = clock
        self._reading: asyncio.Task[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._n_bytes = 0

    def received(self, n_bytes: int) -> None:
        """Note that some of it has come."""
        if n_bytes:
            self.last = self._clock()
            self._n_bytes += n_bytes

    async def read(self, reading: asyncio.Task[bytes], timeout: float) -> bytes:
        """The result of ``reading``, which calls :meth:`received`.

        Raises:
            asyncio.TimeoutError: not in time.
            asyncio.CancelledError: :attr:`stopped` says why, unless it is the waiting that was cancelled.
        """
        self._reading = reading
        self._look_later()
        try:
            body = await asyncio.wait_for(reading, timeout)
        finally:
            assert self._timer is not None
            self._timer.cancel()
        self.is_whole = True
        return body

    def stop(self, reason: Stopped) -> None:
        """Wait for no more of it."""
        if not self.is_whole and self._reading is not None and not self._reading.done():
            self.stopped = reason
            self._reading.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._look)

    def _look(self) -> None:
        if self._n_bytes < LEAST_RATE * WINDOW_S:
            self.stop(Stopped.TOO_SLOW)
        self._n_bytes = 0
        self._look_later()


class BodyPlaces:
    """As many bodies as may be held at once.

    If all places are taken, the body that has stood still for longest, of the address that has most of them, gives way.

    Args:
        most: places.
        clock: seconds that only grow.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._taken: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, address: str) -> Place | None:
        """A place; None if all are taken by bodies that come as they should, or are whole."""
        if len(self._taken) >= self._most:
            stalled = self._stalled()
            if stalled is None:
                return None
            self.free(stalled)
            stalled.stop(Stopped.NO_PLACE)
        place = Place(address, self._clock)
        self._taken[place] = None
        return place

    def free(self, place: Place) -> None:
        """Give a place back; one that has been given back stays so."""
        self._taken.pop(place, None)

    def stop(self) -> None:
        """Wait for no more of any body: the server ends."""
        for place in list(self._taken):
            place.stop(Stopped.CLOSING)

    def _stalled(self) -> Place | None:
        now = self._clock()
        per_address = Counter(each.address for each in self._taken)
        found = [each for each in self._taken if not each.is_whole and now - each.last >= _PATIENCE_S]
        return min(found, key=lambda each: (-per_address[each.address], each.last), default=None)
