"""Bodies that do not come: they hold no place that another needs, and none for long."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http import _guard as guard
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.http._guard import LEAST_RATE, WINDOW_S, BodyPlaces, Place
from tests.server.conftest import Client

App = Callable[..., Client]
BODY = b'{"messages": "fix the bug"}'


class Sender:
    """A client that has sent the head of a request and what is put here of its body."""

    def __init__(self, app: ServerApp, address: str = "10.0.0.1") -> None:
        self._app = app
        self._address = address
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.task: asyncio.Task[None] | None = None

    def send(self, body: bytes, more: bool = False) -> None:
        self._messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def start(self, begun: bytes = b"{") -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"27")]
        path = "/v1/route"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
        }
        scope |= {"scheme": "http", "http_version": "1.1", "client": (self._address, 1), "headers": headers}

        async def put(message: Any) -> None:
            self.sent.append(message)

        if begun:
            self.send(begun, more=True)
        self.task = asyncio.create_task(self._app.asgi(scope, self._messages.get, put))  # type: ignore[arg-type]
        while not self._messages.empty():
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def status(self) -> int:
        assert self.task
        await self.task
        status: int = self.sent[0]["status"]
        return status


def test_a_body_that_stands_still_gives_its_place_to_one_that_comes(
    service: RoutingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a hundred clients that send one byte each kept everybody out."""
    app = ServerApp(service, ServerSettings(queue_limit=1))
    monkeypatch.setattr(guard, "_PATIENCE_S", 0.0)

    async def attacked() -> None:
        stalled = [Sender(app) for _ in range(65)]
        for each in stalled:
            await each.start()
        polite = Sender(app, "10.0.0.2")
        await polite.start(b"")
        polite.send(BODY)
        assert await polite.status() == 200
        assert await stalled[0].status() == 408
        assert not any(each.sent for each in stalled[1:])
        app.guard.bodies.stop()
        assert [await each.status() for each in stalled[1:]] == [503] * 64
        assert len(app.guard.bodies) == 0

    asyncio.run(attacked())


def test_places_of_bodies_that_come_are_not_given_away(service: RoutingService) -> None:
    seconds = 0.0
    places = BodyPlaces(2, lambda: seconds)
    taken = [places.take("10.0.0.1"), places.take("10.0.0.1")]
    seconds = 1.0
    for each in taken:
        assert each
        each.received(5)
    assert places.take("10.0.0.2") is None
    seconds = 1.1
    assert places.take("10.0.0.2") is None
    assert len(places) == 2
    seconds = 2.0
    assert places.take("10.0.0.2")
    assert len(places) == 2


def test_the_address_with_most_bodies_pays() -> None:
    seconds = 0.0
    places = BodyPlaces(3, lambda: seconds)
    polite, *greedy = (places.take(address) for address in ("a", "b", "b"))
    seconds = 10.0
    assert greedy[1]
    greedy[1].received(1)
    assert places.take("c")
    assert polite in places._taken
    assert greedy[0] not in places._taken


@pytest.mark.parametrize(("n_bytes", "is_read"), [(0, False), (1, False), (LEAST_RATE, True)])
def test_a_body_has_a_least_rate(monkeypatch: pytest.MonkeyPatch, n_bytes: int, is_read: bool) -> None:
    """Would break if a client that sends a byte now and then held its place for the whole time limit."""
    monkeypatch.setattr(guard, "WINDOW_S", 0.02)
    looked = asyncio.Event()

    async def read() -> bytes:
        place = Place("a", lambda: 0.0)

        async def body() -> bytes:
            place.received(n_bytes)
            await looked.wait()
            return b"whole"

        look = place._look

        def looking() -> None:
            look()
            looked.set()

        monkeypatch.setattr(place, "_look", looking)
        return await place.read(asyncio.ensure_future(body()), 30.0)

    if is_read:
        assert asyncio.run(read()) == b"whole"
    else:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(read())
    assert WINDOW_S == 5.0


def test_bodies_are_bounded_in_bytes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if 128 bodies of 4 MiB could be held at once, or if small ones were refused because of large ones."""
    monkeypatch.setattr(guard, "MOST_BODY_BYTES", 300_000)
    places = BodyPlaces(8)
    held = []
    for size, may in ((290_000, True), (60_000, True), (70_000, False)):
        place = places.take("10.0.0.1")
        assert place is not None
        place.received(size)
        assert places.may_go_on(place) is may
        held.append(place)
    places.free(held[0])
    assert places.may_go_on(held[2])


def test_a_place_keeps_no_body_that_was_read() -> None:
    """Would break if each open connection kept the body of its last request: 50 MB each, for a gateway's."""

    class Body(bytearray):
        """One that can be watched."""

    async def read(place: Place) -> weakref.ref[Body]:
        async def collect() -> Body:
            return Body(b"{}")

        body = await place.read(asyncio.ensure_future(collect()), 30)  # type: ignore[arg-type]
        assert isinstance(body, Body)
        return weakref.ref(body)

    place = BodyPlaces(1).take("10.0.0.1")
    assert place is not None
    assert asyncio.run(read(place))() is None
