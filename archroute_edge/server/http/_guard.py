"""What stands before the application: who may ask, from where, how much they may send, and how fast a body has to come."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archroute_edge.server import ServerSettings
from archroute_edge.server.http._api_errors import ApiError, unavailable
from archroute_edge.server.http._client_keys import ClientKeys, KeyFound
from archroute_edge.server.http._forward_paths import FORWARD_PATHS

OPEN_PATHS: Final = frozenset({"/", "/healthz", "/readyz"})
"""Paths that need no API key: what looks after processes has none, and the page, which holds no data, asks for it."""

WINDOW_S: Final = 5.0
"""How often the rate of a body is looked at."""
LEAST_RATE: Final = 1024
"""Bytes a second that come of a body in each :data:`WINDOW_S`, until it is whole."""

MOST_BODY_BYTES: Final = 64 << 20
"""All bodies at once, those of :data:`SMALL_BODY` excepted."""
SMALL_BODY: Final = 1 << 16

# Whoever stands still for less is no stalled client.
_PATIENCE_S: Final = 0.25
# An address in brackets or a name, and a port. Nothing else: what is behind "@" or before "#" is no name.
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")
# A client that still sends does not read. What it sends is thrown away for so long, so that it comes to read its answer.
_DRAIN_S: Final = 5.0
_DRAIN_BYTES: Final = 64 << 20
_MOST_BESIDE_THE_QUEUE: Final = 64
# Requests whose models have not begun to answer.
_MOST_FORWARDED: Final = 1024
_STANDS_STILL: Final = "the body stands still, and others need its place; send it at once"


class Place:
    """A body that is being read, or whose request waits for its answer.

    Args:
        address: the client's.
        clock: seconds that only grow.
    """

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        self.address = address
        self.is_whole = False
        self.stopped: ApiError | None = None
        """The answer if it is not read to its end."""
        self.last = clock()
        """When the last bytes came."""
        self._clock = clock
        self._reading: asyncio.Task[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._n_bytes = 0
        self.n_bytes = 0
        """Bytes that have come."""

    def received(self, n_bytes: int) -> None:
        """Note that some of it has come."""
        if n_bytes:
            self.last = self._clock()
            self._n_bytes += n_bytes
            self.n_bytes += n_bytes

    async def read(self, reading: asyncio.Task[bytes], timeout: float) -> bytes:
        """The result of ``reading``, which calls :meth:`received`.

        Raises:
            asyncio.TimeoutError: not in time.
            asyncio.CancelledError: :attr:`stopped` says why, unless it is the waiting that was cancelled.
        """
        self._reading = reading
        self._look_later()
        try:
            body = await asyncio.wait_for(reading, timeout)
        finally:
            assert self._timer is not None
            self._timer.cancel()
            # It would keep the body for as long as the connection stays open.
            self._reading = None
        self.is_whole = True
        return body

    def stop(self, answer: ApiError) -> None:
        """Wait for no more of it."""
        if not self.is_whole and self._reading is not None and not self._reading.done():
            self.stopped = answer
            self._reading.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._look)

    def _look(self) -> None:
        if self._n_bytes < LEAST_RATE * WINDOW_S:
            self.stop(_too_slow())
        self._n_bytes = 0
        self._look_later()


class BodyPlaces:
    """As many bodies as may be held at once.

    If all places are taken, the body that has stood still for longest, of the address that has most of them, gives way.

    Args:
        most: places.
        clock: seconds that only grow.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._taken: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, address: str) -> Place | None:
        """A place; None if all are taken by bodies that come as they should, or are whole."""
        if len(self._taken) >= self._most:
            stalled = self._stalled()
            if stalled is None:
                return None
            self.free(stalled)
            stalled.stop(_closing(ApiError(408, _STANDS_STILL, code="timeout")))
        place = Place(address, self._clock)
        self._taken[place] = None
        return place

    def may_go_on(self, place: Place) -> bool:
        """Whether there is room for what has come of a body: always for a small one, for larger ones within a bound in all."""
        if place.n_bytes <= SMALL_BODY or len(self._taken) == 1:
            return True
        return sum(each.n_bytes for each in self._taken) <= MOST_BODY_BYTES

    def grow(self, place: Place, n_bytes: int) -> None:
        """Count what a body is decompressed to beside it.

        Raises:
            ApiError: 429; there is no room for it.
        """
        place.n_bytes += n_bytes
        if not self.may_go_on(place):
            raise _too_much()

    def free(self, place: Place) -> None:
        """Give a place back; one that has been given back stays so."""
        self._taken.pop(place, None)

    def stop(self) -> None:
        """Wait for no more of any body: the server ends."""
        for place in list(self._taken):
            place.stop(_closing(unavailable("the server is shutting down", "shutting_down")))

    def _stalled(self) -> Place | None:
        now = self._clock()
        per_address = Counter(each.address for each in self._taken)
        found = [each for each in self._taken if not each.is_whole and now - each.last >= _PATIENCE_S]
        return min(found, key=lambda each: (-per_address[each.address], each.last), default=None)


