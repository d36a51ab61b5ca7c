"""Running the application: a socket, uvicorn, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from archroute_edge.errors import SettingsError
from archroute_edge.record import EntrySink
from archroute_edge.routing import Router, RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.http._bounded_log import bounded_log
from archroute_edge.server.http._connections import (
    ConnectionBook,
    bounded_protocol,
    connection_limits,
    descriptor_limit,
)

if TYPE_CHECKING:
    from archroute_edge.gateway import PastTry

_GRACE_S = 5
# How long bodies that are on their way are still waited for when the server ends; and answers after a second Ctrl-C.
_LAST_BODIES_S = 2.0
_LAST_ANSWERS_S = 1.0
_KEEP_ALIVE_S = 75


def bind(settings: ServerSettings) -> socket.socket:
    """A socket at the server's address that does not listen yet, so that no client waits while a model is loaded.

    Raises:
        SettingsError: the address cannot be had; the message says why.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Of a name that has both, such as localhost, the address that clients try in any case.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                # The port can be had again at once; elsewhere the option lets two programs have it.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        message = f"cannot listen on {settings.host}, port {settings.port}: {reason}; choose another --host or --port"
        raise SettingsError(message) from exc
    return bound


def run_server(
    router: Router,
    settings: ServerSettings,
    bound: socket.socket,
    *,
    config_path: Path | None,
    announce: Callable[[str], None],
    sinks: Iterable[EntrySink] = (),
    past_tries: Sequence[PastTry] = (),
) -> None:
    """Serve until a signal ends it; what runs is finished first.

    Args:
        router: taken over: closed at the end.
        settings: the server's.
        bound: what :func:`bind` gave; closed at the end.
        config_path: the configuration file, read again when it changes and on SIGHUP.
        announce: told the server's address once it listens.
        sinks: get an entry of every decision and every forwarded request.
        past_tries: what earlier runs have found out about targets.

    Raises:
        ConfigError: requests are to be forwarded, and a model cannot be reached as the configuration says.
    """
    service = RoutingService(router, queue_limit=settings.queue_limit)
    try:
        app = ServerApp(service, settings, config_path, sinks, past_tries)
    except BaseException:
        service.close(drain=False)
        raise
    descriptors = descriptor_limit()
    if settings.forward and descriptors is not None:
        # Each client's request has a connection to an upstream.
        descriptors //= 2
    limits = connection_limits(descriptors, is_loopback=settings.is_loopback)
    config = uvicorn.Config(
        app.asgi,
        http=bounded_protocol(ConnectionBook(limits)),
        backlog=limits.backlog,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # Longer than clients keep idle connections, so that none is closed while a request is on its way.
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.timeout) + _GRACE_S,
    )
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    with bounded_log():
        _Server(config, app, lambda: announce(f"http://{shown}:{port}")).run(sockets=[bound])


class _Server(uvicorn.Server):
    """uvicorn's server: ends with exit code 0 on SIGTERM and SIGINT, reads its configuration again on SIGHUP."""

    def __init__(self, config: uvicorn.Config, app: ServerApp, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Neither Windows' event loop nor one in another thread takes signals.
        if hasattr(signal, "SIGHUP"):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._app.reload.ask)
        self._when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Else the watchers of the activity would hold the server for as long as they watch.
        self._app.recent.close()
        loop = asyncio.get_running_loop()
        last_bodies = loop.call_later(_LAST_BODIES_S, self._app.guard.bodies.stop)
        try:
            await super().shutdown(sockets)
        finally:
            last_bodies.cancel()
        if self.force_exit:
            # Left to themselves, the requests and the lifespan would be cancelled, each with a traceback.
            self._app.guard.bodies.stop()
            await self.lifespan.shutdown()
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=_LAST_ANSWERS_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not recorded as uvicorn does, which would raise it again when all is done.
        self._app.serving.is_closing = True
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = self._app.serving.is_forced = True
        self.should_exit = True
