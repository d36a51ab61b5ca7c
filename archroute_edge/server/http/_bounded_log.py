"""Bounds on the log: a line that clients can cause as often as they like is shown once a minute."""

from __future__ import annotations

import logging
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


class OncePerMinute(logging.Filter):
    """Lets each line of a logger through once a minute; if there are many, those that one log call makes count as one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        now, line = self._clock(), record.getMessage().partition("\n")[0]
        if line not in self._said and len(self._said) >= _MOST_LINES:
            self._said = {each: at for each, at in self._said.items() if now - at < _EVERY_S}
            if len(self._said) >= _MOST_LINES:
                line = str(record.msg).partition("\n")[0]
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
