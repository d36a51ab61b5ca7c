"""Plano's decision endpoint: its answer, inline routes, and sessions that stay on their model."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from archroute_edge.config import RoutingConfig, parse_config
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._affinity import AffinityStore, Pin
from archroute_edge.server.http._app import ServerApp
from tests.server.conftest import Client, StuckService, configure

PATH = "/routing/v1/chat/completions"
BUG = "there is a bug in my code, please fix it"


def body(message: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": message}], **more}


def test_the_answer_has_planos_keys_and_the_configs_models(client: Client) -> None:
    """Clients of Plano read exactly these."""
    answer = client.post(PATH, body(BUG))
    assert answer.status_code == 200
    value = answer.json()
    trace = value.pop("trace_id")
    assert value == {"models": ["m/a", "m/b"], "route": "bug_fixing", "session_id": None, "pinned": False, "switched": False}
    assert len(bytes.fromhex(trace)) == 16


def test_no_match_is_null_with_the_default_model_or_the_requests(client: Client, service: RoutingService) -> None:
    """Plano's clients fall back to the model that they asked for."""
    thanks = "thanks, that is all for today"
    assert client.post(PATH, body(thanks)).json() | {"trace_id": ""} == {
        "models": ["m/default"],
        "route": None,
        "trace_id": "",
        "session_id": None,
        "pinned": False,
        "switched": False,
    }
    was = service.router.config
    configure(service, replace(was, default_model=None))
    try:
        assert client.post(PATH, body(thanks)).json()["models"] == ["gpt-4o-mini"]
    finally:
        configure(service, was)


def test_routes_may_come_with_the_request(client: Client) -> None:
    preferences = [
        {"name": "code_fixing", "description": "fixing bugs and errors in code", "models": ["p/x", "p/y"]},
        {"name": "poems", "description": "writing poems", "models": ["p/z"], "selection_policy": {"prefer": "cheapest"}},
    ]
    value = client.post(PATH, body(BUG, routing_preferences=preferences)).json()
    assert (value["route"], value["models"]) == ("code_fixing", ["p/x", "p/y"])


def test_a_session_keeps_its_first_decision(client: Client) -> None:
    """An agent's next step looks like another kind of request, and must not change the model in the middle of its work."""
    session = {"X-Model-Affinity": "session-1"}
    first = client.post(PATH, body(BUG), headers=session).json()
    second = client.post(PATH, body("translate this into French"), headers=session).json()
    assert (first["pinned"], second["pinned"]) == (False, True)
    assert (second["route"], second["models"], second["session_id"]) == ("bug_fixing", ["m/a", "m/b"], "session-1")
    other = client.post(PATH, body("translate this into French"), headers={"X-Model-Affinity": "session-2"}).json()
    assert (other["route"], other["pinned"]) == ("translation", False)
    assert client.metric("archroute_pinned_decisions_total") == 1
    assert client.metric("archroute_affinity_sessions") == 2


def test_a_session_follows_a_new_configuration(client: Client, service: RoutingService) -> None:
    """It would be sent to models that are no longer there."""
    session = {"X-Model-Affinity": "session-1"}
    client.post(PATH, body(BUG), headers=session)
    was = service.router.config
    configure(service, replace(was))
    try:
        assert client.post(PATH, body(BUG), headers=session).json()["pinned"] is False
    finally:
        configure(service, was)


