"""Our own endpoints: decisions as the library gives them, batches, warm-ups, metrics and what they may not show."""

from __future__ import annotations

from typing import Any, cast

import pytest

from archroute_edge.config import RoutingConfig
from archroute_edge.conversation import Turn
from archroute_edge.prompts import CARD
from archroute_edge.prompts._prompt_formats import ORCHESTRATOR
from archroute_edge.routing import RoutingService
from tests.server.conftest import Client, StuckService
from tests.server.test_guard import App

BUG = "there is a bug in my code, please fix it"


def without_costs(decision: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decision.items() if name not in ("tokens", "timings", "confidence", "scores")}


def test_a_decision_is_the_routers_own(client: Client, service: RoutingService) -> None:
    conversation = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": BUG},
    ]
    for messages in (BUG, conversation):
        value = client.post("/v1/route", {"messages": messages, "key": "k", "scores": True}).json()
        expected = service.router.route(messages, key="k", scores=True).to_dict()
        assert without_costs(value) == without_costs(expected)
        assert value["scores"] == pytest.approx(expected["scores"], abs=0.05)
        assert value.keys() == expected.keys()
    assert "scores" not in client.post("/v1/route", {"messages": BUG}).json()


def test_routes_may_come_along(client: Client) -> None:
    routes = [
        {"name": "fixing", "description": "fixing bugs in code", "models": ["x/y"]},
        {"name": "poems", "description": "verse"},
    ]
    value = client.post("/v1/route", {"messages": BUG, "routes": routes}).json()
    assert (value["route"], value["model"]) == ("fixing", "x/y")


def test_a_batch_answers_in_order(client: Client) -> None:
    value = client.post("/v1/route/batch", {"conversations": [BUG, "translate this into French"]}).json()
    assert [each["route"] for each in value["decisions"]] == ["bug_fixing", "translation"]
    failed = client.post("/v1/route/batch", {"conversations": [BUG, [{"role": "robot", "content": "x"}]]})
    assert failed.status_code == 400
    assert failed.json()["error"]["message"].startswith("conversation 1: message 0 has the role")


def test_routes_that_are_the_configurations_own_count_as_such(client: Client, config: RoutingConfig) -> None:
    """A gateway sends the server's routes with each request; what was warmed for the ones serves the others."""
    routes = [{"name": route.name, "description": route.description} for route in config.table]
    client.post("/v1/route", {"messages": BUG, "routes": routes})
    client.post("/v1/route/batch", {"conversations": [BUG], "routes": routes})
    assert client.metric('archroute_decisions_total{route="bug_fixing",table="config"}') == 2
    assert client.metric('archroute_decisions_total{route="inline",table="inline"}') == 0


def test_at_the_deadline_the_fallback_is_answered(app_over: App, service: RoutingService, config: RoutingConfig) -> None:
    """Late answers are no answers: a gateway waits for the router before it can begin."""
    # Not what other tests ask: were all of it evaluated already, there might be a decision at once.
    unseen = "it prints 3 where 4 is expected, what is wrong with it?"
    value = app_over(service).post("/v1/route", {"messages": unseen, "deadline": 1e-6}).json()
    assert (value["route"], value["matched"], value["models"]) == ("other", False, ["m/default"])
    assert (value["reason"], value["decided_by"]) == ("deadline", None)
    client = app_over(service, deadline=1e-6)
    for each, expected in ((CARD, '{"route": "other"}'), (ORCHESTRATOR, '{"route": []}')):
        prompt = each.render(config.table, [Turn("user", unseen)])
        answer = client.post("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}]})
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, expected)
    assert client.metric('archroute_fallbacks_total{reason="deadline"}') == 2


def test_what_was_warmed_is_not_evaluated_again(client: Client) -> None:
    typed = "I have written a function in Python that should sort a list of names, but"
    warm = client.post("/v1/warm", {"messages": typed}).json()
    assert warm["done"]
    assert warm["evaluated"] > 0
    tokens = client.post("/v1/route", {"messages": typed + " it fails"}).json()["tokens"]
    assert tokens["reused"] >= warm["tokens"]
    assert client.post("/v1/warm", {}).json()["done"]


