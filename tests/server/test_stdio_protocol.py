"""``archroute serve --stdio``, the protocol: each line is answered as JSON-RPC 2.0 says, and the next one all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Router, RoutingConfig
from tests.conftest import CARD_MESSAGE
from tests.server.stdio_host import StdioHost, request, routes

OPTIONS = ("--threads", "1", "--no-prefix-cache")


@pytest.fixture(scope="module")
def host(bundled_model: Path) -> Iterator[StdioHost]:
    with StdioHost(["--model", str(bundled_model), *OPTIONS]) as host:
        yield host


def line(**fields: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode()


def test_a_decision_is_the_routers(host: StdioHost, bundled_model: Path, card_config: RoutingConfig) -> None:
    messages = [{"role": "user", "content": CARD_MESSAGE}]
    found = host.ask("route", messages=messages, scores=True, key="a", caller="window 1", routes=None, deadline=None)
    with Router(config=card_config, model=bundled_model, threads=1, prefix_cache=False) as router:
        expected = router.route(messages, scores=True).to_dict()
    assert set(found) == set(expected)
    assert found["route"] == expected["route"] == "bug_fixing"
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-3)


def test_many_conversations_and_routes_that_come_along(host: StdioHost) -> None:
    routes = [{"name": "travel", "description": "planning trips", "models": ["a/b"]}, {"name": "law", "description": "law"}]
    found = host.ask("route_many", conversations=["plan a trip to Rome", "hi"], routes=routes, scores=True, keys=["k", None])
    assert len(found) == 2
    assert all(set(each["scores"]) == {"travel", "law", "other"} for each in found)


def test_what_was_warmed_is_reused(host: StdioHost) -> None:
    text = "please explain to me in detail what a monad is and"
    warmed = host.ask("warm", messages=text)
    assert warmed["done"]
    assert warmed["tokens"] >= warmed["evaluated"] > 0
    decision = host.ask("route", messages=text + " why")
    assert decision["tokens"]["reused"] > warmed["tokens"] - 10


def test_what_a_pause_has_decided_is_answered(host: StdioHost) -> None:
    text = "please explain to me in detail what a monad is and why"
    assert host.ask("warm", messages=text, whole=True, scores=True)["done"]
    tokens = host.ask("route", messages=text, scores=True)["tokens"]
    assert (tokens["evaluated"], tokens["reused"]) == (0, tokens["prompt"])


def test_what_it_is(host: StdioHost, bundled_model: Path) -> None:
    info = host.ask("info")
    assert info["model_files"] == [str(bundled_model)]
    assert [route["name"] for route in info["routes"]][:2] == ["code_generation", "bug_fixing"]
    assert info["limits"] == {"line_bytes": 4 << 20, "batch": 256, "deadline": None}
    assert info["service"]["waiting"] == 0
    assert "tiny" in [model["name"] for model in host.ask("models")]


def test_ids_come_back_as_they_were(host: StdioHost) -> None:
    """A host in a typed language finds its request by an id that must not change its type."""
    ids: list[Any] = [7, "7", -1, 0, 2**60, 1.5, "", "\u00e9\ud800", None, "x" * 1000]
    host.send(*(request(each, "info") for each in ids))
    assert [host.receive()["id"] for _ in ids] == ids


@pytest.mark.parametrize(
    ("sent", "request_id", "code", "kind", "said"),
    [
        (b"nonsense", None, -32700, "RequestError", "not JSON"),
        (b'{"jsonrpc": "2.0", "id": 1', None, -32700, "RequestError", "not JSON"),
        (b'{"id": "\xff"}', None, -32700, "RequestError", "not UTF-8"),
        (b"[" * 100_000, None, -32700, "RequestError", "cannot be used: nested too deep"),
        (b'{"a":' * 50_000, None, -32700, "RequestError", "cannot be used: nested too deep"),
        (b'{"id": ' + b"9" * 5000 + b"}", None, -32700, "RequestError", "cannot be used: a number too long"),
        (b"x" * ((4 << 20) + 1), None, -32600, "RequestError", "4,194,304 bytes"),
        (b"7", None, -32600, "RequestError", "JSON object"),
        (b"[]", None, -32600, "RequestError", "a batch has 1 to 256 requests, and not 0"),
        (b"[" + b"1," * 256 + b"1]", None, -32600, "RequestError", "a batch has 1 to 256 requests, and not 257"),
        (b'{"id": 1, "method": "info"}', 1, -32600, "RequestError", '"jsonrpc": "2.0"'),
        (line(id=[1], method="info"), None, -32600, "RequestError", "id"),
        (line(id=True, method="info"), None, -32600, "RequestError", "id"),
        (b'{"jsonrpc": "2.0", "id": 1e999, "method": "info"}', None, -32700, "RequestError", "1e999 is too large a number"),
        (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "info"}', None, -32700, "RequestError", "the key 'id' appears twice"),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "info"}', None, -32700, "RequestError", "NaN is no value"),
        (line(id=1, method=7), 1, -32600, "RequestError", "method"),
        (line(id=1), 1, -32600, "RequestError", "method"),
        (line(id=1, method="rout"), 1, -32601, "RequestError", "no method 'rout'; there are route, route_many"),
        (line(id=1, method="info", params=["x"]), 1, -32602, "RequestError", "parameters have names"),
        (line(id=1, method="info", params={"x": 1}), 1, -32602, "RequestError", "unknown key 'x' in the parameters of info"),
        (line(id=1, method="route"), 1, -32602, "RequestError", "the parameters of route without 'messages'"),
        (line(id=1, method="warm", params={"messages": [7]}), 1, -32602, "ConversationError", "message 0"),
        (line(id=1, method="warm", params={"whole": True}), 1, -32602, "SettingsError", "there are none"),
        (line(id=1, method="route", params={"messages": "x", "routes": []}), 1, -32602, "RouteTableError", "no routes"),
        (line(id=1, method="route", params={"messages": "x", "routes": [{"name": "a", "description": "word " * 30_000}]}), 1,
         -32602, "ContextOverflowError", "fit"),
        (line(id=1, method="route_many", params={"conversations": ["x"], "keys": []}), 1, -32602, "SettingsError", "0 keys"),
        (line(id=1, method="cancel"), 1, -32602, "RequestError", "'id'"),
        (line(id=1, method="cancel", params={"id": [1]}), 1, -32602, "RequestError", "id"),
        # Notifications have none, and would all be called off.
        (line(id=1, method="cancel", params={"id": None}), 1, -32602, "RequestError", "id"),
        (line(id=1, method="route", params={"messages": [{"role": "y" * 10_000}]}), 1, -32602, "ConversationError", "yyy; "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_answered_and_the_next_line_too(
    host: StdioHost, sent: bytes, request_id: object, code: int, kind: str, said: str
) -> None:
    host.send(sent + b"\n", request("next", "info"))
    # What is found out in deciding comes after the next line's reply.
    following, reply = sorted((host.receive(), host.receive()), key=lambda each: each["id"] != "next")
    assert set(reply) == {"jsonrpc", "id", "error"}
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", request_id)
    assert (reply["error"]["code"], reply["error"]["data"]) == (code, {"type": kind})
    assert said in reply["error"]["message"]
    assert len(reply["error"]["message"]) <= 500
    assert following["id"] == "next"
    assert "result" in following


def test_a_batch_is_answered_in_one_line(host: StdioHost) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "route", "params": {"messages": "fix my code"}},
        {"jsonrpc": "2.0", "method": "warm"},
        {"jsonrpc": "2.0", "id": 2, "method": "info"},
        {"jsonrpc": "2.0", "method": "nothing"},
        7,
        {"jsonrpc": "2.0", "id": 3, "method": "nothing"},
    ]
    host.send(json.dumps(batch).encode() + b"\n")
    replies = host.receive()
    assert {(reply["id"], "result" in reply) for reply in replies} == {(1, True), (2, True), (None, False), (3, False)}
    assert len(replies) == 4


def test_notifications_and_blank_lines_are_not_answered(host: StdioHost) -> None:
    """A reply that no request waits for makes strict clients close the connection."""
    notifications = [line(method="warm"), line(method="nothing"), line(method="route", params={}), line(method="cancel")]
    host.send(*(each + b"\n" for each in [*notifications, b"", b"  \r", b"[" + b",".join(notifications) + b"]"]))
    host.send(b"\xef\xbb\xbf" + request("after", "info").rstrip() + b"\r\n")
    assert host.receive()["id"] == "after"


def test_a_cancelled_request_is_answered_as_such_and_the_others_are_decided(host: StdioHost) -> None:
    cancels = request("c", "cancel", id=9), request("again", "cancel", id=9), request("none", "cancel", id="9")
    host.send(*routes(range(10)), *cancels)
    found = {reply["id"]: reply for reply in (host.receive() for _ in range(13))}
    assert found.pop(9)["error"]["code"] == -32800
    assert [found.pop(each)["result"]["cancelled"] for each in ("c", "again", "none")] == [True, False, False]
    assert all("result" in found[number] for number in range(9))


def test_a_warm_up_that_is_cancelled_is_not_done(host: StdioHost) -> None:
    """It is no error: nobody waits for a warm-up but to know whether it was of use."""
    host.send(*routes(range(3)), request("w", "warm", messages="x" * 2000), request("c", "cancel", id="w"))
    found = {reply["id"]: reply["result"] for reply in (host.receive() for _ in range(5))}
    assert found["w"] == {"done": False, "tokens": 0, "evaluated": 0, "total_ms": 0.0}
    assert found["c"] == {"cancelled": True}


def test_a_deadline_is_kept(host: StdioHost) -> None:
    host.send(*routes(range(6)), request("now", "route", messages="fix my code", deadline=0.001))
    found = {reply["id"]: reply["result"] for reply in (host.receive() for _ in range(7))}
    assert (found["now"]["reason"], found["now"]["route"], found["now"]["matched"]) == ("deadline", "other", False)
    assert found[5]["reason"] is None
