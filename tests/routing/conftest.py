"""A service over a small model with a gate that keeps it busy, and a scheduler over a fake decider."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Decision, Route, Router, RoutingService
from archroute_edge.config import RoutingConfig
from archroute_edge.routes import RouteTable
from archroute_edge.routing._scheduler import Scheduler
from tests.fakes import FakeDecider
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


@pytest.fixture
def decider() -> FakeDecider:
    return FakeDecider()


@pytest.fixture
def scheduler(decider: FakeDecider) -> Iterator[Scheduler]:
    scheduler = Scheduler(decider)
    yield scheduler
    decider.opened.set()
    scheduler.release()
    scheduler.join()
    assert decider.is_closed
    assert not our_threads()


class SlowMessages(list[Any]):
    """Messages that take 0.2 s to read."""

    def __iter__(self) -> Iterator[Any]:
        time.sleep(0.2)
        return super().__iter__()


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)
