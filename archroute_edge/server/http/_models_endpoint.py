"""``/v1/models``: the router's own model, and of a server that forwards all that requests may ask for."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from archroute_edge.server.http._api_errors import ApiError
from archroute_edge.server.http._reply_bodies import ModelReply, ModelsReply
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Serving, error_responses

if TYPE_CHECKING:
    from archroute_edge.gateway import Gateway

OWNER = "archroute-edge"


def models_endpoint(serving: Serving, gateway: Gateway | None = None) -> APIRouter:
    """The endpoints over ``serving``; with ``gateway`` in the shape of OpenAI's API and of Anthropic's at once."""
    router = APIRouter(tags=["the server"], route_class=ServedRoute)
    started = int(time.time())
    created_at = datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def described(name: str) -> dict[str, Any]:
        found = {"id": name, "object": "model", "created": started, "owned_by": OWNER}
        return found if gateway is None else {**found, "type": "model", "display_name": name, "created_at": created_at}

    def deciding() -> list[dict[str, str]]:
        text = "Chooses between given options: questions of the type 'choice', by any name of a model."
        return [{"name": serving.model_name, "description": text, "release_date": created_at[:10]}]

    def names() -> tuple[str, ...]:
        return (serving.model_name,) if gateway is None else tuple(dict.fromkeys((*gateway.models, serving.model_name)))

    @router.get("/v1/models", response_model=ModelsReply, responses=error_responses(401, 403))
    async def models() -> Response:
        """The model that decides, and those that requests may ask for."""
        found = names()
        reply: dict[str, Any] = {"object": "list", "data": [described(name) for name in found], "models": deciding()}
        if gateway is not None:
            reply.update(has_more=False, first_id=found[0], last_id=found[-1])
        return JSONResponse(reply)

    @router.get("/v1/models/{model_id:path}", response_model=ModelReply, responses=error_responses(401, 403, 404))
    async def model(model_id: str) -> Response:
        """One of them, by its name."""
        if model_id != serving.model_name and (gateway is None or not gateway.knows(model_id)):
            raise ApiError(404, f"there is no such model; this server has {', '.join(names())}", code="model_not_found")
        return JSONResponse(described(model_id))

    return router
