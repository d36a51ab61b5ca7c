"""The routing service: warm-ups that decisions stop, other routers, and models that decide together."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import OTHER, Decision, Router, RoutingService
from archroute_edge.config import RoutingConfig
from archroute_edge.errors import EngineError
from tests.gate import PATIENCE_S, Gate
from tests.routing.conftest import CONFIG, MESSAGES, OTHERS, ROUTES, until


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


def test_warm_ups_that_wait_are_bounded(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if a host that names another caller each time filled the memory with what nobody waits for."""
    futures = [service.warm(f"text {number}", caller=str(number)) for number in range(8)]
    assert [each.cancelled() for each in futures] == [True] * 2 + [False] * 6
    newer = service.warm("text 7 and more", caller="7")
    assert futures[7].cancelled()
    gate.open()
    assert all(each.result(PATIENCE_S).tokens for each in [*futures[2:7], newer])


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
