"""Every decision of an HTTP door becomes an entry, for whatever hangs there: the record, the page."""

from __future__ import annotations

import json

import pytest

from archroute_edge.record import Entry
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._app import ServerApp
from tests.server.conftest import Client

USER = {"messages": [{"role": "user", "content": "fix the bug in my loop"}], "model": "m/asked"}
PROMPT = (
    '<routes>\n[{"name": "bug_fixing", "description": "Identifying and fixing errors"}]\n</routes>\n'
    '<conversation>\n[{"role": "user", "content": "fix the bug in my loop"}]\n</conversation>'
)


class Kept(list[Entry]):
    """A sink in memory."""

    add = list.append


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def app(service: RoutingService, kept: Kept) -> Client:
    return Client(ServerApp(service, ServerSettings(), sinks=[kept]))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/route", {"messages": "fix the bug in my loop", "key": "conversation"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}], "model": "m/asked"}),
        ("/routing/v1/chat/completions", USER),
        ("/routing/v1/messages", USER),
        ("/routing/v1/responses", {"input": "fix the bug in my loop", "model": "m/asked"}),
    ],
)
def test_a_decision_is_noted(app: Client, kept: Kept, path: str, body: dict[str, object]) -> None:
    assert app.post(path, body).status_code == 200
    [entry] = kept
    assert (entry.operation, entry.outcome, entry.status, entry.asked_model) == ("route", "completed", 200, body.get("model"))
    assert entry.route == "bug_fixing"
    assert entry.decided_by == "tiny"
    assert entry.content is None
    assert "conversation" not in repr(entry)


def test_each_of_a_batch_is_noted(app: Client, kept: Kept) -> None:
    body = {"conversations": ["fix the bug in my loop", "translate this into French"], "keys": ["one", None]}
    assert app.post("/v1/route/batch", body).status_code == 200
    assert [entry.session is None for entry in kept] == [False, True]
    assert len({entry.id for entry in kept}) == 2


def test_a_decision_that_is_repeated_for_its_session_says_so(app: Client, kept: Kept) -> None:
    for _ in range(2):
        app("POST", "/routing/v1/chat/completions", json=USER, headers={"X-Model-Affinity": "mine"})
    first, again = kept
    assert (first.reason, again.reason) == (None, "pinned")
    assert (again.route, again.model, again.session) == (first.route, first.model, first.session)


def test_a_sink_that_fails_costs_no_request(service: RoutingService, kept: Kept) -> None:
    class Broken:
        def add(self, entry: Entry) -> None:
            raise OSError("disk full")

    app = Client(ServerApp(service, ServerSettings(), sinks=[Broken(), kept]))
    assert app.post("/v1/route", {"messages": "fix the bug"}).status_code == 200
    assert len(kept) == 1


def test_texts_are_in_entries_if_they_are_to_be_kept(service: RoutingService, kept: Kept) -> None:
    app = Client(ServerApp(service, ServerSettings(keep_content=True), sinks=[kept]))
    app.post("/routing/v1/responses", {"input": "fix the bug in my loop"})
    app.post("/v1/route/batch", {"conversations": ["fix the bug in my loop"]})
    for entry in kept:
        assert entry.content is not None
        assert json.loads(entry.content.request) == {"messages": [{"role": "user", "content": "fix the bug in my loop"}]}
    assert len(kept) == 2
