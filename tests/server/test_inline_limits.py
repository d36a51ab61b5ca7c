"""Routes that come with a request are kept beyond it, so their texts have bounds; and a body may not be of endless parts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from archroute_edge.errors import RouteTableError
from archroute_edge.routes import Route, RouteTable
from archroute_edge.routing import RoutingService
from archroute_edge.server import StdioSettings, check_inline_table
from archroute_edge.server._settings import MAX_DESCRIPTION_BYTES, MAX_MODELS, MAX_NAME_BYTES, MAX_TABLE_BYTES
from archroute_edge.server.http import _bodies as json_body
from archroute_edge.server.stdio._session import Session
from tests.server.conftest import Client, StuckService

App = Callable[..., Client]
CHAT = {"messages": [{"role": "user", "content": "fix the bug"}]}

TOO_LARGE = {
    "the name of routes[0] has 1,025 bytes": [{"name": "n" * 1025}],
    "the description of routes[1] has 262,146 bytes": [{"name": "a"}, {"name": "b", "description": "\u00e9" * 131_073}],
    "a model's name of routes[0] has 4,000,000 bytes": [{"name": "a", "models": ["m" * 4_000_000]}],
    "routes[0] names 65 models": [{"name": "a", "models": ["m"] * 65}],
    "the routes have 1,": [{"name": f"r{number}", "description": "d" * 60_000} for number in range(20)],
}


@pytest.mark.parametrize("message", TOO_LARGE)
def test_texts_of_a_requests_routes_are_bounded(app_over: App, stuck: StuckService, message: str) -> None:
    """Would break if forty requests filled a gigabyte with what is kept of their routes."""
    client, routes = app_over(stuck), TOO_LARGE[message]
    for path, body in (
        ("/v1/route", {"messages": "x", "routes": routes}),
        ("/v1/route/batch", {"conversations": ["x"], "routes": routes}),
        ("/v1/warm", {"messages": "x", "routes": routes}),
        ("/routing/v1/chat/completions", {**CHAT, "routing_preferences": routes}),
    ):
        answer = client.post(path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert message in answer.json()["error"]["message"]
    assert stuck.asked == []


@pytest.mark.parametrize("message", TOO_LARGE)
def test_over_stdio_as_well(stuck: StuckService, message: str) -> None:
    sent: list[bytes] = []
    session = Session(cast(RoutingService, stuck), StdioSettings(), sent.append)
    params = {"messages": "x", "routes": TOO_LARGE[message]}
    session.handle(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "route", "params": params}).encode())
    error = json.loads(sent[0])["error"]
    assert (error["code"], error["data"]["type"]) == (-32602, "RouteTableError")
    assert message in error["message"]


def test_a_name_of_a_hundred_thousand_accents_holds_up_no_one(client: Client) -> None:
    """Python's own normalization sorts them in quadratic time, in which no other thread runs."""
    began = time.process_time()
    routes = [{"name": "a" + "\u0301\u0323" * 100_000}]
    assert client.post("/v1/route", {"messages": "x", "routes": routes}).status_code == 400
    assert time.process_time() - began < 10


def test_what_is_as_large_as_it_may_be_is_taken() -> None:
    models = tuple("m" * MAX_NAME_BYTES for _ in range(MAX_MODELS))
    largest = Route("n" * MAX_NAME_BYTES, "d" * MAX_DESCRIPTION_BYTES, models)
    assert check_inline_table(RouteTable([largest]))
    size = MAX_NAME_BYTES + MAX_DESCRIPTION_BYTES + MAX_MODELS * MAX_NAME_BYTES
    n_fit = MAX_TABLE_BYTES // size
    assert check_inline_table(RouteTable([Route(f"{number:01024}", largest.description, models) for number in range(n_fit)]))
    with pytest.raises(RouteTableError):
        check_inline_table(RouteTable([Route(f"{number:01024}", largest.description, models) for number in range(n_fit + 1)]))


def test_a_body_of_a_hundred_thousand_messages_is_refused(client: Client) -> None:
    """Reading it would hold everybody up for a second."""
    for body in (
        {"messages": [{"role": "user", "content": "x"}] * 20_001},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 20_001}]},
        {"conversations": [["x"]] * 20_001},
    ):
        answer = client.post("/v1/route" if "messages" in body else "/v1/route/batch", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert "more than 20,000 lists and objects" in answer.json()["error"]["message"]
    # Brackets within a text are text.
    assert client.post("/v1/route", {"messages": "fix this: " + "[{" * 50_000}).status_code == 200


def test_a_large_body_is_parsed_beside_the_event_loop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a probe waited until four megabytes were parsed."""
    threads: list[threading.Thread] = []
    read_json = json_body.read_json

    def noted(raw: bytes) -> Any:
        threads.append(threading.current_thread())
        return read_json(raw)

    monkeypatch.setattr(json_body, "read_json", noted)
    for message in ("fix the bug", "fix the bug " * 10_000):
        assert client.post("/v1/route", {"messages": message}).status_code == 200
    assert [each is threading.main_thread() for each in threads] == [True, False]
