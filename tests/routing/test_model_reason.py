"""The order of a route's models, and its reason, at every door that decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Decision, Route, Router, RoutingService
from archroute_edge.config import ForwardSettings, ModelFacts, RoutingConfig, TrafficRule, parse_config
from archroute_edge.server import ServerSettings, StdioSettings
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.stdio._session import Session
from tests.cli.conftest import Run, run
from tests.gate import PATIENCE_S
from tests.server.conftest import Client

__all__ = ["run"]

CONFIG_TEXT = """
default_model: m/default
routing_preferences:
  - {name: bug_fixing, description: fixing errors in code, models: [m/small, m/blind, m/toolless]}
  - {name: poems, description: writing poems, models: [m/a, m/b], selection_policy: {prefer: cheapest}}
"""
FACTS = {
    "m/small": ModelFacts(context_window=1000),
    "m/blind": ModelFacts(images=False),
    "m/toolless": ModelFacts(tools=False),
}
BUG = "my unit test stops with an IndexError"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def config_with(**forward: Any) -> RoutingConfig:
    return replace(parse_config(CONFIG_TEXT), forward=ForwardSettings(**forward))


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Router(config=config_with(models=FACTS), model="mini", threads=1, prefix_cache=False) as router:
        yield router


@pytest.fixture
def service(router: Router) -> Iterator[RoutingService]:
    with RoutingService(router.with_config(router.config)) as service:
        yield service


def parts(text: str, *others: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": text}, *others]}]


@pytest.mark.parametrize(
    ("messages", "models"),
    [
        (BUG, ["m/small", "m/blind", "m/toolless"]),
        ([{"role": "system", "content": "x" * 4000}, *parts(BUG)], ["m/blind", "m/toolless"]),
        (parts(BUG, IMAGE), ["m/small", "m/toolless"]),
        (parts(BUG, {"type": "input_image", "image_url": "x"}), ["m/small", "m/toolless"]),
        (parts(BUG, {"type": "tool_result", "content": [{"type": "image"}]}), ["m/small", "m/toolless"]),
        ([*parts(BUG), {"role": "tool", "content": [IMAGE]}], ["m/small", "m/toolless"]),
        (parts(BUG, {"type": "tool_result", "content": "image"}), ["m/small", "m/blind", "m/toolless"]),
    ],
    ids=["text", "long", "image", "responses", "anthropic", "tool", "tool without image"],
)
def test_models_that_cannot_take_the_messages_are_left_out(router: Router, messages: Any, models: list[str]) -> None:
    for decision in (router.route(messages), *router.route_many([messages])):
        assert (list(decision.models), decision.model_reason) == (models, "listed")


def test_routes_of_a_message_share_no_traffic_though_they_are_called_alike(router: Router) -> None:
    """Rules of the file's route would send the message's models weights that were meant for others."""
    rules = {"bug_fixing": TrafficRule(weights={"m/small": 0.0})}
    with router.with_config(config_with(routes=rules)) as other:
        assert other.route(BUG).models == ("m/blind", "m/toolless")
        own = [
            Route("bug_fixing", "fixing errors in code", ["m/small", "m/x"]),
            Route("poems", "writing poems", ["m/b", "m/a"]),
        ]
        assert other.route(BUG, routes=own).models == ("m/small", "m/x")
        decision = other.route("write a poem about the sea", routes=own)
        assert (decision.models, decision.model_reason) == (("m/b", "m/a"), "listed")


def check(decision: dict[str, Any]) -> None:
    assert (decision["model"], decision["model_reason"]) == ("m/a", "no_prices")


def test_every_door_says_why(service: RoutingService, run: Run, tmp_path: Path) -> None:
    poem = "write a poem about the sea"
    client = Client(ServerApp(service, ServerSettings()))
    check(client.post("/v1/route", {"messages": poem}).json())
    check(client.post("/v1/route/batch", {"conversations": [poem]}).json()["decisions"][0])
    replies: list[dict[str, Any]] = []
    session = Session(service, StdioSettings(), lambda line: replies.append(json.loads(line)))
    session.handle(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "route", "params": {"messages": poem}}).encode())
    decision: Decision = service.submit(poem).result(PATIENCE_S)
    check(decision.to_dict())
    check(replies[0]["result"])
    routes = tmp_path / "routes.yaml"
    routes.write_text(CONFIG_TEXT)
    result = run("route", poem, "--config", str(routes), "--model", "mini", "--threads", "1", "--no-prefix-cache")
    assert result.stdout == "poems -> m/a\n"
    assert result.stderr.endswith("decided by mini; the model is the first one, since no prices are known\n")


def test_planos_doors_know_of_tools(service: RoutingService) -> None:
    client = Client(ServerApp(service, ServerSettings()))
    for tools, models in (([{"type": "function"}], ["m/small", "m/blind"]), ([], ["m/small", "m/blind", "m/toolless"])):
        answer = client.post("/routing/v1/chat/completions", {"model": "x", "messages": parts(BUG), "tools": tools})
        assert answer.json()["models"] == models
