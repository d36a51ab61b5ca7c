"""A forwarding server as a user has it: a configuration file, the bundled encoder, uvicorn on a free port; in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from archroute_edge.config import load_config
from archroute_edge.record import Entry
from archroute_edge.routing import Router
from archroute_edge.server import ServerSettings
from archroute_edge.server.http import _run as run
from tests.upstream import PATIENCE_S

BUG = "my python function raises an IndexError, please fix this bug"
TRANSLATION = "please translate this sentence into french: good morning"
NEITHER = "hello there"
CHAT = "/v1/chat/completions"

ROUTES = """
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors or bugs in the provided code, models: %s}
  - {name: translation, description: Translating text from one language into another, models: %s}
"""


def two_models(one: str, two: str, *, more: str = "", bugs: str = "[one/big, two/small]", other: str = "[two/small]") -> str:
    """A configuration of two providers at these addresses: bugs go to the first and then the second, the rest to the second."""
    return f"""
model_providers:
  - {{model: one/big, base_url: "{one}", provider_interface: openai, access_key: $ONE_KEY}}
  - {{model: two/small, base_url: "{two}", provider_interface: openai, access_key: $TWO_KEY, default: true}}
{ROUTES % (bugs, other)}
{more}
"""


KEYS = {"ONE_KEY": "sk-one-secret", "TWO_KEY": "sk-two-secret"}
"""Variables that those configurations name."""


class Entries:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.all: list[Entry] = []
        self._came = threading.Condition()

    def add(self, entry: Entry) -> None:
        with self._came:
            self.all.append(entry)
            self._came.notify_all()

    def wait_for(self, count: int) -> list[Entry]:
        """The entries, once there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.all) >= count, PATIENCE_S), f"{len(self.all)} entries"
            return list(self.all)


class GatewayServer:
    """A server that listens; a client for it, and what it noted."""

    def __init__(
        self, address: str, server: run._Server, loop: asyncio.AbstractEventLoop, entries: Entries, path: Path
    ) -> None:
        self.address = address
        self.entries = entries
        self.client = httpx.Client(base_url=address, timeout=PATIENCE_S, verify=False, trust_env=False)
        self._server = server
        self._loop = loop
        self._path = path

    def ask(
        self, text: str = BUG, model: str = "auto", headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """A chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.client.post(CHAT, json=body, headers=headers)

    def send(self, body: bytes, headers: Sequence[tuple[str, str]] = (), path: str = CHAT) -> httpx.Response:
        """A request whose bytes are chosen."""
        return self.client.post(path, content=body, headers=[("Content-Type", "application/json"), *headers])

    def configure(self, text: str) -> None:
        """Replace the configuration file and have it read, as a SIGHUP does."""
        self._path.write_text(text, encoding="utf-8")
        assert asyncio.run_coroutine_threadsafe(self._server._app.reload.reload(), self._loop).result(PATIENCE_S)

    def end(self) -> None:
        """Tell the server to end, as a SIGTERM does."""
        self._server.should_exit = True


@contextmanager
def gateway_server(router: Router, folder: Path, config: str, **settings: Any) -> Iterator[GatewayServer]:
    """A server for ``config`` over the model of ``router``.

    Args:
        router: lends its model.
        folder: for the configuration file.
        config: its text.
        settings: of the server.
    """
    path = folder / "gateway.yaml"
    path.write_text(config, encoding="utf-8")
    chosen = ServerSettings(port=0, **{"forward": True, **settings})
    entries, started = Entries(), threading.Event()
    servers: list[run._Server] = []
    loops: list[asyncio.AbstractEventLoop] = []
    plain = run._Server

    def remember(*arguments: Any) -> run._Server:
        servers.append(plain(*arguments))
        return servers[0]

    bound = run.bind(chosen)
    host, port = bound.getsockname()[:2]
    failed: list[BaseException] = []

    def announce(_address: str) -> None:
        loops.append(asyncio.get_running_loop())
        started.set()

    def serve() -> None:
        try:
            run.run_server(
                router.with_config(load_config(path)),
                chosen,
                bound,
                config_path=path,
                announce=announce,
                sinks=[entries],
            )
        except Exception as exc:  # noqa: BLE001 - raised again in the test's thread
            failed.append(exc)
            bound.close()
        finally:
            started.set()

    thread = threading.Thread(target=serve, name="gateway server")
    with mock.patch.object(run, "_Server", remember):
        thread.start()
        assert started.wait(PATIENCE_S), "the server did not start"
    if failed:
        raise failed[0]
    server = GatewayServer(f"http://{host}:{port}", servers[0], loops[0], entries, path)
    try:
        yield server
    finally:
        server.client.close()
        server.end()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server does not end"
