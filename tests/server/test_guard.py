"""Who may ask, and what they may send: every web page can post to loopback, and anybody can send anything."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from archroute_edge.errors import SettingsError
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from tests.server.conftest import Client

KEY = "s3cret-key"
ROUTE = {"messages": "fix the bug"}
App = Callable[..., Client]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8642", "[::1]:80", "LOCALHOST"])
def test_loopback_names_are_answered(client: Client, host: str) -> None:
    assert client("GET", "/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::1", "10.0.0.1", "[::2]", "::1"),
        *(
            "evil.example@localhost",
            "localhost/evil.example",
            "localhost#evil.example",
            "localhost:evil.example",
            "[localhost]",
        ),
    ],
)
def test_other_names_are_not(client: Client, host: str) -> None:
    """A page whose name is made to point to 127.0.0.1 is of the same origin to its browser."""
    answer = client("GET", "/v1/models", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")


def test_a_name_may_be_allowed(app_over: App, service: RoutingService) -> None:
    """As a gateway in a container has for its host."""
    client = app_over(service, allowed_hosts=("host.docker.internal",))
    assert client("GET", "/v1/models", headers={"Host": "host.docker.internal:8642"}).status_code == 200
    assert client("GET", "/v1/models", headers={"Host": "evil.example"}).status_code == 403
    for name in ("", "http://host", "host:8642"):
        with pytest.raises(SettingsError, match="without scheme and port"):
            ServerSettings(allowed_hosts=(name,))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "file://", "http://[", ""])
def test_pages_from_elsewhere_are_refused(client: Client, origin: str) -> None:
    """A browser sends a page's request before it looks whether the page may read the answer."""
    answer = client.post("/v1/route", ROUTE, headers={"Origin": origin})
    if origin:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
        assert not any(name.startswith("access-control") for name in answer.headers)
    else:
        assert answer.status_code == 200


def test_the_servers_own_pages_may_ask(client: Client) -> None:
    headers = {"Origin": "http://localhost:8642", "Host": "localhost:8642"}
    assert client.post("/v1/route", ROUTE, headers=headers).status_code == 200


def test_there_is_no_answer_to_a_preflight(client: Client) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert client("OPTIONS", "/v1/route", headers=headers).status_code == 403


