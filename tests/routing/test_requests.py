"""The routing service: who is served when, and what callers hear."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import pytest

from archroute_edge import OTHER, Decision, Route, Router, RoutingService
from archroute_edge.errors import ConversationError, EngineError, QueueFullError, RouteTableError, SettingsError
from tests.gate import PATIENCE_S, Gate
from tests.routing.conftest import CONFIG, MESSAGES, OTHERS, until


def test_decisions_are_the_routers_own(service: RoutingService) -> None:
    with Router(config=CONFIG, model=service.router.model_file.path, prefix_cache=False) as alone:
        futures = [service.submit(message, scores=True) for message in MESSAGES[:5]]
        for message, future in zip(MESSAGES, futures, strict=False):
            decision, expected = future.result(PATIENCE_S), alone.route(message, scores=True)
            assert decision.route == expected.route
            assert decision.scores == pytest.approx(expected.scores, abs=1e-3)
        many = service.submit_many(MESSAGES, routes=OTHERS, keys=MESSAGES).result(PATIENCE_S)
        assert [each.route for each in many] == [each.route for each in alone.route_many(MESSAGES, routes=OTHERS)]
    assert service.submit_many([]).result(PATIENCE_S) == []
    stats = service.stats()
    assert (stats.decided, stats.deadlines, stats.waiting, stats.cancelled) == (5 + len(MESSAGES), 0, 0, 0)


def test_waiting_is_counted(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if a decision's times left out the queue, which is most of them under load."""
    waits = service.submit("fix it")
    time.sleep(0.1)
    gate.open()
    timings = waits.result(PATIENCE_S).timings
    assert timings.total_ms >= timings.wait_ms >= 100


