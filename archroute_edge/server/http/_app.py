"""The application: all endpoints behind the guard, those for what looks after a server, and the OpenAPI document."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp

from archroute_edge import __version__
from archroute_edge.config import RoutingConfig
from archroute_edge.errors import ArchRouteError, DecisionCancelledError, QueueFullError
from archroute_edge.record import EntrySink, EntrySinks, RecentEntries
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http import _activity as activity
from archroute_edge.server.http import _chat as chat
from archroute_edge.server.http import _decision_endpoint as decision_endpoint
from archroute_edge.server.http import _decision_protocols as protocols
from archroute_edge.server.http import _route_endpoints as route_endpoints
from archroute_edge.server.http._api_errors import add_error_handlers
from archroute_edge.server.http._forward_door import ForwardDoor
from archroute_edge.server.http._forward_paths import FORWARD_PATHS
from archroute_edge.server.http._guard import OPEN_PATHS, Guard
from archroute_edge.server.http._metrics import ForwardedMetrics, Metrics
from archroute_edge.server.http._models_endpoint import models_endpoint
from archroute_edge.server.http._page import PAGE_PATH, page_endpoint
from archroute_edge.server.http._reload import ConfigReload
from archroute_edge.server.http._reply_bodies import StatusReply
from archroute_edge.server.http._served_route import ServedRoute, described
from archroute_edge.server.http._serving import Serving, check_own_key, error_responses

if TYPE_CHECKING:
    from archroute_edge.gateway import Gateway, PastTry

logger = logging.getLogger(__name__)

OPENAPI_PATH = "/openapi.json"
PROBES = ("/v1/models", "/healthz", "/readyz", "/metrics")
_PATHS = (
    *(*FORWARD_PATHS, *decision_endpoint.PATHS, *protocols.PATHS, *route_endpoints.PATHS, *activity.PATHS, *PROBES),
    *(PAGE_PATH, OPENAPI_PATH),
)
_WARM_AGAIN_S = 0.2
_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


class ServerApp:
    """One service as an ASGI application.

    Args:
        service: taken over: it is closed when the application shuts down.
        settings: who may ask, and how much.
        config_path: the file to watch; None where there is none.
        sinks: get an entry of every decision and every forwarded request.
        past_tries: what earlier runs have found out about targets, if it forwards.

    Raises:
        ConfigError: requests are to be forwarded, and a model cannot be reached as the configuration says.
    """

    def __init__(
        self,
        service: RoutingService,
        settings: ServerSettings,
        config_path: Path | None = None,
        sinks: Iterable[EntrySink] = (),
        past_tries: Sequence[PastTry] = (),
    ) -> None:
        metrics = Metrics(service, _PATHS)
        self.settings = settings
        self.recent = RecentEntries()
        """What the page shows."""
        self.serving = Serving(service, settings, metrics, EntrySinks((self.recent, *sinks)))
        self.gateway = _gateway(self.serving) if settings.forward else None
        self.api = self._api()
        self.guard = Guard(self._behind_guard(), settings, metrics.answered)
        self.reload = ConfigReload(config_path, self.serving, self.forward_by)
        if self.gateway is not None:
            self.guard.keys.replace(self.gateway.client_keys)
            changed = config_path.stat().st_mtime if config_path is not None and config_path.is_file() else 0.0
            self.gateway.health.fill(past_tries, time.time(), changed)
            self.serving.entries.hang(ForwardedMetrics(metrics, self.gateway.label))
        self.asgi: ASGIApp = self.guard

    def forward_by(self, config: RoutingConfig) -> None:
        """Reach the models, and know the clients' keys, by a new configuration."""
        if self.gateway is not None:
            self.gateway.replace(config)
            self.guard.keys.replace(self.gateway.client_keys)

    def _api(self) -> FastAPI:
        api = FastAPI(
            title="archroute-edge",
            version=__version__,
            description="Decides on this machine which route a conversation belongs to.",
            lifespan=self._lifespan,
            # FastAPI's own pages load scripts from elsewhere.
            docs_url=None,
            redoc_url=None,
            openapi_url=OPENAPI_PATH,
        )
        add_error_handlers(api)
        of_decisions = (decision_endpoint.decision_endpoint, protocols.decision_protocols, route_endpoints.route_endpoints)
        routers = [
            self._completions(),
            *(endpoints(self.serving) for endpoints in (*of_decisions, probes)),
            models_endpoint(self.serving, self.gateway),
            activity.activity_endpoints(self.serving, self.recent, self.gateway),
            page_endpoint(),
        ]
        for router in routers:
            api.include_router(router)

        def document() -> dict[str, Any]:
            if api.openapi_schema is None:
                api.openapi_schema = self._document(api, routers)
            return api.openapi_schema

        # The way to replace the document that FastAPI's documentation gives.
        api.openapi = document  # type: ignore[method-assign]
        return api

    def _behind_guard(self) -> ASGIApp:
        gateway = self.gateway
        if gateway is None:
            return self.api
        from archroute_edge.server.http._forward_endpoints import answer_forwarded

        endpoint = partial(answer_forwarded, self.serving, gateway)
        return ForwardDoor(self.api, endpoint, self.api.exception_handlers)

    def _completions(self) -> APIRouter:
        if self.gateway is None:
            return chat.chat_endpoint(self.serving)
        from archroute_edge.server.http._forward_endpoints import forward_endpoints

        return forward_endpoints(self.serving, self.gateway)

    def _document(self, api: FastAPI, routers: list[APIRouter]) -> dict[str, Any]:
        found = get_openapi(title=api.title, version=api.version, description=api.description, routes=described(routers))
        for path, operations in found["paths"].items():
            for operation in operations.values():
                # FastAPI's own answer to a body of the wrong shape, which is a 400 here.
                if operation["responses"].get("422", {}).get("description") == "Validation Error":
                    del operation["responses"]["422"]
                if self.guard.keys.are_needed and path not in OPEN_PATHS:
                    operation["security"] = [{"key": []}]
        schemas = found["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        if self.guard.keys.are_needed:
            found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return found

    @asynccontextmanager
    async def _lifespan(self, _api: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._warm()), asyncio.create_task(self.reload.run())]
        try:
            yield
        finally:
            self.serving.is_closing = True
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            if self.gateway is not None:
                await self.gateway.close()
            drain = not self.serving.is_forced
            await asyncio.to_thread(self.serving.service.close, drain=drain, timeout=self.settings.timeout)

    async def _warm(self) -> None:
        """Evaluate the routes; decisions come first, and evaluate them as well."""
        while not self.serving.is_warm:
            try:
                await asyncio.wrap_future(self.serving.service.warm(caller="start"))
            except (DecisionCancelledError, QueueFullError):
                await asyncio.sleep(_WARM_AGAIN_S)
                continue
            except ArchRouteError as exc:
                logger.error("the routes could not be evaluated: %s", exc)
                return
            self.serving.is_warm = True