@pytest.mark.parametrize("given", [None, "Bearer wrong", KEY, f"Basic {KEY}", "Bearer", f"Bearer {KEY}x", "Bearer ü"])
def test_without_the_key_nothing_is_answered_but_probes(app_over: App, service: RoutingService, given: str | None) -> None:
    client = app_over(service, api_key=KEY)
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for method, path in (("POST", "/v1/route"), ("GET", "/metrics"), ("GET", "/openapi.json")):
        answer = client(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"
    assert client("GET", "/healthz", headers=headers).status_code == 200


def test_with_the_key_all_is(app_over: App, service: RoutingService) -> None:
    client = app_over(service, api_key=KEY)
    assert client.post("/v1/route", ROUTE, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert client("GET", "/metrics", headers={"Authorization": f"bearer {KEY}"}).status_code == 200


def test_off_loopback_a_key_is_needed() -> None:
    """Else the whole network could use the router, and read the routes from its answers."""
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(SettingsError, match="not loopback"):
            ServerSettings(host=host)
        assert KEY not in repr(ServerSettings(host=host, api_key=KEY))
    for key in ("", "two words", "schlüssel", "line\n"):
        with pytest.raises(SettingsError, match="the API key must be"):
            ServerSettings(api_key=key)
    for host in ("127.0.0.2", "::1", "localhost", "LocalHost"):
        assert ServerSettings(host=host).api_key is None


async def chunks(total: int, sent: list[int]) -> AsyncIterator[bytes]:
    for _ in range(total):
        sent.append(1000)
        yield b"x" * 1000


def test_a_body_beyond_the_limit_is_not_kept(app_over: App, service: RoutingService) -> None:
    """Neither one that says how long it is nor one that comes in pieces without end may fill the memory."""
    client = app_over(service, max_body=10_000)
    sent: list[int] = []
    answers = [
        client("POST", "/v1/route", content=b"x" * 10_001),
        client("POST", "/v1/route", content=chunks(50, sent)),
        client("POST", "/nothing/here", content=b"x" * 10_001),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    # Taken to the end and thrown away, since a client reads no answer while it sends.
    assert len(sent) == 50
    padded = json.dumps({"messages": "a"}).ljust(10_000).encode()
    assert client("POST", "/v1/route", content=padded, headers={"Content-Type": "application/json"}).status_code == 200


def drive(client: Client, receive: Callable[[], Any], headers: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    """What the application sends for messages of our own making."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/route",
        "raw_path": b"/v1/route",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "headers": headers,
    }
    asyncio.run(client.app.asgi(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_body_that_never_comes_is_given_up(app_over: App, service: RoutingService) -> None:
    """A client that sends nothing would hold its place for ever."""

    async def never() -> Any:
        await asyncio.sleep(60)

    started = time.monotonic()
    client = app_over(service, timeout=0.05)
    sent = drive(client, never, [(b"host", b"localhost"), (b"content-length", b"100")])
    assert sent[0]["status"] == 408
    assert time.monotonic() - started < 30


def test_a_client_that_leaves_while_it_sends_is_forgotten(app_over: App, service: RoutingService) -> None:
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return messages.pop()

    client = app_over(service)
    assert drive(client, receive, [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")]) == []
    assert client.post("/v1/route", ROUTE).status_code == 200


@pytest.mark.parametrize("headers", [[], [(b"host", b"localhost"), (b"host", b"evil.example")]])
def test_exactly_one_host_is_named(app_over: App, service: RoutingService, headers: list[tuple[bytes, bytes]]) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    assert drive(app_over(service), receive, headers)[0]["status"] == 400


BAD_BODIES = {
    "not UTF-8 (byte 15)": b'{"messages": "\xe9\xff"}'.replace(b"\xe9", b"a"),
    "body:1: not JSON: Expecting value (column 14)": b'{"messages": nothing}',
    "nested deeper than 64 levels": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN is no value of it": b'{"messages": "a", "deadline": NaN}',
    "1e999 is too large a number": b'{"messages": "a", "deadline": 1e999}',
    "body:2: JSON that cannot be used: the key 'messages' appears twice in one object (first on line 1)": (
        b'{"messages": "a",\n"messages": "b"}'
    ),
    "a number too long": b'{"messages": "a", "deadline": ' + b"9" * 5000 + b"}",
    "body: not UTF-8 (byte 2)": b"[" * 2 + b"\xff" + b"]" * 2,
    "the body is empty": b"",
    "Extra data": b'{"messages": "a"} {}',
    "not UTF-8 (byte 0)": "{}".encode("utf-16"),
}


@pytest.mark.parametrize("message", BAD_BODIES)
def test_a_body_that_is_no_json_is_a_400_that_says_why(client: Client, message: str) -> None:
    for path in ("/v1/route", "/v1/chat/completions", "/routing/v1/chat/completions", "/v1/warm"):
        answer = client("POST", path, content=BAD_BODIES[message], headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
        assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_only_json_is_taken(client: Client, kind: str | None) -> None:
    """What a page's form or plain request can send needs no preflight."""
    headers = {} if kind is None else {"Content-Type": kind}
    assert client("POST", "/v1/route", content=b'{"messages": "a"}', headers=headers).status_code == 415
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert client("POST", "/v1/route", content=b'\xef\xbb\xbf{"messages": "a"}', headers=headers).status_code == 200


def test_half_a_surrogate_pair_is_a_character_that_is_missing(client: Client) -> None:
    """JavaScript cuts texts in the middle of an emoji, and writes the half as an escape."""
    headers = {"Content-Type": "application/json"}
    for escape in (rb"\ud83d", rb"\uDE00 \\ud83d", rb"\ud83d\ude00"):
        answer = client("POST", "/v1/route", content=b'{"messages": "fix the bug ' + escape + b'"}', headers=headers)
        assert answer.status_code == 200, answer.text


def test_the_check_of_the_depth_takes_time_in_proportion(client: Client) -> None:
    """Strings that never end were scanned once for each quote in them, for minutes."""
    for tail in (b"", b"\\"):
        started = time.monotonic()
        content = b"[" * 65 + b'"' + b'\\"' * 500_000 + tail
        answer = client("POST", "/v1/route", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert time.monotonic() - started < 20


def test_unknown_paths_and_methods_are_errors_of_the_same_shape(client: Client) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/v1/route", 405), ("DELETE", "/v1/models", 405)):
        answer = client(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_answers_are_kept_by_nobody(client: Client) -> None:
    answer = client.post("/v1/route", ROUTE)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
