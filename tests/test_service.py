"""The routing service: who is served when, and what becomes of those who are not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import OTHER, Decision, Route, Router, RoutingService
from archroute_edge.config import RoutingConfig
from archroute_edge.errors import (
    ConversationError,
    EngineError,
    QueueFullError,
    RouteTableError,
    ServiceClosedError,
    SettingsError,
)
from archroute_edge.routes import RouteTable
from tests.gate import PATIENCE_S, Gate, our_threads

ROUTES = RouteTable([Route("bug_fixing", "fixing errors in code"), Route("poems", "writing poems")])
CONFIG = RoutingConfig(ROUTES, default_model="default")
OTHERS = RouteTable([Route("cooking", "recipes and meals"), Route("travel", "trips and hotels")])
MESSAGES = [f"question number {number} about my code" for number in range(8)]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture
def service(random_model: Path, gate: Gate) -> Iterator[RoutingService]:
    with RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False), queue_limit=6) as service:
        service.warm().result(PATIENCE_S)
        yield service
        gate.open()
    assert not our_threads()


@pytest.fixture
def busy(service: RoutingService, gate: Gate) -> Future[Decision]:
    """A decision that runs until the gate is opened."""
    gate.close()
    future = service.submit("a question that takes long", caller="busy")
    gate.wait_for_arrival()
    return future


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


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


def test_a_caller_hears_at_once_of_what_cannot_be_routed(service: RoutingService) -> None:
    """In its own thread: a server turns these into 400 before anything waits."""
    with pytest.raises(ConversationError):
        service.submit("")
    with pytest.raises(ConversationError):
        service.submit_many(["fix it", []])
    with pytest.raises(ConversationError):
        service.warm([])
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


def test_a_decision_stops_a_warm_up_which_goes_on_afterwards(service: RoutingService, gate: Gate) -> None:
    """Would break if typing in one window delayed a decision in another, or a warm-up were lost."""
    gate.close()
    warming = service.warm("I am still typing this", routes=OTHERS)
    gate.wait_for_arrival()
    decision = service.submit("fix it")
    until(lambda: service.stats().running == 1)
    assert service.stats().preempted == 1
    assert not warming.done()
    gate.open()
    assert decision.result(PATIENCE_S).reason is None
    assert warming.result(PATIENCE_S).tokens > 0
    assert service.submit("I am still typing this, and now I am done", routes=OTHERS).result(PATIENCE_S).tokens.reused > 50


def test_a_decision_waits_for_a_warm_up_of_its_own(service: RoutingService, gate: Gate) -> None:
    """Would break if what was typed were evaluated twice: stopping the warm-up loses what the decision needs."""
    gate.close()
    warming = service.warm("please fix the bug in my")
    gate.wait_for_arrival()
    decision = service.submit("please fix the bug in my code")
    gate.open()
    tokens = decision.result(PATIENCE_S).tokens
    assert warming.done()
    assert tokens.reused >= warming.result().tokens - 1
    assert service.stats().preempted == 0


def test_a_newer_warm_up_takes_the_place_of_one_that_waits(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Of the same caller: each letter typed asks for one, and only the last is of use."""
    older, others, newer = service.warm("fi", caller="a"), service.warm("wri", caller="b"), service.warm("fix", caller="a")
    assert older.cancelled()
    gate.open()
    assert newer.result(PATIENCE_S).tokens > 0
    assert others.result(PATIENCE_S).tokens > 0


