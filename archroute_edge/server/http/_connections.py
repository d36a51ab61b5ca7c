"""Connections of the HTTP server: how many there may be, and how long one may stay open without a whole request.

uvicorn closes a connection that is idle after an answer, and no other. Here one that sends no whole head is closed after a few
seconds, and if there is no room for a new one, the one that has been without a request for the longest time gives way.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

HEAD_S: Final = 10.0
"""Seconds in which the whole head of a request has to arrive."""
STALLED_S: Final = 30.0
"""Seconds for which a client may leave an answer unread."""
MOST_CONNECTIONS: Final = 2048
_BACKLOG: Final = 64
_LEAST_CONNECTIONS: Final = 8
# Descriptors for the model, the log, the configuration, and what the event loop has.
_OTHER_DESCRIPTORS: Final = 64
# asyncio accepts a whole backlog in each turn of its loop, and those that are closed again take some turns.
_TURNS: Final = 4


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections there may be.

    Args:
        most: at once.
        per_address: of one client's address, so that others have room.
        backlog: that wait to be accepted.
        head_s: seconds in which the whole head of a request has to arrive.
    """

    most: int = MOST_CONNECTIONS
    per_address: int = MOST_CONNECTIONS
    backlog: int = _BACKLOG
    head_s: float = HEAD_S


def connection_limits(descriptors: int | None, *, is_loopback: bool) -> ConnectionLimits:
    """The bounds for a process that may have so many open files; None for no limit.

    Three quarters of the places are the most for one address, but on loopback, which everybody shares.
    """
    if descriptors is None:
        most, backlog = MOST_CONNECTIONS, _BACKLOG
    else:
        backlog = max(4, min(_BACKLOG, descriptors // 16))
        most = min(MOST_CONNECTIONS, max(_LEAST_CONNECTIONS, descriptors - _OTHER_DESCRIPTORS - _TURNS * backlog))
    return ConnectionLimits(most, most if is_loopback else max(1, most * 3 // 4), backlog)


def descriptor_limit() -> int | None:
    """How many files this process may have open; None if there is no such limit."""
    if os.name != "posix":
        return None
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class Connection(Protocol):
    """A connection as the book of them knows it."""

    @property
    def address(self) -> str:
        """The client's."""

    @property
    def is_busy(self) -> bool:
        """Whether a whole head has come that is not answered yet."""

    def drop(self) -> None:
        """Close it at once, whatever is left to send."""


class ConnectionBook:
    """The open connections, and which of them gives way to a new one.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        # In the order in which they last had a request; new ones behind.
        self._open: OrderedDict[Connection, None] = OrderedDict()
        self._count: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: Connection) -> bool:
        """Take a connection up; whether there is room for it. One that waits without a request may be dropped for it."""
        if self._count[new.address] >= self.limits.per_address:
            victim = self._idle(new.address)
        elif len(self._open) >= self.limits.most:
            # The address that has most of them pays.
            victim = next(filter(None, (self._idle(address) for address, _ in self._count.most_common())), None)
        else:
            self._take_up(new)
            return True
        logger.warning(
            "no room for another connection (%d may be open, %d of one address): those that are longest without a request are "
            "closed",
            self.limits.most,
            self.limits.per_address,
        )
        if victim is None:
            return False
        self.leave(victim)
        victim.drop()
        self._take_up(new)
        return True

    def _take_up(self, new: Connection) -> None:
        self._open[new] = None
        self._count[new.address] += 1

    def touch(self, connection: Connection) -> None:
        """Its client has just had an answer."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._count[connection.address] -= 1
        if not self._count[connection.address]:
            del self._count[connection.address]

    def _idle(self, address: str) -> Connection | None:
        return next((each for each in self._open if each.address == address and not each.is_busy), None)


def bounded_protocol(book: ConnectionBook) -> type[asyncio.Protocol]:
    """uvicorn's protocol of one connection, within the bounds of ``book``."""

    class BoundedProtocol(H11Protocol):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._address = ""
            self._head: asyncio.TimerHandle | None = None
            self._stalled: asyncio.TimerHandle | None = None

        @property
        def address(self) -> str:
            return self._address

        @property
        def is_busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._address = self.client[0] if self.client else ""
            if not book.admit(self):
                self.drop()
                return
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            book.leave(self)
            self._head = _off(self._head)
            self._stalled = _off(self._stalled)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.is_busy:
                self._head = _off(self._head)
            else:
                self._wait_for_head()

        def on_response_complete(self) -> None:
            book.touch(self)
            super().on_response_complete()
            # What has come of the next head, behind the request that was answered.
            if not self.is_busy and self.conn.trailing_data[0]:
                self._wait_for_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._stalled is None:
                self._look_at_reader()

        def _look_at_reader(self, unread: int | None = None) -> None:
            """Drop a client that has read nothing for a while; one that reads slowly may go on."""
            now = self.transport.get_write_buffer_size()
            if unread is not None and now >= unread:
                self.drop()
            else:
                self._stalled = self.loop.call_later(STALLED_S, self._look_at_reader, now)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stalled = _off(self._stalled)

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            # A close waits for a client that reads nothing for ever.
            if self.transport.get_write_buffer_size():
                self.drop()

        def drop(self) -> None:
            self.transport.abort()

        def _wait_for_head(self) -> None:
            if self._head is None and not self.transport.is_closing():
                self._head = self.loop.call_later(book.limits.head_s, self.drop)

    return BoundedProtocol


def _off(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """What is left of a timer that is turned off: nothing."""
    if timer is not None:
        timer.cancel()
    return None