def test_callers_take_turns(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if one caller's many requests kept another's single one waiting."""
    order: list[str] = []

    def submit(name: str, caller: str) -> Future[Decision]:
        future = service.submit("fix it", caller=caller)
        future.add_done_callback(lambda _future: order.append(name))
        return future

    futures = [submit(f"a{number}", "a") for number in range(3)] + [submit("b0", "b"), submit("c0", "c"), submit("b1", "b")]
    gate.open()
    wait(futures, PATIENCE_S)
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_a_long_list_leaves_others_their_turn(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    many = service.submit_many(MESSAGES, caller="a")
    one = service.submit("fix it", caller="b")
    one.add_done_callback(lambda _future: order.append(many.done()))
    order: list[bool] = []
    gate.open()
    many.result(PATIENCE_S)
    assert order == [False]


def test_a_full_queue_refuses_at_once(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    waiting = [service.submit(message) for message in MESSAGES[:6]]
    assert service.stats().waiting == 6
    with pytest.raises(QueueFullError, match=r"6 requests wait already; ask again in [\d.]+ s") as caught:
        service.submit("one more")
    assert 0 < caught.value.retry_after < 1000
    gate.open()
    assert all(each.result(PATIENCE_S).reason is None for each in [busy, *waiting])
    assert service.submit("one more").result(PATIENCE_S)
    assert service.stats().refused == 1


def test_a_full_queue_takes_a_greedy_callers_newest_request_off(
    service: RoutingService, gate: Gate, busy: Future[Decision]
) -> None:
    """Would break if one caller with many requests had the places of all."""
    greedy = [service.submit(message, caller="greedy") for message in MESSAGES[:6]]
    polite = [service.submit("fix it", caller="polite") for _ in range(2)]
    for late in (greedy[5], greedy[4]):
        with pytest.raises(QueueFullError, match="6 requests wait already"):
            late.result(0)
    with pytest.raises(QueueFullError):
        service.submit("one more", caller="greedy")
    third = service.submit("fix it", caller="polite")
    assert greedy[3].done()
    # Each has three now.
    with pytest.raises(QueueFullError):
        service.submit("fix it", caller="polite")
    gate.open()
    assert all(each.result(PATIENCE_S).reason is None for each in [busy, *greedy[:3], *polite, third])
    assert service.stats().refused == 5


def test_whoever_is_crowded_out_may_ask_again_at_once(service: RoutingService, busy: Future[Decision]) -> None:
    """Would deadlock if callers were told while the queue is locked."""
    greedy = [service.submit(message, caller="greedy") for message in MESSAGES[:6]]
    refused: list[Exception] = []

    def ask_again(_future: Future[Decision]) -> None:
        try:
            service.submit("again", caller="greedy")
        except QueueFullError as exc:
            refused.append(exc)

    greedy[5].add_done_callback(ask_again)
    assert not service.submit("fix it", caller="polite").done()
    assert len(refused) == 1


def test_a_caller_hears_at_once_of_what_cannot_be_routed(service: RoutingService) -> None:
    """In its own thread: a server turns these into 400 before anything waits."""
    malformed: Any = [7]
    with pytest.raises(ConversationError):
        service.submit([{"role": "robot", "content": "fix it"}])
    with pytest.raises(ConversationError):
        service.submit_many(["fix it", malformed])
    with pytest.raises(ConversationError):
        service.warm(malformed)
    with pytest.raises(RouteTableError):
        service.submit("fix it", routes=[])
    with pytest.raises(SettingsError):
        service.submit("fix it", deadline=0)
    with pytest.raises(SettingsError):
        service.submit_many(["fix it"], keys=["a", "b"])
    # What only the router can know comes through the future.
    huge = [Route(f"route {number}", "a long description " * 40) for number in range(250)]
    with pytest.raises(EngineError):
        service.submit("fix it", routes=huge).result(PATIENCE_S)
    assert service.submit("fix it").result(PATIENCE_S)


def test_a_deadline_counts_in_the_queue(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if only the worker, which is busy, could answer."""
    started = time.monotonic()
    futures = [service.submit(message, deadline=0.1) for message in MESSAGES[:5]]
    decisions = [each.result(PATIENCE_S) for each in futures]
    assert time.monotonic() - started < 2
    assert {(each.route, each.model, each.reason) for each in decisions} == {(OTHER, "default", "deadline")}
    assert all(80 < each.timings.total_ms < 2000 for each in decisions)
    assert not busy.done()
    stats = service.stats()
    assert (stats.waiting, stats.running, stats.deadlines, stats.decided) == (0, 1, 5, 5)
    gate.open()
    assert busy.result(PATIENCE_S).reason is None


def test_a_deadline_stops_what_runs(service: RoutingService, gate: Gate) -> None:
    gate.close()
    assert service.submit("fix it", deadline=0.1).result(PATIENCE_S).reason == "deadline"
    until(lambda: service.stats().running == 0)
    gate.open()
    assert service.submit("fix it", deadline=PATIENCE_S).result(PATIENCE_S).reason is None


def test_a_deadline_is_kept_where_nothing_can_be_stopped(service: RoutingService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a router that is late, reading a file for instance, made its callers late."""
    answer = service.submit("fix it").result(PATIENCE_S)

    def route(*_arguments: Any, **_settings: Any) -> Decision:
        time.sleep(1)
        return answer

    monkeypatch.setattr(Router, "route", route)
    started = time.monotonic()
    assert service.submit("fix it", deadline=0.1).result(PATIENCE_S).reason == "deadline"
    assert time.monotonic() - started < 0.9


def test_a_deadline_that_fails_takes_no_other_along(
    service: RoutingService, busy: Future[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if an error in the thread that keeps deadlines ended it: no deadline were kept in the queue any more."""

    def stand_in(*_arguments: Any, **_settings: Any) -> Decision:
        raise RuntimeError("no thread to be had")

    with monkeypatch.context() as patch:
        patch.setattr(Router, "stand_in", stand_in)
        with pytest.raises(RuntimeError):
            service.submit("fix it", deadline=0.05).result(PATIENCE_S)
    assert service.submit("fix it", deadline=0.05).result(PATIENCE_S).reason == "deadline"
    assert not busy.done()


def test_cancelling_takes_off_the_queue_or_stops(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if a client that has gone kept the model busy."""
    waiting, next_one = service.submit("fix it"), service.submit("write a poem")
    assert waiting.cancel()
    assert service.stats().waiting == 1
    assert busy.cancel()
    assert wait([busy, waiting], PATIENCE_S).not_done == set()
    gate.open()
    assert next_one.result(PATIENCE_S).reason is None
    assert not next_one.cancel()
    with pytest.raises(CancelledError):
        busy.result(PATIENCE_S)
    assert service.stats().cancelled == 2
