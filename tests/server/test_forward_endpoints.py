"""The endpoints that forward: what is routed, what goes where it says, who may, and what the client gets of errors."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import httpx
import pytest

from archroute_edge.config import ForwardSettings, KeyRule, ModelDefinition, ModelFacts, RoutingConfig, WeightedModel
from archroute_edge.config import Upstream as Reached
from archroute_edge.conversation import estimate_tokens
from archroute_edge.errors import EngineError, QueueFullError
from archroute_edge.gateway import _model_span, _request_facts
from archroute_edge.record import Entry
from archroute_edge.routing import Router, RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http import _connections
from archroute_edge.server.http._app import ServerApp
from tests.record.entries import until
from tests.server.conftest import CONFIG, Client, StuckService
from tests.server.in_thread import ServerInThread
from tests.upstream import PATIENCE_S, Upstream, large, never, short, streamed
from tests.upstream_replies import chat_events

BUG = {"model": "auto", "messages": [{"role": "user", "content": "fix the bug in my loop"}]}
PROMPT = (
    '<routes>\n[{"name": "bug_fixing", "description": "Identifying and fixing errors"}]\n</routes>\n'
    '<conversation>\n[{"role": "user", "content": "fix the bug in my loop"}]\n</conversation>'
)


class Kept:
    """A sink in memory. An entry may come after the client has its answer."""

    def __init__(self) -> None:
        self._entries: queue.Queue[Entry] = queue.Queue()

    def add(self, entry: Entry) -> None:
        self._entries.put(entry)

    def next(self) -> Entry:
        return self._entries.get(timeout=30)

    def forget(self) -> None:
        while not self._entries.empty():
            self._entries.get_nowait()


def over(url: str, **settings: Any) -> RoutingConfig:
    """The usual routes with models that all stand at ``url``."""
    reached = Reached(base_url=url, access_key="sk-upstream-1234567890", interface="litellm")
    return replace(
        CONFIG,
        models=tuple(ModelDefinition(f"m/{name}", upstream=reached) for name in ("a", "b", "c", "default")),
        aliases={"fast": (WeightedModel("m/b"),)},
        forward=ForwardSettings(**settings),
    )


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as found:
        yield found


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


@pytest.fixture(scope="module")
def server(upstream: Upstream, kept: Kept) -> Iterator[ServerInThread]:
    router = Router(config=over(upstream.url), model="tiny", threads=1, prefix_cache=False)
    with ServerInThread(ServerApp(RoutingService(router), ServerSettings(forward=True), sinks=[kept])) as running:
        yield running


@pytest.fixture
def http(server: ServerInThread, upstream: Upstream, kept: Kept) -> Iterator[httpx.Client]:
    upstream.forget()
    kept.forget()
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        yield client


def test_auto_is_routed(http: httpx.Client, upstream: Upstream, kept: Kept) -> None:
    reply = http.post("/v1/chat/completions", json=BUG)
    assert upstream.next_arrival().json() == {**BUG, "model": "a"}
    assert reply.status_code == 200
    found = {name.removeprefix("x-archroute-"): value for name, value in reply.headers.items() if "archroute" in name}
    assert float(found.pop("confidence")) > 0.5
    assert found == {"route": "bug_fixing", "model": "m/a", "decided-by": "tiny", "tries": "1"}
    entry = kept.next()
    assert (entry.operation, entry.asked_model, entry.route, entry.model) == ("chat", "auto", "bug_fixing", "m/a")
    assert entry.decision_ms is not None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": "auto", "input": "fix the bug in my loop"}),
        ("/v1/responses", {"model": "auto", "input": [{"role": "user", "content": "fix the bug in my loop"}], "stream": True}),
        ("/v1/messages", {**BUG, "max_tokens": 9}),
        ("/v1/messages", {**BUG, "max_tokens": 9, "stream": True}),
    ],
)
def test_other_apis_are_routed(http: httpx.Client, upstream: Upstream, path: str, body: dict[str, Any]) -> None:
    reply = http.post(path, json=body)
    assert upstream.next_arrival().path == path
    assert (reply.status_code, reply.headers["x-archroute-route"]) == (200, "bug_fixing")


@pytest.mark.parametrize(("query", "passed"), [("?beta=true", "?beta=true"), ("?key=of-the-client", "")])
def test_a_query_stays_but_for_anthropics_own(http: httpx.Client, upstream: Upstream, query: str, passed: str) -> None:
    http.post(f"/v1/messages{query}", json={**BUG, "model": "m/c"})
    assert upstream.next_arrival().path == f"/v1/messages{passed}"


@pytest.mark.parametrize(("model", "target"), [("m/c", "c"), ("fast", "b")])
def test_models_and_aliases_go_there_directly(http: httpx.Client, upstream: Upstream, model: str, target: str) -> None:
    reply = http.post("/v1/chat/completions", json={**BUG, "model": model})
    assert upstream.next_arrival().json()["model"] == target
    assert "x-archroute-route" not in reply.headers


def test_a_router_prompt_for_the_routers_own_model_is_answered_here(http: httpx.Client, upstream: Upstream) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}]}
    assert http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == '{"route": "bug_fixing"}'
    assert http.post("/v1/chat/completions", json={**BUG, "model": "tiny"}).json()["error"]["code"] == "not_a_router_prompt"
    assert upstream.arrivals == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/chat/completions", {**BUG, "model": "gpt-unheard-of"}, "model_not_found"),
        ("/v1/responses", {"model": "m/", "input": "x"}, "model_not_found"),
        ("/v1/messages", {**BUG, "model": "AUTO"}, "not_found_error"),
        ("/v1/chat/completions", {"messages": []}, "invalid_request"),
        ("/v1/messages", {**BUG, "model": 7}, "invalid_request_error"),
        ("/v1/chat/completions", [], "invalid_json"),
    ],
)
def test_what_cannot_be_forwarded(http: httpx.Client, upstream: Upstream, path: str, body: Any, code: str) -> None:
    reply = http.post(path, json=body)
    error = reply.json()["error"]
    assert reply.status_code == (404 if "not_found" in code else 400)
    assert (error["type"] if path == "/v1/messages" else error["code"]) == code
    assert upstream.arrivals == []


def test_models_are_listed(http: httpx.Client) -> None:
    found = http.get("/v1/models").json()
    names = [each["id"] for each in found["data"]]
    assert names == ["auto", "fast", "m/a", "m/b", "m/c", "m/default", "tiny"]
    assert http.get("/v1/models/m/a").json()["id"] == "m/a"
    assert http.get("/v1/models/m/z").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, 200),
        ({"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-site"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded", "Referer": "http://elsewhere/"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json", "Origin": "http://elsewhere"}, 403),
    ],
)
def test_what_curl_sends_is_taken_and_what_pages_send_is_not(http: httpx.Client, headers: dict[str, str], status: int) -> None:
    assert http.post("/v1/chat/completions", content=json.dumps(BUG), headers=headers).status_code == status


@pytest.mark.parametrize(
    "message",
    [
        {"role": "wizard", "content": "a role that is not known yet"},
        {"role": "user", "content": {"an": "object"}},
    ],
)
def test_what_the_router_cannot_read_goes_to_the_default_model(
    http: httpx.Client, upstream: Upstream, kept: Kept, message: dict[str, Any]
) -> None:
    reply = http.post("/v1/chat/completions", json={**BUG, "messages": [message]})
    assert upstream.next_arrival().json()["model"] == "default"
    assert (reply.status_code, reply.headers["x-archroute-reason"]) == (200, "not_understood")
    assert kept.next().reason == "not_understood"


def test_a_larger_body_passes(http: httpx.Client, upstream: Upstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (5 << 20)}}
    content = [{"type": "text", "text": "fix the bug in my loop"}, image]
    body = {**BUG, "messages": [{"role": "user", "content": content}]}
    assert http.post("/v1/chat/completions", json=body).headers["x-archroute-route"] == "bug_fixing"
    assert upstream.next_arrival().n_bytes > 5 << 20


@pytest.mark.parametrize("body", [BUG, {**BUG, "stream": True}])
def test_a_client_that_leaves_while_it_waits_ends_the_request(
    server: ServerInThread, upstream: Upstream, body: dict[str, Any]
) -> None:
    upstream.forget()
    upstream.will(never)

    async def leave() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        raw = json.dumps(body).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        arrival = await asyncio.to_thread(upstream.next_arrival)
        writer.transport.abort()
        await asyncio.to_thread(arrival.wait_until_left)
        del reader

    asyncio.run(leave())


def test_a_client_that_leaves_within_a_stream_ends_it(http: httpx.Client, upstream: Upstream) -> None:
    upstream.will(streamed(chat_events(), gate_after=3))
    with http.stream("POST", "/v1/chat/completions", json={**BUG, "stream": True}) as reply:
        next(reply.iter_raw())
    http.close()
    upstream.next_arrival().wait_until_left()


def test_an_answer_that_breaks_is_seen_to_be_cut(http: httpx.Client, upstream: Upstream) -> None:
    upstream.will(short(b'{"x": 1'))
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/chat/completions", json=BUG)


def test_a_session_keeps_its_model(http: httpx.Client, kept: Kept) -> None:
    for headers in ({"X-Model-Affinity": "mine"}, {}, {"X-Plano-Cache": "off"}):
        http.post("/v1/chat/completions", json=BUG, headers=headers)
    http.post("/v1/chat/completions", json={**BUG, "prompt_cache_key": "mine"})
    named, implicit, none, of_body = (kept.next().session for _ in range(4))
    assert named == of_body
    assert implicit not in (None, named)
    assert none is None


def test_forwarded_requests_are_counted(http: httpx.Client, server: ServerInThread) -> None:
    http.post("/v1/chat/completions", json={**BUG, "model": "m/c"})
    text = http.get("/metrics").text
    assert 'archroute_forwarded_requests_total{model="m/c",status="200"}' in text
    assert 'archroute_forward_tries_total{model="m/c",outcome="answered"}' in text
    assert 'archroute_forward_first_byte_seconds_count{model="m/c"}' in text


class Broken(StuckService):
    """In a service's place: decides nothing."""

    error: Exception = EngineError("broken")

    def submit(self, _messages: Any, **asked: Any) -> Future[Any]:
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"), [(QueueFullError("full", retry_after=1), "queue_full"), (EngineError("broken"), "engine_failed")]
)
def test_a_decision_that_fails_costs_no_request(
    service: RoutingService, upstream: Upstream, error: Exception, reason: str
) -> None:
    broken = Broken(service)
    broken.error = error
    broken.router = service.router.with_config(over(upstream.url))
    reply = Client(ServerApp(broken, ServerSettings(forward=True))).post("/v1/chat/completions", BUG)  # type: ignore[arg-type]
    assert (reply.status_code, reply.headers["x-archroute-model"]) == (200, "m/default")
    assert (reply.headers["x-archroute-route"], reply.headers["x-archroute-reason"]) == ("other", reason)


