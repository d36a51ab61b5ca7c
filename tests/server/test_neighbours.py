"""What programs that speak to other routers send: their prompts, their bodies, and sessions without a header."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from archroute_edge import Router, RoutingService
from archroute_edge.config import RoutingConfig
from tests.server.conftest import CONFIG, Client, configure
from tests.server.test_guard import App

BUG = "there is a bug in my code, please fix it"
FRENCH = "translate this into French"
ROUTES = json.dumps([{"name": route.name, "description": route.description} for route in CONFIG.table])
PATHS = ("/routing/v1/chat/completions", "/routing/v1/messages", "/routing/v1/responses")


@pytest.fixture(scope="module")
def service() -> Iterator[RoutingService]:
    """The bundled encoder, since this is not about models."""
    with RoutingService(Router(config=CONFIG, model="mini", threads=1, prefix_cache=False)) as service:
        yield service


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def prompt_of(message: str, words: str = "") -> str:
    conversation = json.dumps([{"role": "user", "content": message}])
    return f"Choose.\n<routes>\n{ROUTES}\n</routes>\n\n<conversation>\n{conversation}\n</conversation>\n{words}"


@pytest.mark.parametrize(
    ("messages", "reply"),
    [
        pytest.param([{"role": "user", "content": prompt_of(BUG)}], '{"route": "bug_fixing"}', id="own-words"),
        pytest.param(
            [
                {"role": "system", "content": 'You are a classifier. Output ONLY {"route":"..."}.'},
                {"role": "user", "content": prompt_of(FRENCH)},
            ],
            '{"route": "translation"}',
            id="system-before",
        ),
        pytest.param(
            [{"role": "user", "content": prompt_of(BUG, 'As a list: {"route": ["a", "b"]}')}],
            '{"route": ["bug_fixing"]}',
            id="list",
        ),
        pytest.param(
            [{"role": "user", "content": prompt_of("", 'As a list: {"route": ["a", "b"]}')}], '{"route": []}', id="empty-list"
        ),
        pytest.param(
            [{"role": "user", "content": prompt_of("", 'or an empty route {"route": ""}')}], '{"route": ""}', id="empty-name"
        ),
        pytest.param(
            [
                {"role": "system", "content": f"<routes>{ROUTES}</routes>"},
                {"role": "user", "content": [text("Mind the tone."), prompt_of(BUG).partition("</routes>")[2]]},
                {"role": "developer", "content": "Answer with a name."},
            ],
            '{"route": "bug_fixing"}',
            id="parts-between",
        ),
    ],
)
def test_a_neighbours_prompt_is_answered(client: Client, messages: list[dict[str, Any]], reply: str) -> None:
    answer = client.post("/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 16, "stream": False})
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == reply


def test_a_conversation_that_quotes_a_prompt_is_a_conversation(client: Client) -> None:
    """With turns of an assistant it is no request to a router model."""
    messages = [{"role": "user", "content": prompt_of(BUG)}, {"role": "assistant", "content": "What is this?"}]
    answer = client.post("/v1/chat/completions", {"messages": messages})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_a_router_prompt")


TOOL_CALL = {"id": "t", "type": "function", "function": {"name": "run", "arguments": "{}"}}
CHAT_BODY = {
    "messages": [
        {"role": "user", "content": BUG},
        {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        {"role": "tool", "tool_call_id": "t", "content": {"exit_code": 1}},
    ]
}
ANTHROPIC_BODY = {
    "max_tokens": 64,
    "system": [text("be brief")],
    "messages": [
        {"role": "user", "content": [text(BUG), {"type": "image", "source": {"type": "base64", "data": "AAAA"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}, {"type": "tool_use", "id": "t", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": FRENCH}]},
    ],
}
RESPONSES_BODY = {
    "instructions": "be brief",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": BUG}, {"type": "input_image", "image_url": "u"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "t", "name": "run", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t", "output": FRENCH},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I see.", "annotations": []}]},
    ],
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *zip(PATHS, (CHAT_BODY, ANTHROPIC_BODY, RESPONSES_BODY), strict=True),
        ("/routing/v1/responses", {"input": BUG}),
        ("/routing/v1/messages", {"system": "be brief", "messages": [{"role": "user", "content": BUG}]}),
    ],
)
def test_each_api_has_its_decision(client: Client, path: str, body: dict[str, Any]) -> None:
    """A client asks with the body that it is about to send, whichever API it speaks."""
    answer = client.post(path, {"model": "asked-for", **body})
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"trace_id": ""} == {
        "models": ["m/a", "m/b"],
        "route": "bug_fixing",
        "trace_id": "",
        "session_id": None,
        "pinned": False,
        "switched": False,
    }


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/routing/v1/responses", {}, "input"),
        ("/routing/v1/responses", {"input": 7}, "input"),
        ("/routing/v1/responses", {"input": [{"type": "reasoning"}, {"role": "robot"}]}, "input.1.role"),
        ("/routing/v1/responses", {"input": [{"content": "x"}]}, "input.0.role"),
        ("/routing/v1/messages", {}, "messages"),
        ("/routing/v1/messages", {"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ("/routing/v1/messages", {"messages": "x", "routing_preferences": [{"name": 7}]}, "routing_preferences.0.name"),
    ],
)
def test_a_body_that_cannot_be_used_says_where(client: Client, path: str, body: dict[str, Any], param: str) -> None:
    answer = client.post(path, body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    # With a pin, too.
    session = {"X-Model-Affinity": "s"}
    client.post(PATHS[0], CHAT_BODY, headers=session)
    assert client.post(path, body, headers=session).status_code == 400


@pytest.mark.parametrize("path", PATHS)
def test_routes_of_a_request_are_read_as_those_of_a_file(client: Client, path: str) -> None:
    """A key that a gateway's later release adds costs no request; a slip is said."""
    routes = [
        {"name": "bugs", "description": "repairing faulty code", "models": ["acme/coder"], "skills": ["pdf"], "x-later": 1}
    ]
    key = "input" if path.endswith("responses") else "messages"
    body = {key: [{"role": "user", "content": BUG}], "routing_preferences": routes}
    value = client.post(path, body).json()
    assert (value["route"], value["models"]) == ("bugs", ["acme/coder"])
    slip = client.post(path, {**body, "routing_preferences": [{"name": "bugs", "descripton": "x"}]})
    assert slip.json()["error"]["message"] == "unknown key 'descripton' in a route; did you mean 'description'?"


