"""Bounds on the log: a line that clients can cause as often as they like is shown once a minute."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LOGGERS: Final = (
    "uvicorn.error",
    "asyncio",
    "archroute_edge.server.http._api_errors",
    "archroute_edge.server.http._connections",
    "archroute_edge.server.http._forward_endpoints",
    "archroute_edge.gateway._forwarding",
    "archroute_edge.gateway._health",
    "archroute_edge.gateway._passing_answer",
    "archroute_edge.gateway._shadowing",
    "archroute_edge.gateway._tries",
    "archroute_edge.record._entry_sinks",
    "archroute_edge.routing._route_quality",
)
"""Those whose lines are about single requests and connections."""
_EVERY_S: Final = 60.0
_MOST_LINES: Final = 64
"""Lines of a logger in a minute, beyond which it has one of each kind: clients choose the names of a wildcard's targets."""

# One for all filters, so that a fork can wait for it. The same thread may come again: what the collector ends may log.
_lock: Final = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class OncePerMinute(logging.Filter):
    """Lets each line of a logger through once a minute; if there are many, those that one log call makes count as one.

    Any thread may ask. Nothing is raised, whatever is logged.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        try:
            line, kind = (each.partition("\n")[0] for each in (record.getMessage(), str(record.msg)))
        except Exception:  # noqa: BLE001
            # Its arguments do not fit. Its handler reports that.
            line = kind = f"{record.pathname}:{record.lineno}"
        now = self._clock()
        with _lock:
            if line not in self._said and len(self._said) >= _MOST_LINES:
                self._said = {each: at for each, at in self._said.copy().items() if now - at < _EVERY_S}
                if len(self._said) >= _MOST_LINES:
                    line = kind
            if now - self._said.get(line, -_EVERY_S) < _EVERY_S:
                return False
            # Beyond the bound there are as many as there are log calls.
            self._said[line] = now
            return True


@contextmanager
def bounded_log() -> Iterator[None]:
    """A block in which :data:`LOGGERS` show each line once a minute."""
    filters = {logging.getLogger(name): OncePerMinute() for name in LOGGERS}
    for logger, once in filters.items():
        logger.addFilter(once)
    try:
        yield
    finally:
        for logger, once in filters.items():
            logger.removeFilter(once)