def test_a_decision_that_takes_too_long_costs_no_request(stuck: StuckService, upstream: Upstream) -> None:
    stuck.router = stuck.router.with_config(over(upstream.url))
    app = ServerApp(stuck, ServerSettings(forward=True, timeout=0.05))  # type: ignore[arg-type]
    reply = Client(app).post("/v1/chat/completions", BUG)
    assert (reply.headers["x-archroute-model"], reply.headers["x-archroute-reason"]) == ("m/default", "timeout")


def test_requests_to_an_application_in_this_process_leave_no_connection_open(service: RoutingService) -> None:
    """Else those of the tests around this one would be found much later, and break a test that has nothing to do with it."""
    with Upstream() as own:
        broken = Broken(service)
        broken.router = service.router.with_config(over(own.url))
        client = Client(ServerApp(broken, ServerSettings(forward=True)))  # type: ignore[arg-type]
        for _ in range(2):
            assert client.post("/v1/chat/completions", BUG).status_code == 200
            until(lambda: own.n_connections == 0)


@pytest.fixture
def guarded(stuck: StuckService, upstream: Upstream) -> Client:
    """A server with a key of its own, and one of a client that may ask once a minute."""
    rule = KeyRule("alice", "alices-key", requests_per_minute=1)
    stuck.router = stuck.router.with_config(over(upstream.url, keys=(rule,)))
    return Client(ServerApp(stuck, ServerSettings(forward=True, api_key="the-servers-key")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer the-servers-key"}, 200),
        ({"Authorization": "Bearer alices-key"}, 200),
        ({"Authorization": "Basic the-servers-key"}, 401),
        ({"X-Api-Key": "alices-key"}, 200),
        ({"X-Archroute-Key": "the-servers-key", "Authorization": "Bearer of-the-provider"}, 200),
        ({"X-Archroute-Key": "of-the-provider", "Authorization": "Bearer of-the-provider"}, 401),
        ({"X-Archroute-Key": "\xff"}, 401),
    ],
)
def test_who_may(guarded: Client, headers: dict[str, str], status: int) -> None:
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    assert guarded("GET", "/v1/models", headers=sent).status_code == status