def test_our_own_api_takes_the_keys_of_a_file_and_no_others(client: Client) -> None:
    routes = [{"name": "bugs", "description": "faulty code", "skills": ["pdf"], "selection_policy": {"prefer": "cheapest"}}]
    value = client.post("/v1/route", {"messages": BUG, "routes": routes})
    assert value.json()["route"] == "bugs"
    answer = client.post("/v1/route", {"messages": BUG, "routes": [{**routes[0], "x-later": 1}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "routes.0.x-later")


def test_bare_texts_among_parts_and_any_content_of_tools(client: Client) -> None:
    """The command line and Python take both."""
    messages = [{"role": "user", "content": ["there is a bug", text("in my code")]}, *CHAT_BODY["messages"][1:]]
    for body in ({"messages": messages}, {"messages": [*messages, {"role": "tool", "content": [1, None]}]}):
        assert client.post("/v1/route", body).json()["route"] == "bug_fixing"


def test_the_model_can_be_asked_for_by_its_name(client: Client) -> None:
    """`client.models.retrieve` of OpenAI's client does."""
    (listed,) = client("GET", "/v1/models").json()["data"]
    assert client("GET", "/v1/models/mini").json() == listed
    answer = client("GET", "/v1/models/some/other")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def agent(first: str, last: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": first}, {"role": "assistant", "content": "done"}, {"role": "user", "content": last}]
    return {"model": "m", "messages": [{"role": "system", "content": "be brief"}, *turns], **more}


def test_a_conversation_is_a_session_of_its_own_where_that_is_wanted(app_over: App, service: RoutingService) -> None:
    """An agent's later steps look like other kinds of request, and few agents send a header."""
    client = app_over(service, implicit_sessions=True)
    first = client.post(PATHS[0], {"model": "m", "messages": agent(BUG, "")["messages"][:2]}).json()
    assert (first["route"], first["pinned"]) == ("bug_fixing", False)
    assert first["session_id"].startswith("implicit:")
    assert BUG not in first["session_id"]
    second = client.post(PATHS[0], agent(BUG, FRENCH)).json()
    assert (second["route"], second["pinned"], second["session_id"]) == ("bug_fixing", True, first["session_id"])
    tools = [{"type": "function", "function": {"name": "run"}}]
    for other, headers in (
        (agent(BUG + "!", FRENCH), {}),
        (agent(BUG, FRENCH, user="u"), {}),
        (agent(BUG, FRENCH, tools=tools), {}),
        (agent(BUG, FRENCH) | {"model": "n"}, {}),
        (agent(BUG, FRENCH), {"X-Plano-Cache": "off"}),
        (agent(BUG, FRENCH), {"X-Model-Affinity": "s"}),
    ):
        value = client.post(PATHS[0], other, headers=headers).json()
        assert (value["route"], value["pinned"]) == ("translation", False)
        assert value["session_id"] != first["session_id"]


def test_an_implicit_session_is_the_same_in_every_api(app_over: App, service: RoutingService) -> None:
    client = app_over(service, implicit_sessions=True)
    for path, key, tools in (
        (PATHS[1], "messages", [{"name": "run"}]),
        (PATHS[2], "input", [{"type": "function", "name": "run"}]),
    ):
        head = {"model": "m", "system": "s", "instructions": "s", "tools": tools}
        first = client.post(path, {**head, key: [{"role": "user", "content": BUG}]}).json()
        later = client.post(path, {**head, key: [{"role": "user", "content": t} for t in (BUG, FRENCH)]}).json()
        assert (later["pinned"], later["session_id"]) == (True, first["session_id"])


def test_without_the_setting_there_is_no_session(client: Client) -> None:
    for last in (BUG, FRENCH):
        value = client.post(PATHS[0], agent(BUG, last)).json()
        assert (value["session_id"], value["pinned"]) == (None, False)


def test_a_session_that_moves_to_another_model_says_so(client: Client, service: RoutingService, config: RoutingConfig) -> None:
    """Whoever keeps a provider's cache warm has to know that it is of no use any more."""
    session = {"X-Model-Affinity": "s"}

    def ask(message: str) -> tuple[bool, bool]:
        value = client.post(PATHS[0], agent(message, message), headers=session).json()
        return value["pinned"], value["switched"]

    assert [ask(BUG), ask(FRENCH)] == [(False, False), (True, False)]
    configure(service, RoutingConfig(config.table, default_model="m/default"))
    try:
        assert [ask(BUG), ask(FRENCH)] == [(False, False), (True, False)]
        configure(service, RoutingConfig(config.table))
        assert [ask(FRENCH), ask(FRENCH)] == [(False, True), (True, False)]
    finally:
        configure(service, config)
