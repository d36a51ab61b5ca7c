"""What happened, as the page is told it: at once, as it happens, and to whom."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Message

from archroute_edge.config import Canary, ForwardSettings, KeyRule, TrafficRule, parse_config
from archroute_edge.record import Content, Entry, Try
from archroute_edge.routing import RoutingService
from archroute_edge.targets import Place
from tests.server.conftest import CONFIG, Client, configure
from tools.measure.server_process import ServerProcess

App = Callable[..., Client]
KEY = {"Authorization": "Bearer s3cret-key"}
HTML = "<img src=x onerror=alert(1)>\u202e\ud800"


def made(**changes: Any) -> Entry:
    values: dict[str, Any] = {"id": "1" * 32, "time": 1.0, "operation": "chat", "outcome": "completed", "status": 200}
    return Entry(**{**values, **changes})


def test_every_decision_is_told_without_its_text(client: Client) -> None:
    texts = ["the secret bug", "another secret"]
    client.post("/v1/route", {"messages": texts[0], "scores": True, "user": "u"})
    client.post("/routing/v1/chat/completions", {"model": "m/x", "messages": [{"role": "user", "content": texts[1]}]})
    answer = client("GET", "/v1/activity")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["number"] == found["totals"]["requests"] == 2
    assert (found["decider"], found["default_model"], found["forwards"]) == ("tiny", "m/default", False)
    assert sum(share["requests"] for share in found["routes"]) == 2
    assert len(found["minutes"]) == 60
    assert sum(minute["requests"] for minute in found["minutes"]) == 2
    assert [entry["asked_model"] for entry in found["entries"]] == [None, "m/x"]
    assert all(entry["decision_ms"] > 0 and entry["decided_by"] == "tiny" for entry in found["entries"])
    assert "secret" not in answer.text


def test_names_pass_as_text_and_sessions_and_contents_do_not(client: Client) -> None:
    """A page that puts JSON into its text cannot be made to run a name; half a surrogate pair must not end the answer."""
    tries = (Try(HTML, "p", 200, None, 1.0, 2.0),)
    client.app.recent.add(made(route=HTML, model=HTML, tries=tries, session="d1gest", content=Content("words", "words")))
    answer = client("GET", "/v1/activity")
    entry = json.loads(answer.content)["entries"][0]
    assert entry["route"] == entry["model"] == entry["tries"][0]["model"] == HTML
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.isascii()
    assert not {"session", "content", "scores"} & set(entry)
    assert "words" not in answer.text
    assert "d1gest" not in answer.text


class Watcher:
    """The events of a stream, read from the application itself."""

    def __init__(self, client: Client, headers: dict[str, str] | None = None) -> None:
        self._client = client
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._headers = [(b"host", b"localhost"), *((n.lower().encode(), v.encode()) for n, v in (headers or {}).items())]

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def run(self) -> None:
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "method": "GET", "path": "/v1/activity/stream"}
        more = {"query_string": b"", "headers": self._headers, "client": ("127.0.0.1", 1), "http_version": "1.1"}
        await self._client.app.asgi({**scope, **more}, self._receive, self._sent.put)

    async def status(self) -> int:
        status: int = (await self._sent.get())["status"]
        return status

    async def event(self) -> Any:
        """What the next event holds."""
        body = (await asyncio.wait_for(self._sent.get(), 10))["body"].decode("ascii")
        assert body.startswith("event: activity\ndata: ")
        assert body.endswith("\n\n")
        return json.loads(body.partition("data: ")[2])

    def leave(self) -> None:
        self._gone.set()


@asynccontextmanager
async def watching(client: Client, headers: dict[str, str] | None = None) -> AsyncIterator[Watcher]:
    watcher = Watcher(client, headers)
    task = asyncio.create_task(watcher.run())
    try:
        assert await watcher.status() == 200
        yield watcher
    finally:
        watcher.leave()
        await asyncio.wait_for(task, 10)


def test_the_stream_begins_with_all_and_goes_on_with_what_is_new(client: Client) -> None:
    client.app.recent.add(made(id="a" * 32))

    async def watch() -> None:
        async with watching(client) as watcher:
            first = await watcher.event()
            for letter in "bc":
                client.app.recent.add(made(id=letter * 32))
            second = await watcher.event()
        assert [entry["id"][0] for entry in first["entries"]] == ["a"]
        assert [entry["id"][0] for entry in second["entries"]] == ["b", "c"]
        assert (second["number"], second["totals"]["requests"]) == (3, 3)

    asyncio.run(watch())


def test_watchers_have_places_which_are_given_back(client: Client) -> None:
    """Pages left open, or a page from elsewhere that opens many, must not hold connections without end."""

    async def watch() -> None:
        watchers = [Watcher(client) for _ in range(17)]
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        assert sorted([await watcher.status() for watcher in watchers]) == [200] * 16 + [503]
        for watcher in watchers:
            watcher.leave()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        async with watching(client) as watcher:
            assert (await watcher.event())["number"] == 0

    asyncio.run(watch())


@pytest.mark.parametrize("path", ["/v1/activity", "/v1/activity/stream"])
def test_who_may_not_watch(app_over: App, service: RoutingService, path: str) -> None:
    """It is behind the guard, and pages from elsewhere may not even ask as pictures and scripts do, without an origin."""
    client = app_over(service, api_key="s3cret-key")
    asked: list[tuple[dict[str, str], int, str]] = [
        ({}, 401, "invalid_api_key"),
        ({"Authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ({**KEY, "Host": "evil.example"}, 403, "host_not_allowed"),
        ({**KEY, "Origin": "https://evil.example"}, 403, "origin_not_allowed"),
        ({**KEY, "Sec-Fetch-Site": "cross-site"}, 403, "origin_not_allowed"),
        ({**KEY, "Sec-Fetch-Site": "same-site"}, 403, "origin_not_allowed"),
    ]
    for headers, status, code in asked:
        answer = client("GET", path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_with_the_key_its_own_page_may(app_over: App, service: RoutingService) -> None:
    client = app_over(service, api_key="s3cret-key")
    assert client("GET", "/v1/activity", headers={**KEY, "Sec-Fetch-Site": "same-origin"}).json()["number"] == 0


FORWARDING = """
model_providers:
  - {model: openai/a, access_key: $A_KEY, base_url: "http://127.0.0.1:1/v1", default: true}
  - {model: openai/b, access_key: $A_KEY, base_url: "http://127.0.0.1:1/v1"}
