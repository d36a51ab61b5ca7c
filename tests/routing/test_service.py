"""The routing service over real models: answers, statistics, other routers and its end. Its order is the scheduler's."""

from __future__ import annotations

import threading
from concurrent.futures import Future
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
from tests.gate import PATIENCE_S, Gate, our_threads
from tests.routing.conftest import CONFIG, MESSAGES, OTHERS, ROUTES, until


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


def test_an_encoder_decides_together_what_it_decides_alone(random_encoder: Path) -> None:
    router = Router(config=CONFIG, model=random_encoder, prefix_cache=False)
    expected = [router.route(message, scores=True) for message in MESSAGES]
    with RoutingService(router) as service:
        futures = [service.submit(message, scores=True, caller=str(number)) for number, message in enumerate(MESSAGES)]
        other = service.submit("a recipe", routes=OTHERS, caller="x")
        for future, decision in zip(futures, expected, strict=True):
            assert future.result(PATIENCE_S).scores == pytest.approx(decision.scores, abs=1e-3)
        assert other.result(PATIENCE_S).route in (*OTHERS.names, OTHER)


def test_deadlines_and_cancelling_are_counted(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    late = [service.submit(message, deadline=0.1) for message in MESSAGES[:3]]
    decisions = [each.result(PATIENCE_S) for each in late]
    assert {(each.route, each.model, each.reason) for each in decisions} == {(OTHER, "default", "deadline")}
    assert all(each.timings.total_ms > 80 and each.timings.wait_ms > 80 for each in decisions)
    waiting = service.submit("fix it")
    assert waiting.cancel()
    stats = service.stats()
    assert (stats.waiting, stats.running, stats.deadlines, stats.decided, stats.cancelled) == (0, 1, 3, 3, 1)
    gate.open()
    assert busy.result(PATIENCE_S).reason is None


def test_a_full_queue_says_when_to_ask_again(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    waiting = [service.submit(message) for message in MESSAGES[:6]]
    with pytest.raises(QueueFullError, match="6 requests wait already") as caught:
        service.submit("one more")
    assert 0 < caught.value.retry_after < 1000
    gate.open()
    assert all(each.result(PATIENCE_S).timings.wait_ms > 0 for each in waiting)
    assert service.stats().refused == 1


def test_a_conversation_without_user_text_does_not_wait(service: RoutingService, busy: Future[Decision]) -> None:
    """Nothing has to be decided, so no place in the queue is taken; with a full one as well."""
    for message in MESSAGES[:6]:
        service.submit(message)
    assert service.submit([]).result(0).reason == "no_user_text"
    assert [each.reason for each in service.submit_many([[], ""]).result(0)] == ["no_user_text"] * 2


def test_a_caller_hears_at_once_of_what_cannot_be_routed(service: RoutingService) -> None:
    """In its own thread: a server turns these into 400 before anything waits."""
    malformed: Any = [7]
    with pytest.raises(ConversationError):
        service.submit([{"role": "robot", "content": "fix it"}])
    for many in (service.submit_many, service.router.route_many):
        with pytest.raises(ConversationError, match="conversation 1: message 0"):
            many(["fix it", malformed])
        # Else every letter would be a conversation.
        with pytest.raises(ConversationError, match="must be a list"):
            many("fix it")
    with pytest.raises(ConversationError):
        service.warm(malformed)
    with pytest.raises(RouteTableError):
        service.submit("fix it", routes=[])
    with pytest.raises(SettingsError):
        service.submit("fix it", deadline=0)
    with pytest.raises(SettingsError):
        service.submit_many(["fix it"], keys=["a", "b"])
    # What only the model can know comes through the future.
    huge = [Route(f"route {number}", "a long description " * 40) for number in range(250)]
    with pytest.raises(EngineError):
        service.submit("fix it", routes=huge).result(PATIENCE_S)
    assert service.submit("fix it").result(PATIENCE_S)


def test_what_could_not_be_asked_is_not_waited_for(service: RoutingService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for every question that is counted, and this one has no future that anybody could answer."""
    unhashable: Any = ["window 1"]
    with pytest.raises(SettingsError):
        service.submit("fix it", caller=unhashable)
    usual = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "archroute-deadlines":
            raise RuntimeError("can't start new thread")
        usual(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            service.submit("fix it", deadline=60)
    assert (service.stats().waiting, service.stats().running) == (0, 0)
    assert service.submit("fix it", deadline=60).result(PATIENCE_S).reason is None


def test_a_warm_up_is_of_use(service: RoutingService) -> None:
    warmed = service.warm("please fix the bug in my", routes=OTHERS).result(PATIENCE_S)
    tokens = service.submit("please fix the bug in my code", routes=OTHERS).result(PATIENCE_S).tokens
    assert tokens.reused >= warmed.tokens - 1
    assert service.stats().warmed >= 2


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
    with pytest.raises(EngineError, match="closed"):
        old.route("fix it")
    assert busy.result(PATIENCE_S).reason is None
    assert service.router.n_ctx > 0


def test_a_request_that_meets_a_replacement_goes_to_the_new_router(
    service: RoutingService, random_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a service that is open said that a router has been closed."""
    old = service.router
    ask = old.question

    def replaced_meanwhile(*read: Any, **settings: Any) -> Any:
        service.replace(Router(ROUTES, model=random_encoder, prefix_cache=False))
        return ask(*read, **settings)

    monkeypatch.setattr(old, "question", replaced_meanwhile)
    assert service.submit("fix it").result(PATIENCE_S).decided_by == "random-encoder.gguf"


def test_replacing_the_model(random_model: Path, random_encoder: Path, gate: Gate) -> None:
    """What waits finishes on the old one, which is then closed."""
    with RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False)) as service:
        gate.close()
        waiting = service.submit("fix it")
        service.replace(Router(config=CONFIG, model=random_encoder, prefix_cache=False))
        assert service.submit("fix it").result(PATIENCE_S).decided_by == random_encoder.name
        gate.open()
        assert waiting.result(PATIENCE_S).decided_by == random_model.name
    assert not our_threads()


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


@pytest.mark.parametrize(("drain", "timeout"), [(True, None), (True, 0.05), (False, None)])
def test_closing(random_model: Path, gate: Gate, drain: bool, timeout: float | None) -> None:
    """With time enough what waits is finished; else it hears that it is not."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    service.warm().result(PATIENCE_S)
    gate.close()
    running = service.submit("fix it")
    gate.wait_for_arrival()
    waiting, warming = service.submit("write a poem"), service.warm("I am typing")
    assert not service.is_closed
    is_finished = drain and timeout is None
    if is_finished:
        gate.open()
    service.close(drain=drain, timeout=timeout)
    for future in (running, waiting):
        if is_finished:
            assert future.result(0).reason is None
        else:
            with pytest.raises(ServiceClosedError):
                future.result(0)
    assert warming.cancelled()
    assert service.is_closed
    assert not our_threads()
    for ask in (service.submit, service.warm, lambda _: service.replace(service.router)):
        with pytest.raises(ServiceClosedError):
            ask("fix it")
    service.close()
    assert service.stats().evictions == 0


def test_a_router_may_be_asked_in_a_callback(service: RoutingService) -> None:
    """Would break if the thread that answers waited for itself, and so did every other caller."""
    found: Future[list[str]] = Future()

    def ask_again(_done: Future[Decision]) -> None:
        service.router.warm("fix this")
        found.set_result([service.router.route("fix this", deadline=deadline).route for deadline in (None, PATIENCE_S)])

    expected = service.submit("fix this")
    expected.add_done_callback(ask_again)
    assert found.result(PATIENCE_S) == [expected.result().route] * 2
    assert service.submit("fix this").result(PATIENCE_S) is not None


def test_closing_in_a_callback(random_model: Path) -> None:
    """Would break if it waited for what its own thread has to do."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    closed = threading.Event()
    futures = [service.submit(message) for message in MESSAGES]

    def close(_future: object) -> None:
        service.close()
        closed.set()

    futures[0].add_done_callback(close)
    assert closed.wait(PATIENCE_S)
    assert all(each.result(PATIENCE_S).route for each in futures)
    until(lambda: not our_threads())