class Guard:
    """ASGI middleware: checks ``Host``, ``Origin`` and the key, and reads the body within bounds of size and time.

    Args:
        app: what stands behind.
        settings: the server's.
        observe: told the path and the status of each answer.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, observe: Callable[[str, int], None]) -> None:
        self._app = app
        self._settings = settings
        self._observe = observe
        self._hosts = settings.host_names
        self.keys = ClientKeys(settings.api_key, is_forwarding=settings.forward)
        """The keys that are accepted."""
        forwarded = _MOST_FORWARDED if settings.forward else 0
        self.bodies = BodyPlaces(settings.queue_limit + _MOST_BESIDE_THE_QUEUE + forwarded)
        """Bodies that are being read, and those of requests that are being answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._observe(path, message["status"])
                kept = [header for header in message.get("headers", ()) if header[0].lower() != b"cache-control"]
                message["headers"] = [*kept, (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
            await send(message)

        headers = Headers(scope=scope)
        try:
            key = self._check(headers, path)
            found = await self._read(headers, receive, (scope.get("client") or ("",))[0], self._limit(path))
        except ApiError as exc:
            await exc.response(path)(scope, receive, watched)
            return
        except _ClientLeftError:
            return
        state = scope.setdefault("state", {})
        if key is not None:
            state["client_name"], state["server_key_in"] = key.client, key.headers
        if found is None:
            await self._app(scope, receive, watched)
            return
        body, place = found
        state["give_back"] = partial(self.bodies.free, place)
        state["take_room"] = partial(self.bodies.grow, place)
        state["max_body"] = self._limit(path)
        receive = _replayed(body, receive)
        # A long answer must not hold it.
        del body, found
        try:
            await self._app(scope, receive, watched)
        finally:
            self.bodies.free(place)

    def _check(self, headers: Headers, path: str) -> KeyFound | None:
        """Whose key it is; None if none is needed."""
        host = _only(headers, "host")
        if host is None:
            raise ApiError(400, "one Host header is needed", code="invalid_host")
        if self._hosts is not None and _name(host) not in self._hosts:
            raise ApiError(
                403, "this server does not answer to the name in the Host header; see --allowed-host", code="host_not_allowed"
            )
        origin = _only(headers, "origin", default="")
        # A page's own server is not foreign to it; "null" is what sandboxed pages and files send.
        if origin is None or (origin and _netloc(origin) != host.lower()):
            raise ApiError(403, "requests of web pages from elsewhere are not answered", code="origin_not_allowed")
        if path in OPEN_PATHS or not self.keys.are_needed:
            return None
        found = self.keys.find(headers)
        if found is None:
            raise ApiError(401, self.keys.hint, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return found

    def _limit(self, path: str) -> int:
        """Bytes that a body may have."""
        is_forwarded = self._settings.forward and path in FORWARD_PATHS
        return self._settings.max_forwarded_body if is_forwarded else self._settings.max_body

    async def _read(self, headers: Headers, receive: Receive, address: str, limit: int) -> tuple[bytes, Place] | None:
        """The whole body, and its place, to be given back with the answer; None if the request has none."""
        length = _only(headers, "content-length", default="0") or ""
        chunked = _only(headers, "transfer-encoding", default="") != ""
        if length == "0" and not chunked:
            return None
        if not chunked and length.isdecimal() and int(length) > limit:
            if _only(headers, "expect", default="") == "":
                await _drain(receive)
            raise _too_large(limit)
        place = self.bodies.take(address)
        if place is None:
            raise _too_much()
        try:
            reading = asyncio.ensure_future(self._collect(receive, limit, place))
            return await place.read(reading, self._settings.timeout), place
        except BaseException as exc:
            self.bodies.free(place)
            error = _too_slow() if isinstance(exc, asyncio.TimeoutError) else place.stopped
            if error is None:
                raise
            raise error from exc

    async def _collect(self, receive: Receive, limit: int, place: Place) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeftError
            part = message.get("body", b"")
            place.received(len(part))
            body += part
            if not self.bodies.may_go_on(place):
                raise _closing(_too_much())
            if len(body) > limit:
                if message.get("more_body", False):
                    await _drain(receive)
                raise _too_large(limit)
            if not message.get("more_body", False):
                return bytes(body)


def _too_large(limit: int) -> ApiError:
    message = f"the body is larger than the {limit:,} bytes that this server takes; see --max-body"
    return _closing(ApiError(413, message, code="body_too_large"))


def _too_much() -> ApiError:
    return ApiError(429, "too many requests at once; try again", code="queue_full", headers={"Retry-After": "1"})


def _too_slow() -> ApiError:
    return _closing(ApiError(408, "the body did not arrive in time", code="timeout"))


def _closing(error: ApiError) -> ApiError:
    """``error``, behind which the connection is closed: the rest of the body would be taken for the next request."""
    error.headers = {**(error.headers or {}), "Connection": "close"}
    return error


class _ClientLeftError(Exception):
    """The client went away while it was sending."""


def _only(headers: Headers, name: str, default: str | None = None) -> str | None:
    """The value of a header that may stand once; ``default`` where it is missing, None where it stands twice."""
    values = headers.getlist(name)
    if not values:
        return default
    return values[0].strip() if len(values) == 1 else None


def _name(host: str) -> str:
    """The name in a ``Host`` header in lower case, without brackets and port; empty where it is no such header."""
    found = _HOST.fullmatch(host.lower())
    return found[1] or found[2] if found else ""


def _netloc(origin: str) -> str:
    """Host and port of an origin in lower case; empty where it has none, as ``null`` has."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body that was read, and then what else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def _drain(receive: Receive) -> None:
    async def throw_away() -> None:
        left = _DRAIN_BYTES
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return

    try:
        await asyncio.wait_for(throw_away(), _DRAIN_S)
    except asyncio.TimeoutError:
        return