routing_preferences:
  - {name: bugs, description: errors and bugs, models: [openai/a, openai/b]}
"""
RULES = ForwardSettings(
    keys=(KeyRule("alice", "alices-key"),),
    routes={"bugs": TrafficRule(weights={"openai/a": 1, "openai/b": 1}, canary=Canary("openai/b", window=20))},
)


@pytest.fixture
def forwarding(service: RoutingService, app_over: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("A_KEY", "upstream-key")
    configure(service, replace(parse_config(FORWARDING), forward=RULES))
    yield app_over(service, api_key="s3cret-key", forward=True)
    configure(service, CONFIG)


def test_a_clients_key_does_not_show_what_others_ask(forwarding: Client) -> None:
    for path in ("/v1/activity", "/v1/activity/stream", "/metrics"):
        answer = forwarding("GET", path, headers={"Authorization": "Bearer alices-key"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "server_key_needed")
    assert forwarding("GET", "/v1/activity", headers=KEY).json()["forwards"]
    assert forwarding("GET", "/metrics", headers=KEY).status_code == 200


def test_models_that_rest_or_are_withdrawn_are_named(forwarding: Client) -> None:
    gateway = forwarding.app.gateway
    assert gateway is not None
    place = Place("route", "bugs")
    for ok, model in ((True, "openai/a"), (False, "openai/b")) * 20:
        gateway.health.ended(model, ok, 10.0 if ok else None, [place])
    found = forwarding("GET", "/v1/activity", headers=KEY).json()
    assert found["resting"] == ["openai/b"]
    assert found["withdrawn"] == [{"kind": "route", "name": "bugs", "model": "openai/b"}]


def test_a_server_that_is_watched_ends_at_once(kernel_verdict: Any) -> None:
    """A page left open must not hold the server for the half minute that unfinished requests have."""
    options = ("--model", "tiny", "--threads", "1")
    with (
        ServerProcess(*options, ARCHROUTE_CACHE_DIR=str(kernel_verdict.parent)) as server,
        httpx.Client(base_url=server.address, timeout=20) as client,
        client.stream("GET", "/v1/activity/stream") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "event: activity"
        client.post("/v1/route", json={"messages": "hello"}).raise_for_status()
        numbers = (json.loads(line[6:])["number"] for line in lines if line.startswith("data: "))
        assert next(number for number in numbers if number) == 1
        server.signal(signal.SIGTERM)
        assert list(numbers) == []
        assert server.wait() == 0