def test_a_fallback_at_the_deadline_is_not_kept(stuck: StuckService, service: RoutingService) -> None:
    """A session would stay on the fallback because of one slow moment."""
    decision = service.router.route(BUG)

    def submit(_messages: Any, **_asked: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(replace(decision, route="other", matched=False, models=("m/default",), reason="deadline"))
        return future

    stuck.submit = submit  # type: ignore[method-assign]
    client = Client(ServerApp(stuck, ServerSettings()))  # type: ignore[arg-type]
    for _ in range(2):
        value = client.post(PATH, body(BUG), headers={"X-Model-Affinity": "s"}).json()
        assert (value["models"], value["pinned"]) == (["m/default"], False)


def test_requests_of_a_new_session_at_a_time_get_one_decision(stuck: StuckService, service: RoutingService) -> None:
    """An agent begins with several calls in parallel; the one that is decided last would take the session to its models."""
    decision = service.router.route("translate this into French")
    client = Client(ServerApp(stuck, ServerSettings()))  # type: ignore[arg-type]

    def submit(_messages: Any, **_asked: Any) -> Future[Any]:
        client.app.serving.affinity.pin("s", Pin("bug_fixing", ("m/a",), service.router.config))
        future: Future[Any] = Future()
        future.set_result(decision)
        return future

    stuck.submit = submit  # type: ignore[method-assign]
    value = client.post(PATH, body("translate this into French"), headers={"X-Model-Affinity": "s"}).json()
    assert (value["route"], value["models"], value["pinned"]) == ("bug_fixing", ["m/a"], True)
    assert [(entry.route, entry.reason) for entry in client.app.recent.look().entries] == [("bug_fixing", "pinned")]


def test_the_callers_trace_goes_on(client: Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert client.post(PATH, body(BUG), headers=headers).json()["trace_id"] == trace
    assert client.post(PATH, body(BUG), headers={"traceparent": "nonsense"}).json()["trace_id"] != trace


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"routing_preferences": [{"name": "a", "model": "x"}]}, "routing_preferences.0.model"),
        ({"routing_preferences": []}, "routing_preferences"),
        ({"routing_preferences": [{"name": "a"}, {"name": "a"}]}, "routing_preferences"),
        ({"routing_preferences": [{"name": f"r{n}"} for n in range(1000)]}, "routing_preferences"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages.0.content"),
    ],
)
def test_what_cannot_be_used_is_a_400_that_says_where(client: Client, more: dict[str, Any], param: str | None) -> None:
    answer = client.post(PATH, {**body(BUG), **more})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert len(answer.json()["error"]["message"]) < 300


def pin(route: str, config: RoutingConfig | None = None) -> Pin:
    return Pin(route, (), config)


def test_sessions_are_bounded_in_number_and_time(config: RoutingConfig) -> None:
    """Session names are the client's: a store without bounds is memory that anybody can fill."""
    now = 0.0
    store = AffinityStore(2, 10.0, lambda: now)
    store.pin("a", pin("1"))
    store.pin("b", pin("2"))
    assert store.find("a", config) == pin("1")
    store.pin("c", pin("3"))
    assert [store.find(name, config) for name in "abc"] == [pin("1"), None, pin("3")]
    now = 9.0
    store.pin("c", pin("4"))
    now = 10.0
    assert [store.find(name, config) for name in "ac"] == [None, pin("4")]
    assert len(store) == 1


def test_a_store_of_no_sessions_keeps_none(config: RoutingConfig) -> None:
    store = AffinityStore(0, 10.0)
    store.pin("a", pin("1"))
    assert store.find("a", config) is None


def test_a_pin_of_another_configuration_is_none(config: RoutingConfig) -> None:
    other = parse_config("routing_preferences: [{name: a}]")
    store = AffinityStore(2, 10.0)
    store.pin("a", pin("1", config))
    store.pin("b", pin("2"))
    assert store.find("a", other) is None
    assert store.find("b", other) == pin("2")


def test_sessions_are_bounded_in_bytes(config: RoutingConfig) -> None:
    """The models of a request's own routes are the client's as well, however long their names."""
    store = AffinityStore(100, 10.0, lambda: 0.0, most_bytes=10_000)
    for number in range(100):
        # One emoji makes four bytes of every letter.
        store.pin(f"s{number % 50}", Pin("r", ("\N{ROCKET}" + "m" * 500,), None))
        store.pin("large", Pin("r", ("m" * 11_000,), None))
    assert len(store) == 0
    for number in range(100):
        store.pin(f"s{number}", Pin("r", ("\N{ROCKET}" + "m" * 500,), None))
    assert [store.find(f"s{number}", config) is not None for number in range(100)] == [False] * 96 + [True] * 4
    # A configuration's own texts are no burden.
    store = AffinityStore(100, 10.0, lambda: 0.0, most_bytes=10_000)
    for number in range(100):
        store.pin(f"s{number}", Pin("r", ("m" * 500,), config))
    assert len(store) == 100
