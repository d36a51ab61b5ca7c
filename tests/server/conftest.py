"""A server in this process, and one as a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from archroute_edge.config import RoutingConfig, parse_config
from archroute_edge.routing import Router, RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._app import ServerApp
from tests.conftest import EXAMPLE_ROUTES
from tests.server.gateway_server import KEYS, GatewayServer, gateway_server
from tests.upstream import Upstream
from tools.measure.server_process import ServerProcess

CONFIG = parse_config(
    """
default_model: m/default
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors or bugs in the provided code, models: [m/a, m/b]}
  - {name: translation, description: Translating text from one language into another, models: [m/c]}
"""
)


def configure(service: RoutingService, config: RoutingConfig) -> None:
    """Let the shared service decide by another configuration; a test puts the usual one back."""
    service.replace(service.router.with_config(config))


class Client:
    """Requests to an application in this process, one event loop each; connections to upstreams end with the loop."""

    def __init__(self, app: ServerApp) -> None:
        self.app = app

    def __call__(self, method: str, path: str, *, host: str = "localhost", **content: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app.asgi, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                try:
                    return await client.request(method, path, **content)
                finally:
                    # The application is not shut down, and FastAPI remembers its endpoints: a connection that is left open
                    # would be a warning, and so an error, in a test long after this one.
                    if self.app.gateway is not None:
                        await self.app.gateway.close()

        return asyncio.run(ask())

    def post(self, path: str, body: Any, **content: Any) -> httpx.Response:
        return self("POST", path, json=body, **content)

    def metric(self, line: str) -> float:
        """The value of a line of ``/metrics``, by everything before it; 0 where it is missing."""
        for each in self.app.serving.metrics.text().decode().splitlines():
            if each.rpartition(" ")[0] == line:
                return float(each.rpartition(" ")[2])
        return 0.0


@pytest.fixture(scope="package")
def service() -> Iterator[RoutingService]:
    """The bundled model behind a queue."""
    router = Router(config=CONFIG, model="tiny", threads=1, prefix_cache=False)
    with RoutingService(router) as service:
        yield service


@pytest.fixture
def config() -> RoutingConfig:
    return CONFIG


@pytest.fixture
def client(service: RoutingService) -> Client:
    """An application of its own over the shared service, with its usual settings."""
    return Client(ServerApp(service, ServerSettings()))


class StuckService:
    """In a service's place: takes every request and answers none."""

    def __init__(self, service: RoutingService) -> None:
        self.router = service.router
        self.stats = service.stats
        self.is_closed = False
        self.futures: list[Future[Any]] = []
        self.asked: list[dict[str, Any]] = []

    def submit(self, _messages: Any, **asked: Any) -> Future[Any]:
        self.asked.append(asked)
        self.futures.append(Future())
        return self.futures[-1]

    submit_many = submit_by_tables = warm = submit


@pytest.fixture
def stuck(service: RoutingService) -> StuckService:
    return StuckService(service)


@pytest.fixture
def app_over() -> Callable[..., Client]:
    """An application over something in a service's place."""

    def make(service: Any, **settings: Any) -> Client:
        return Client(ServerApp(service, ServerSettings(**settings)))

    return make


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, kernel_verdict: Path) -> Iterator[ServerProcess]:
    """A server process with the bundled model and the five routes of the model card."""
    folder: Path = tmp_path_factory.mktemp("server")
    routes = folder / "routes.yaml"
    routes.write_bytes(EXAMPLE_ROUTES.read_bytes())
    options = ("--config", str(routes), "--model", "tiny", "--threads", "1")
    with ServerProcess(*options, ARCHROUTE_CACHE_DIR=str(kernel_verdict.parent)) as process:
        yield process


@pytest.fixture(scope="package")
def encoder_router() -> Iterator[Router]:
    """The bundled encoder, which is what most people route with; servers share its model."""
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        yield router


@pytest.fixture
def forwarding(
    encoder_router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., GatewayServer]]:
    """Starts a server that forwards, for the text of a configuration and further settings."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as ending:

        def start(config: str, **settings: Any) -> GatewayServer:
            return ending.enter_context(gateway_server(encoder_router, tmp_path, config, **settings))

        yield start


@pytest.fixture
def one() -> Iterator[Upstream]:
    """An upstream."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def two() -> Iterator[Upstream]:
    """Another."""
    with Upstream() as upstream:
        yield upstream
