"""The queue's bound, deadlines, the time limit, and clients that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from archroute_edge.errors import (
    ContextOverflowError,
    DecisionCancelledError,
    EngineError,
    QueueFullError,
    ServiceClosedError,
)
from tests.server.conftest import Client, StuckService
from tests.server.test_guard import drive

App = Callable[..., Client]
ROUTE = {"messages": "fix the bug"}
CHAT = {"messages": [{"role": "user", "content": "fix the bug"}]}


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (QueueFullError("64 requests wait already", retry_after=2.3), 429, "queue_full", "3"),
        (QueueFullError("64 requests wait already", retry_after=0.01), 429, "queue_full", "1"),
        (ServiceClosedError("closed"), 503, "shutting_down", "1"),
        (EngineError("llama.cpp: decode failed"), 503, "engine_failed", "1"),
        (DecisionCancelledError("called off"), 503, "called_off", "1"),
        (ContextOverflowError("the routes do not fit"), 400, "context_length_exceeded", None),
    ],
)
def test_what_goes_wrong_behind_the_queue_has_its_status(
    app_over: App, stuck: StuckService, error: Exception, status: int, code: str, retry: str | None
) -> None:
    """Clients wait and try again after 429 and 503, and never after 400."""

    def submit(_messages: Any, **_asked: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(error)
        return future

    stuck.submit = submit  # type: ignore[method-assign]
    client = app_over(stuck)
    for path, body in (("/v1/route", ROUTE), ("/routing/v1/chat/completions", CHAT)):
        answer = client.post(path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers.get("retry-after") == retry


def test_a_request_is_given_up_after_the_time_limit(app_over: App, stuck: StuckService) -> None:
    """And called off, or the engine would go on with what nobody waits for."""
    client = app_over(stuck, timeout=0.05)
    for path, body in (
        ("/v1/route", ROUTE),
        ("/routing/v1/chat/completions", CHAT),
        ("/v1/route/batch", {"conversations": ["a"]}),
    ):
        answer = client.post(path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
        assert answer.headers["retry-after"] == "1"
    assert [future.cancelled() for future in stuck.futures] == [True] * 3
    assert client.metric("archroute_timeouts_total") == 3


def test_a_client_that_goes_away_calls_its_decision_off(app_over: App, stuck: StuckService) -> None:
    """Closed tabs would keep the queue full."""
    client = app_over(stuck)
    received = 0

    async def receive() -> Any:
        nonlocal received
        received += 1
        if received == 1:
            return {"type": "http.request", "body": b'{"messages": "fix"}', "more_body": False}
        while not stuck.futures:
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"19")]
    drive(client, receive, headers)
    assert [future.cancelled() for future in stuck.futures] == [True]
    assert client.metric('archroute_http_requests_total{path="/v1/route",status="499"}') == 1


@pytest.mark.parametrize(("own", "asked", "passed"), [(None, None, None), (0.5, None, 0.5), (0.5, 2.0, 0.5), (0.5, 0.1, 0.1)])
def test_the_earlier_deadline_holds(
    app_over: App, stuck: StuckService, own: float | None, asked: float | None, passed: float | None
) -> None:
    app_over(stuck, deadline=own, timeout=0.02).post("/v1/route", {**ROUTE, "deadline": asked})
    assert stuck.asked[0]["deadline"] == passed


def test_callers_are_told_apart_by_user_and_else_by_machine(app_over: App, stuck: StuckService) -> None:
    """One program that asks much must not keep another waiting."""
    client = app_over(stuck, timeout=0.02)
    for user in ("ann", "bob", None):
        client.post("/v1/route", {**ROUTE, "user": user})
    callers = [asked["caller"] for asked in stuck.asked]
    assert len(set(callers)) == 3


def test_a_warm_up_that_gave_way_is_no_error(app_over: App, stuck: StuckService) -> None:
    """The text is typed on, and the next warm-up is under way already."""

    def warm(_messages: Any, **_asked: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future

    stuck.warm = warm  # type: ignore[method-assign]
    assert app_over(stuck).post("/v1/warm", ROUTE).json() == {"done": False, "tokens": 0, "evaluated": 0, "total_ms": 0.0}
