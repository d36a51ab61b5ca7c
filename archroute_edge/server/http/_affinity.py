"""Which model a session was sent to, for as long as it is worth knowing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from archroute_edge.config import RoutingConfig
from archroute_edge.server import MAX_PIN_BYTES
from archroute_edge.system import ExpiringStore, bytes_in_memory


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
        self._store: ExpiringStore[Pin] = ExpiringStore(most, ttl, most_bytes, _size, clock)

    def find(self, session: str, config: RoutingConfig) -> Pin | None:
        """The session's pin; None where there is none, or it is of another configuration than ``config``."""
        pin = self._store.find(session)
        if pin is not None and pin.config is not None and pin.config is not config:
            self._store.forget(session)
            return None
        return pin

    def last(self, session: str) -> Pin | None:
        """The session's pin whether it still holds or not; None if there was none or it has been forgotten."""
        return self._store.last(session)

    def pin(self, session: str, pin: Pin) -> None:
        """Remember a session's decision."""
        self._store.put(session, pin)

    def __len__(self) -> int:
        return len(self._store)


def _size(session: str, pin: Pin) -> int:
    # The configuration has its own texts in memory anyway.
    return bytes_in_memory([session] if pin.config is not None else [session, pin.route, *pin.models])
