"""``/v1/activity``: what happened since the start, at once or as it happens; the page's data, without any text of a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from archroute_edge.record import MOST_NAME, Entry, RecentEntries
from archroute_edge.server.http._api_errors import ApiError, unavailable
from archroute_edge.server.http._reply_bodies import SHOWN_OF_ENTRY, ActivityReply
from archroute_edge.server.http._served_route import ServedRoute
from archroute_edge.server.http._serving import Serving, check_own_key, error_responses

if TYPE_CHECKING:
    from archroute_edge.gateway import Gateway

SNAPSHOT: Final = "/v1/activity"
STREAM: Final = "/v1/activity/stream"
PATHS = (SNAPSHOT, STREAM)

_BUSY_S: Final = 0.25
"""A busy server sends after so long what is new, not each entry for itself."""
_QUIET_S: Final = 15.0
"""After so long without an entry the event is sent again: minutes have passed, and the connection is seen to be alive."""
_MOST_RESTING: Final = 64
_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events named `activity`, each as `GET /v1/activity` answers: the first with the entries "
        "that are kept, the others with new ones.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


async def _check_who_asks(request: Request) -> None:
    """Refuse keys of clients, since the activity is that of all of them, and what pages from elsewhere ask for without saying
    their origin, as for a picture or a script: they cannot read the answer, but could take all places of the stream.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise ApiError(403, "requests of web pages from elsewhere are not answered", code="origin_not_allowed")
    check_own_key(request)


def activity_endpoints(serving: Serving, recent: RecentEntries, gateway: Gateway | None = None) -> APIRouter:
    """The endpoints over ``recent``; a gateway tells which models rest or are withdrawn."""
    router = APIRouter(tags=["the server"], route_class=ServedRoute, dependencies=[Depends(_check_who_asks)])

    def described(after: int) -> tuple[int, bytes]:
        """The number of entries so far, and the reply with those after the first ``after`` ones."""
        found = recent.look(after)
        reply = {
            **vars(found),
            "decider": serving.model_name,
            "forwards": serving.settings.forward,
            "default_model": serving.config.default_model,
            "totals": vars(found.totals),
            "routes": [vars(share) for share in found.routes],
            "models": [vars(share) for share in found.models],
            "minutes": [vars(minute) for minute in found.minutes],
            **_unwell(gateway),
            "entries": [_shown(entry) for entry in found.entries],
        }
        # ASCII: half a surrogate pair in a name has no bytes in UTF-8.
        return found.number, json.dumps(reply, separators=(",", ":")).encode("ascii")

    @router.get(SNAPSHOT, response_model=ActivityReply, responses=error_responses(401, 403))
    async def activity() -> Response:
        """What happened since the start: totals, shares, the last hour, the latest requests. No texts."""
        _, body = described(0)
        return Response(body, media_type="application/json")

    @router.get(STREAM, response_class=Response, responses=_EVENTS | error_responses(401, 403, 503))
    async def stream() -> Response:
        """The same as it happens."""
        woken, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            if not woken.is_set():
                loop.call_soon_threadsafe(woken.set)

        async def events() -> AsyncIterator[bytes]:
            number = 0
            while not recent.is_closed:
                woken.clear()
                number, body = described(number)
                yield b"event: activity\ndata: " + body + b"\n\n"
                await asyncio.sleep(_BUSY_S)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(woken.wait(), _QUIET_S)

        if not recent.watch(wake):
            raise unavailable("the activity has all the watchers that it may have; close one", "too_many_watchers")
        return _Events(events(), lambda: recent.unwatch(wake))

    return router


def _unwell(gateway: Gateway | None) -> dict[str, Any]:
    """The models that are asked last, or not at all."""
    if gateway is None:
        return {"resting": [], "withdrawn": []}
    return {
        "resting": [model[:MOST_NAME] for model in gateway.health.resting[:_MOST_RESTING]],
        "withdrawn": [{**place._asdict(), "model": model} for place, model in gateway.health.withdrawn],
    }


class _Events(StreamingResponse):
    """Server-sent events.

    Args:
        events: what is sent.
        at_end: called when the client is gone or all is sent.
    """

    def __init__(self, events: AsyncIterator[bytes], at_end: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


def _shown(entry: Entry) -> dict[str, Any]:
    shown = {name: getattr(entry, name) for name in SHOWN_OF_ENTRY}
    return {**shown, "tries": [vars(each) for each in entry.tries], "usage": vars(entry.usage)}