def _gateway(serving: Serving) -> Gateway:
    from archroute_edge.gateway import Gateway

    settings = serving.settings
    return Gateway(serving.config, serving.entries, keep_content=settings.keep_content, proxy=settings.proxy)


def probes(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(tags=["the server"], route_class=ServedRoute)

    def status_reply(description: str) -> dict[int | str, dict[str, Any]]:
        return {503: {"model": StatusReply, "description": description}, **error_responses(403)}

    @router.get("/healthz", response_model=StatusReply, responses=status_reply("It decides no more: start it again."))
    async def healthz() -> Response:
        """Whether the server lives. Needs no key."""
        return JSONResponse({"status": "failed"}, 503) if serving.has_failed else JSONResponse({"status": "ok"})

    @router.get("/readyz", response_model=StatusReply, responses=status_reply("Not ready, shutting down, or failed."))
    async def readyz() -> Response:
        """Whether the routes are evaluated, so that decisions come at their usual speed. Needs no key."""
        if serving.is_closing:
            status = "shutting down"
        elif serving.has_failed:
            status = "failed"
        else:
            status = "ok" if serving.is_warm else "starting"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @router.get("/metrics", response_class=Response, responses=_METRICS | error_responses(401, 403))
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus, over the requests of all: a client's key does not open them."""
        check_own_key(request)
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
