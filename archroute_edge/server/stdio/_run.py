"""A :class:`~archroute_edge.routing.RoutingService` for the program that started this process: JSON-RPC 2.0, a line a message.

Three threads beside the service's own: this one waits for the end, one reads and checks requests, one writes replies.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from archroute_edge.routing import RoutingService
from archroute_edge.server import StdioSettings
from archroute_edge.server.stdio._pipes import LineWriter, read_lines
from archroute_edge.server.stdio._session import Session
from archroute_edge.system import ParentProcess, take_stdin, take_stdout

_LOOK_EVERY_S: Final = 0.5
# Without a byte read, after which replies are not waited for any longer; and what a signal leaves for finishing.
_PATIENCE_S: Final = 10.0
_GRACE_S: Final = 5.0


@dataclass(frozen=True)
class Host:
    """The program that started this process: descriptors of what it sends and of what it reads, and whether it is there."""

    requests: int
    replies: int
    process: ParentProcess

    @classmethod
    def take(cls) -> Host:
        """Keep stdin and stdout for the protocol. Comes before anything that reads, prints or takes long."""
        return cls(take_stdin(), take_stdout(), ParentProcess())


class _End:
    """Why no more requests are read, and whether there is time left for those that were."""

    def __init__(self, host: Host) -> None:
        self.happened = threading.Event()
        self.signal: int | None = None
        self.host_is_gone = False
        self._host = host
        self._signalled_at = 0.0

    def look(self) -> bool:
        """Look after the host; whether what a signal leaves for finishing has passed, or there is nobody to finish for."""
        # Its pipes may be held open by another process that it started.
        if self._host.process.gone:
            self.on_host_gone()
        return self.host_is_gone or (self.signal is not None and time.monotonic() - self._signalled_at > _GRACE_S)

    def on_host_gone(self) -> None:
        self.host_is_gone = True
        self.happened.set()

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self._signalled_at = time.monotonic()
        self.signal = number
        self.happened.set()


def serve_stdio(service: RoutingService, host: Host, settings: StdioSettings) -> int:
    """Answer requests until there are no more, and close ``service``; call it from the main thread.

    When stdin ends, what is under way is finished and answered. After SIGTERM or SIGINT that has a few seconds, whether the
    host reads or not. When the host's process is gone, or nobody can read stdout, all is called off.

    Returns:
        The exit status: 0 after the end of stdin, 128 and the signal's number after a signal, 1 where the host is gone or
        has stopped reading, or the service can decide no more.
    """
    end = _End(host)
    writer = LineWriter(host.replies, on_broken=end.on_host_gone)
    session = Session(service, settings, writer.send)
    threading.Thread(target=_read, args=(host, settings, session, writer, end), name="archroute-requests", daemon=True).start()
    with _handling_signals(end):
        while not end.happened.wait(_LOOK_EVERY_S) and not service.is_closed:
            end.look()
        has_failed = service.is_closed
        _finish(service, session, end)
        all_written = not end.host_is_gone and writer.close(_PATIENCE_S, end.look)
    if end.signal is not None:
        return 128 + end.signal
    return 0 if all_written and not has_failed else 1


def _read(host: Host, settings: StdioSettings, session: Session, writer: LineWriter, end: _End) -> None:
    for line in read_lines(host.requests, settings.max_line):
        if line is None or line.strip():
            session.handle(line)
        writer.wait_for_room()
    end.happened.set()


def _finish(service: RoutingService, session: Session, end: _End) -> None:
    """Close the service once all is decided, or there is nobody to decide for, or a signal has left no more time."""
    closing = threading.Thread(target=service.close, name="archroute-closing")
    closing.start()
    while closing.is_alive():
        if end.look():
            session.cancel_all()
        closing.join(_LOOK_EVERY_S)


@contextmanager
def _handling_signals(end: _End) -> Iterator[None]:
    before = {number: signal.signal(number, end.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