def test_a_missing_key_is_told_in_each_apis_shape(guarded: Client) -> None:
    assert guarded.post("/v1/chat/completions", BUG).json()["error"]["code"] == "invalid_api_key"
    assert guarded.post("/v1/messages", BUG).json() == {
        "type": "error",
        "error": {"type": "authentication_error", "message": guarded.app.guard.keys.hint},
    }


def test_a_key_has_its_limit(guarded: Client, upstream: Upstream) -> None:
    headers = {"Authorization": "Bearer alices-key"}
    body = {**BUG, "model": "m/a"}
    assert guarded("POST", "/v1/chat/completions", json=body, headers=headers).status_code == 200
    refused = guarded("POST", "/v1/chat/completions", json=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    own = guarded("POST", "/v1/messages", json={**body, "model": "m/z"}, headers={"Authorization": "Bearer the-servers-key"})
    assert own.status_code == 404


def test_nothing_is_forwarded_unless_it_is_asked_for(service: RoutingService) -> None:
    client = Client(ServerApp(service, ServerSettings()))
    assert client.post("/v1/messages", BUG).status_code == 404
    assert client.post("/v1/chat/completions", BUG).json()["error"]["code"] == "not_a_router_prompt"
    assert [each["id"] for each in client("GET", "/v1/models").json()["data"]] == ["tiny"]


def test_a_new_configuration_reaches_the_gateway(server: ServerInThread, http: httpx.Client, upstream: Upstream) -> None:
    app = server.app
    rule = KeyRule("bob", "bobs-key")
    app.forward_by(over(upstream.url, keys=(rule,)))
    try:
        assert http.get("/v1/models").status_code == 401
        assert http.get("/v1/models", headers={"Authorization": "Bearer bobs-key"}).status_code == 200
    finally:
        app.forward_by(over(upstream.url))


def test_an_alias_may_be_called_like_the_routers_model(server: ServerInThread, http: httpx.Client, upstream: Upstream) -> None:
    """Most people's router is ``mini``, and so is many an alias."""
    config = over(upstream.url)
    server.app.forward_by(replace(config, aliases={"tiny": (WeightedModel("m/b"),)}))
    try:
        assert http.post("/v1/chat/completions", json={**BUG, "model": "tiny"}).headers["x-archroute-model"] == "m/b"
    finally:
        server.app.forward_by(config)


def test_a_client_that_reads_nothing_is_dropped(
    server: ServerInThread, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "STALLED_S", 0.1)
    upstream.forget()
    upstream.will(large(64 << 20))
    raw = json.dumps(BUG).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        upstream.next_arrival().wait_until_left()


def test_the_end_of_the_server_is_told_within_a_stream(upstream: Upstream) -> None:
    upstream.forget()
    upstream.will(streamed(chat_events(), gate_after=3))
    router = Router(config=over(upstream.url), model="tiny", threads=1, prefix_cache=False)
    with (
        ServerInThread(ServerApp(RoutingService(router), ServerSettings(forward=True))) as running,
        httpx.stream("POST", f"{running.url}/v1/chat/completions", json={**BUG, "stream": True}, timeout=PATIENCE_S) as reply,
    ):
        chunks = reply.iter_raw()
        first = next(chunks)
        running.stop()
        whole = first + b"".join(chunks)
    assert json.loads(whole.rpartition(b"data: ")[2])["error"]["code"] == "shutting_down"
    assert b"[DONE]" not in whole


def test_a_large_body_is_looked_through_beside_the_event_loop(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a body of megabytes let all other requests wait until its model and its texts have been found."""
    names = []

    class Watched:
        """A pattern that notes who searches with it."""

        def __init__(self, pattern: re.Pattern[bytes]) -> None:
            self.match = pattern.match
            self._pattern = pattern

        def finditer(self, raw: bytes) -> Iterator[re.Match[bytes]]:
            names.append(threading.current_thread().name)
            return self._pattern.finditer(raw)

    def watched(texts: Iterable[str]) -> int:
        names.append(threading.current_thread().name)
        return estimate_tokens(texts)

    monkeypatch.setattr(_model_span, "_STRING_OR_BRACKET", Watched(_model_span._STRING_OR_BRACKET))
    monkeypatch.setattr(_request_facts, "estimate_tokens", watched)
    upstream.forget()
    config = over(upstream.url, models={"m/c": ModelFacts(context_window=1_000_000)})
    router = Router(config=config, model="tiny", threads=1, prefix_cache=False)
    body = {"messages": [{"role": "user", "content": "x" * 100_000}], "metadata": {"model": "\u00e9"}, "model": "m/c"}
    with ServerInThread(ServerApp(RoutingService(router), ServerSettings(forward=True))) as running:
        reply = httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=PATIENCE_S)
    assert reply.status_code == 200
    assert upstream.next_arrival().json() == {**body, "model": "c"}
    assert [name.rstrip("0123456789") for name in names] == ["asyncio_"] * 2


@pytest.mark.parametrize("keep_content", [False, True])
def test_a_body_has_its_place_for_as_long_as_it_is_held(upstream: Upstream, keep_content: bool) -> None:
    upstream.forget()
    upstream.will(streamed(chat_events(), gate_after=3))
    router = Router(config=over(upstream.url), model="tiny", threads=1, prefix_cache=False)
    app = ServerApp(RoutingService(router), ServerSettings(forward=True, keep_content=keep_content))
    with (
        ServerInThread(app) as running,
        httpx.stream("POST", f"{running.url}/v1/chat/completions", json={**BUG, "stream": True}, timeout=PATIENCE_S) as reply,
    ):
        assert len(app.guard.bodies) == keep_content
        upstream.open_gate()
        assert reply.read().endswith(b"data: [DONE]\n\n")
