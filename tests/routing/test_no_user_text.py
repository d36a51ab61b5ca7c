"""A conversation without user text is no match at every door, and no model is asked about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import AsyncRouter, Router, RoutingService
from archroute_edge.config import parse_config
from archroute_edge.conversation import Messages
from archroute_edge.deciders import EncoderDecider
from archroute_edge.decision import Decision
from archroute_edge.prompts import PROMPT_FORMATS
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
  - {name: bug_fixing, description: fixing errors in code, models: [m/a]}
  - {name: poems, description: writing poems, models: [m/b]}
"""
CONFIG = parse_config(CONFIG_TEXT)
BUG = "my unit test stops with an IndexError"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "picture": [{"role": "user", "content": [IMAGE]}],
    "sound": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [SOUND]}],
    "empty": [],
    "assistant": [{"role": "assistant", "content": "Hello, how can I help?"}],
    "system": [{"role": "system", "content": "be brief"}],
    "blank": [{"role": "user", "content": " \n"}, {"role": "assistant", "content": "yes?"}],
    "no content": [{"role": "user", "content": None}],
}
EACH = pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        yield router


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that must not be asked."""

    def asked(*_args: Any, **_more: Any) -> Any:
        raise AssertionError("a model was asked about nothing")

    monkeypatch.setattr(EncoderDecider, "decide_many", asked)
    monkeypatch.setattr(EncoderDecider, "stand_in", asked)


@pytest.fixture
def service(router: Router) -> Iterator[RoutingService]:
    with RoutingService(router.with_config(CONFIG)) as service:
        yield service


@pytest.fixture
def client(service: RoutingService) -> Client:
    return Client(ServerApp(service, ServerSettings()))


def check(decision: Decision | dict[str, Any]) -> None:
    value = decision if isinstance(decision, dict) else decision.to_dict()
    assert (value["route"], value["matched"], value["models"]) == ("other", False, ["m/default"])
    assert (value["reason"], value["decided_by"], value["tokens"]["evaluated"]) == ("no_user_text", None, 0)


@EACH
@pytest.mark.usefixtures("unasked")
def test_the_router_says_no_match(router: Router, messages: Messages) -> None:
    check(router.route(messages))
    check(router.route(messages, scores=True, deadline=5))
    check(router.route_many([messages])[0])


@pytest.mark.parametrize("text", ["", " \t\n"])
@pytest.mark.usefixtures("unasked")
def test_a_blank_text_is_one(router: Router, text: str) -> None:
    check(router.route(text))


def test_the_others_of_a_batch_are_decided(router: Router) -> None:
    """Each answer stays in its place, with its own key."""
    decisions = router.route_many(["", BUG, CONVERSATIONS["picture"], "write a poem about the sea"], keys=["a", "b", "c", "d"])
    assert [each.route for each in decisions] == ["other", "bug_fixing", "other", "poems"]
    assert [each.reason for each in decisions] == ["no_user_text", None, "no_user_text", None]


@pytest.mark.parametrize("messages", [*CONVERSATIONS.values(), ""])
def test_warming_it_warms_the_routes(router: Router, service: RoutingService, messages: Messages) -> None:
    assert router.warm(messages).tokens == router.warm().tokens
    assert service.warm(messages).result(PATIENCE_S).tokens == router.warm().tokens


@EACH
@pytest.mark.usefixtures("unasked")
def test_services_say_no_match(service: RoutingService, messages: Messages) -> None:
    check(service.submit(messages).result(PATIENCE_S))
    for each in service.submit_many([messages, messages]).result(PATIENCE_S):
        check(each)

    async def ask() -> Decision:
        return await AsyncRouter.over(service).route(messages)

    check(asyncio.run(ask()))


@EACH
@pytest.mark.usefixtures("unasked")
def test_stdio_says_no_match(service: RoutingService, messages: Messages) -> None:
    replies: list[dict[str, Any]] = []
    session = Session(service, StdioSettings(), lambda line: replies.append(json.loads(line)))
    for method, params in (("route", {"messages": messages}), ("route_many", {"conversations": [messages]})):
        session.handle(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    # The worker takes them in turn, so with this answer theirs are there.
    service.submit("").result(PATIENCE_S)
    found = [each["result"] for each in replies]
    check(found[0])
    check(found[1][0])


@EACH
@pytest.mark.usefixtures("unasked")
def test_http_says_no_match(client: Client, messages: Messages) -> None:
    for path, body in (("/v1/route", {"messages": messages}), ("/v1/route/batch", {"conversations": [messages]})):
        answer = client.post(path, body)
        assert answer.status_code == 200, answer.text
        check(answer.json().get("decisions", [answer.json()])[0])
    for path, key in (("chat/completions", "messages"), ("messages", "messages"), ("responses", "input")):
        answer = client.post(f"/routing/v1/{path}", {"model": "asked-for", key: messages}, headers={"X-Model-Affinity": "s"})
        assert answer.status_code == 200, answer.text
        value = answer.json()
        assert (value["route"], value["models"]) == (None, ["m/default"])
        # Nothing was decided, so nothing is kept for the session.
        assert value["pinned"] is False
    assert client.metric('archroute_fallbacks_total{reason="no_user_text"}') == 5


@EACH
@pytest.mark.parametrize("each", PROMPT_FORMATS.values(), ids=PROMPT_FORMATS)
@pytest.mark.usefixtures("unasked")
def test_a_router_prompt_of_it_is_answered_with_no_match(client: Client, each: Any, messages: Messages) -> None:
    """On a 400 the user's whole request fails at the gateway that asks."""
    empty = each.render(CONFIG.table, [])
    prompt = empty.replace(each.write_conversation([]), json.dumps(messages))
    for text in (empty, prompt):
        answer = client.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]})
        assert answer.status_code == 200, answer.text
        content = json.loads(answer.json()["choices"][0]["message"]["content"])
        assert content == {"route": [] if each.name == "orchestrator" else "other"}


@EACH
def test_the_command_line_says_no_match_without_a_model(run: Run, tmp_path: Path, messages: Messages) -> None:
    """Loading one takes seconds; that this one is not there is not even noticed."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(CONFIG_TEXT)
    result = run(
        *("route", "--messages", "-", "--config", str(routes), "--model", str(tmp_path / "none.gguf")),
        stdin=json.dumps(messages),
    )
    assert (result.exit_code, result.stdout) == (0, "other -> m/default\n")
    assert result.stderr == "no user text, so there was nothing to decide\n"
    lines = "\n".join(json.dumps({"messages": each}) for each in (messages, BUG))
    result = run("route", "--batch", "-", "--config", str(routes), "--model", "mini", stdin=lines)
    assert result.exit_code == 0
    first, second = map(json.loads, result.stdout.splitlines())
    check(first)
    assert second["route"] == "bug_fixing"


def test_malformed_messages_stay_errors(run: Run) -> None:
    """Whoever sends them has a mistake to find."""
    result = run("route", "--messages", "-", "--model", "mini", stdin='[{"role": "user", "content": 7}]')
    assert result.exit_code == 2
    assert "content is an int" in result.stderr