def test_replacing_the_router(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if a reload of the configuration dropped a request, or decided it by routes it was not asked with."""
    old = service.router
    waiting = service.submit("fix it", scores=True)
    service.replace(old.with_config(RoutingConfig(OTHERS)))
    service.replace(service.router)
    new = service.submit("a recipe", scores=True)
    gate.open()
    assert set(waiting.result(PATIENCE_S).scores or ()) == {*ROUTES.names, OTHER}
    assert set(new.result(PATIENCE_S).scores or ()) == {*OTHERS.names, OTHER}

    def is_closed() -> bool:
        try:
            return old.n_ctx == 0
        except EngineError:
            return True

    until(is_closed)
    assert busy.result(PATIENCE_S).reason is None
    assert service.router.n_ctx > 0


@pytest.mark.parametrize("timeout", [None, 0.05])
def test_closing(random_model: Path, gate: Gate, timeout: float | None) -> None:
    """With time enough what waits is finished; else it hears that it is not."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    service.warm().result(PATIENCE_S)
    gate.close()
    running = service.submit("fix it")
    gate.wait_for_arrival()
    waiting, warming = service.submit("write a poem"), service.warm("I am typing")
    if timeout is None:
        running.add_done_callback(lambda _future: None)
        gate.open()
    service.close(timeout=timeout)
    for future in (running, waiting):
        if timeout is None:
            assert future.result(0).reason is None
        else:
            with pytest.raises(ServiceClosedError):
                future.result(0)
    assert warming.cancelled()
    assert not our_threads()
    for ask in (service.submit, service.warm):
        with pytest.raises(ServiceClosedError):
            ask("fix it")
    with pytest.raises(ServiceClosedError):
        service.replace(service.router)
    service.close()
    assert service.stats().evictions == 0


def test_closing_without_draining(random_model: Path, gate: Gate) -> None:
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    gate.close()
    futures = [service.submit(message) for message in MESSAGES]
    service.close(drain=False)
    for future in futures:
        with pytest.raises(ServiceClosedError):
            future.result(0)


def test_an_encoder_takes_what_waits_together(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with the same routes, whoever asked; would break if one evaluation each were made of what fits into one."""
    batches: list[int] = []
    route_many = Router.route_many

    def spy(router: Router, conversations: Any, **settings: Any) -> list[Decision]:
        batches.append(len(conversations))
        return route_many(router, conversations, **settings)

    monkeypatch.setattr(Router, "route_many", spy)
    router = Router(config=CONFIG, model=random_encoder, prefix_cache=False)
    expected = [router.route(message, scores=True) for message in MESSAGES]
    with RoutingService(router) as service:
        service.warm().result(PATIENCE_S)
        with service._worker._changed:
            futures = [service.submit(message, scores=True, caller=str(number)) for number, message in enumerate(MESSAGES)]
            other = service.submit("a recipe", routes=OTHERS, caller="x")
            list_of_them = service.submit_many(MESSAGES, scores=True)
        for future, decision in zip(futures, expected, strict=True):
            assert future.result(PATIENCE_S).scores == pytest.approx(decision.scores, abs=1e-3)
        assert [each.route for each in list_of_them.result(PATIENCE_S)] == [each.route for each in expected]
        assert other.result(PATIENCE_S).route in (*OTHERS.names, OTHER)
    assert batches == [2 * len(MESSAGES)]


def test_a_cascade_gives_its_encoders_answer_to_what_waited(random_encoder: Path, random_model: Path, gate: Gate) -> None:
    model = f"{random_encoder}+{random_model}"
    with RoutingService(Router(config=CONFIG, model=model, prefix_cache=False, switch_over=1.0)) as service:
        service.submit("fix it").result(PATIENCE_S)
        gate.close()
        busy = service.submit("a question that takes long")
        gate.wait_for_arrival()
        decision = service.submit("fix it", deadline=0.3).result(PATIENCE_S)
        assert (decision.reason, decision.decided_by) == ("deadline", random_encoder.name)
        assert busy.cancel()
        gate.open()


def test_a_program_that_ends_in_the_middle_of_a_decision(random_model: Path) -> None:
    """Would break if the model were freed under the worker's hands, or an unclosed service kept the program alive."""
    script = (
        "import sys\n"
        "from archroute_edge import Route, Router, RoutingService\n"
        "service = RoutingService(Router([Route('a')], model=sys.argv[1], prefix_cache=False, threads=1, budget=8000))\n"
        "futures = [service.submit('a very long question ' * 2000) for _ in range(3)]\n"
        "print('fine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(random_model)], capture_output=True, text=True, check=False, timeout=PATIENCE_S * 2
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