def test_what_a_pause_has_decided_is_answered(client: Client) -> None:
    """And nothing else: not by other routes, which come with the request."""
    typed = "I have written a function in Python that should sort a list of names, but it fails"
    assert client.post("/v1/warm", {"messages": typed, "whole": True}).json()["done"]
    tokens = client.post("/v1/route", {"messages": typed}).json()["tokens"]
    assert (tokens["evaluated"], tokens["reused"]) == (0, tokens["prompt"])
    routes = [{"name": "travel", "description": "planning trips"}]
    assert client.post("/v1/route", {"messages": typed, "routes": routes}).json()["tokens"]["evaluated"] > 0


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/route", {}, "messages"),
        ("/v1/route", {"messages": BUG, "score": True}, "score"),
        ("/v1/route", {"messages": BUG, "routes": [{"name": "a", "description": 7}]}, "routes.0.description"),
        ("/v1/route/batch", {"conversations": [BUG, [{"role": "user", "content": 5}]]}, "conversations.1.0.content"),
        ("/v1/warm", {"messages": 7}, "messages"),
        ("/v1/warm", {"messages": BUG, "whole": 1}, "whole"),
        ("/v1/warm", {"messages": BUG, "scores": True}, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"text": 1}]}]}, "messages.0.content.0.text"),
        ("/v1/route", [BUG], None),
    ],
)
def test_a_request_that_cannot_be_used_says_where(client: Client, path: str, body: Any, param: str | None) -> None:
    answer = client.post(path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_metrics_count_decisions_tokens_and_time(client: Client) -> None:
    client.post("/v1/route", {"messages": BUG})
    assert client.metric('archroute_decisions_total{route="bug_fixing",table="config"}') == 1
    assert client.metric('archroute_http_requests_total{path="/v1/route",status="200"}') == 1
    assert client.metric('archroute_decision_seconds_count{phase="evaluate"}') == 1
    assert client.metric('archroute_tokens_total{kind="prompt"}') > 100
    shown = client("GET", "/metrics")
    assert shown.headers["content-type"].startswith("text/plain")
    for name in (
        "archroute_queue_waiting",
        "archroute_evictions_total",
        "archroute_timeouts_total",
        "archroute_deadlines_total",
    ):
        assert f"\n{name} " in shown.text


def test_what_clients_choose_is_no_label(client: Client) -> None:
    """A label for each route name, path or session that somebody sends is memory that anybody can fill."""
    sizes = []
    for number in range(5):
        routes = [{"name": f"chosen{number}"}, {"name": f"other{number}"}]
        client.post("/v1/route", {"messages": BUG, "routes": routes})
        client("GET", f"/chosen{number}")
        client.post("/routing/v1/chat/completions", {}, headers={"X-Model-Affinity": f"chosen{number}"})
        sizes.append(len(client.app.serving.metrics.text().splitlines()))
    assert sizes == sizes[:1] * 5
    assert "chosen" not in client.app.serving.metrics.text().decode()
    assert client.metric('archroute_http_requests_total{path="other",status="404"}') == 5


def test_the_model_is_listed(client: Client) -> None:
    value = client("GET", "/v1/models").json()
    assert [each["id"] for each in value["data"]] == ["tiny"]


def test_it_is_ready_once_the_routes_are_evaluated(client: Client) -> None:
    assert client("GET", "/healthz").json() == {"status": "ok"}
    assert client("GET", "/readyz").status_code == 503
    client.app.serving.is_warm = True
    assert client("GET", "/readyz").json() == {"status": "ok"}
    client.app.serving.is_closing = True
    answer = client("GET", "/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "shutting down"})


def test_a_server_that_can_decide_no_more_says_so(client: Client, service: RoutingService, stuck: StuckService) -> None:
    """Else whatever looks after it never starts it again, and every decision is a 503."""
    client.app.serving.is_warm = True
    stuck.is_closed = True
    client.app.serving.service = cast(RoutingService, stuck)
    for path in ("/healthz", "/readyz"):
        answer = client("GET", path)
        assert (answer.status_code, answer.json()) == (503, {"status": "failed"})
