"""What looks after a server asks: its model, whether it lives, whether it is ready, its metrics."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from archroute_edge.server.reply_bodies import ModelsReply, StatusReply
from archroute_edge.server.serving import Serving, error_responses

PATHS = ("/v1/models", "/healthz", "/readyz", "/metrics")

_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def probes(serving: Serving) -> APIRouter:
    """The endpoints over ``serving``."""
    router = APIRouter(tags=["the server"])
    started = int(time.time())

    @router.get("/v1/models", response_model=ModelsReply, responses=error_responses(401, 403))
    async def models() -> Response:
        """The model that decides."""
        model = {"id": serving.model_name, "object": "model", "created": started, "owned_by": "archroute-edge"}
        return JSONResponse({"object": "list", "data": [model]})

    @router.get("/healthz", response_model=StatusReply, responses=error_responses(403))
    async def healthz() -> Response:
        """Whether the server answers at all. Needs no key."""
        return JSONResponse({"status": "ok"})

    unready: dict[int | str, dict[str, Any]] = {503: {"model": StatusReply, "description": "Not ready, or shutting down."}}

    @router.get("/readyz", response_model=StatusReply, responses={**unready, **error_responses(403)})
    async def readyz() -> Response:
        """Whether the routes are evaluated, so that decisions come at their usual speed. Needs no key."""
        status = "shutting down" if serving.is_closing else "ok" if serving.is_warm else "starting"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @router.get("/metrics", response_class=Response, responses={**_METRICS, **error_responses(401, 403)})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
