"""Which model a session was sent to, for as long as it is worth knowing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from archroute_edge.config import RoutingConfig
from archroute_edge.server import MAX_PIN_BYTES, bytes_in_memory


@dataclass(frozen=True)
class Pin:
    """A decision to repeat.

    Args:
        route: its route; None where none fitted.
        models: its models, in order.
        config: the configuration that its route came from; None where the routes came with the request.
    """

    route: str | None
    models: tuple[str, ...]
    config: RoutingConfig | None


class AffinityStore:
    """Sessions and their pins: the least recently used one gives way, and each ends after its time.

    Args:
        most: sessions at most.
        ttl: seconds from a session's decision to its end.
        clock: seconds that only grow.
        most_bytes: all of them together.
    """

    def __init__(
        self, most: int, ttl: float, clock: Callable[[], float] = time.monotonic, most_bytes: int = MAX_PIN_BYTES
    ) -> None:
        self._most = most
        self._ttl = ttl
        self._clock = clock
        self._most_bytes = most_bytes
        self._n_bytes = 0
        self._pins: OrderedDict[str, tuple[float, Pin]] = OrderedDict()

    def find(self, session: str, config: RoutingConfig) -> Pin | None:
        """The session's pin; None where there is none, or it is of another configuration than ``config``."""
        found = self._pins.get(session)
        if found is None:
            return None
        ends, pin = found
        if ends <= self._clock() or (pin.config is not None and pin.config is not config):
            self._forget(session)
            return None
        self._pins.move_to_end(session)
        return pin

    def last(self, session: str) -> Pin | None:
        """The session's pin whether it still holds or not; None if there was none or it has been forgotten."""
        found = self._pins.get(session)
        return None if found is None else found[1]

    def pin(self, session: str, pin: Pin) -> None:
        """Remember a session's decision."""
        if session in self._pins:
            self._forget(session)
        self._pins[session] = (self._clock() + self._ttl, pin)
        self._n_bytes += _size(session, pin)
        while len(self._pins) > self._most or self._n_bytes > self._most_bytes:
            self._forget(next(iter(self._pins)))

    def _forget(self, session: str) -> None:
        _, pin = self._pins.pop(session)
        self._n_bytes -= _size(session, pin)

    def __len__(self) -> int:
        return len(self._pins)


def _size(session: str, pin: Pin) -> int:
    # The configuration has its own texts in memory anyway.
    return bytes_in_memory([session] if pin.config is not None else [session, pin.route, *pin.models])
