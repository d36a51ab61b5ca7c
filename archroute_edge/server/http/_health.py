"""What looks after a server asks: its model, whether it lives, whether it is ready, its metrics."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from archroute_edge.server.http._api_errors import ApiError
from archroute_edge.server.http._reply_bodies import ModelReply, ModelsReply, StatusReply
from archroute_edge.server.http._serving import Serving, error_responses

PATHS = ("/v1/models", "/healthz", "/readyz", "/metrics")

_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def probes(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(tags=["the server"])
    started = int(time.time())

    def described() -> dict[str, Any]:
        return {"id": serving.model_name, "object": "model", "created": started, "owned_by": "archroute-edge"}

    @router.get("/v1/models", response_model=ModelsReply, responses=error_responses(401, 403))
    async def models() -> Response:
        """The model that decides."""
        return JSONResponse({"object": "list", "data": [described()]})

    @router.get("/v1/models/{model_id:path}", response_model=ModelReply, responses=error_responses(401, 403, 404))
    async def model(model_id: str) -> Response:
        """The model that decides, by its name."""
        if model_id != serving.model_name:
            raise ApiError(404, f"there is no such model; this server has {serving.model_name}", code="model_not_found")
        return JSONResponse(described())

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

    @router.get("/metrics", response_class=Response, responses={**_METRICS, **error_responses(401, 403)})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
