"""A server in a thread of this process, with real sockets: for what shows only there, and for connections that stay open."""

from __future__ import annotations

import threading
from types import TracebackType

import uvicorn

from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.http._connections import ConnectionBook, ConnectionLimits, bounded_protocol

_PATIENCE_S = 30.0


class ServerInThread:
    """``app``, served on a free port of loopback within a ``with`` block."""

    def __init__(self, app: ServerApp) -> None:
        self.app = app
        started = threading.Event()

        class Server(uvicorn.Server):
            async def startup(self, sockets: object = None) -> None:
                await super().startup()
                started.set()

        config = uvicorn.Config(
            app.asgi,
            port=0,
            http=bounded_protocol(ConnectionBook(ConnectionLimits())),
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = Server(config)
        self._started = started
        self._thread = threading.Thread(target=self._server.run, name="server", daemon=True)

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Take no more requests; those that run have a second."""
        self._server.should_exit = True

    def __enter__(self) -> ServerInThread:
        self._thread.start()
        assert self._started.wait(_PATIENCE_S)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(_PATIENCE_S)
