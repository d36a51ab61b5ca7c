"""Services that are dropped without being closed, as by a notebook's cell that is run again."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import AsyncRouter, Router, RoutingService
from tests.gate import PATIENCE_S, Gate, our_threads
from tests.routing.conftest import CONFIG, MESSAGES, until


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """References alone free what is dropped: the collector may come after many models."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=["generative", "encoder", "cascade"])
def settings(request: pytest.FixtureRequest, random_model: Path, random_encoder: Path) -> dict[str, Any]:
    models = {
        "generative": random_model,
        "encoder": random_encoder,
        "cascade": f"{random_encoder}+{random_model}",
    }
    return {"config": CONFIG, "model": models[request.param], "prefix_cache": False}


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("archroute"):
            thread.join(PATIENCE_S)
    assert not our_threads()


def test_a_dropped_router_is_freed(settings: dict[str, Any]) -> None:
    """Would break if a cycle of references kept each model until the collector comes by."""
    router = Router(**settings)
    router.with_config(CONFIG).route("fix it", deadline=PATIENCE_S)
    decider = weakref.ref(router.decider)
    model = weakref.ref(router.decider.model)
    del router
    wait_for_threads()
    assert decider() is None
    assert model() is None


def test_a_dropped_service_is_freed(settings: dict[str, Any]) -> None:
    """Would break if its thread, or a future that is kept, held the service, and with it a model."""
    service = RoutingService(Router(**settings))
    kept: list[Future[Any]] = [
        service.submit("fix it", deadline=PATIENCE_S),
        service.submit_many(MESSAGES),
        service.warm("I am typing"),
    ]
    for future in kept:
        future.result(PATIENCE_S)
    decider = weakref.ref(service.router.decider)
    with pytest.warns(ResourceWarning, match="dropped without being closed; call close"):
        del service
    wait_for_threads()
    assert decider() is None
    assert kept[0].result(0).route


def test_a_replaced_router_is_freed(settings: dict[str, Any], random_encoder: Path) -> None:
    """Would break if a service that gets a new model each night kept all the former ones."""
    with RoutingService(Router(**settings)) as service:
        assert service.submit("fix it", deadline=PATIENCE_S).result(PATIENCE_S).reason is None
        decider, router = weakref.ref(service.router.decider), weakref.ref(service.router)
        service.replace(Router(config=CONFIG, model=random_encoder, prefix_cache=False))
        assert service.submit("fix it").result(PATIENCE_S).reason is None
        until(lambda: decider() is None and router() is None)
    assert not our_threads()


def test_a_cell_that_is_run_again_and_again(random_encoder: Path) -> None:
    deciders = []

    async def cell() -> AsyncRouter:
        router = await AsyncRouter.open(config=CONFIG, model=random_encoder, prefix_cache=False)
        assert (await router.route("fix it", deadline=PATIENCE_S)).reason is None
        deciders.append(weakref.ref(router.service.router.decider))
        return router

    router: AsyncRouter | None
    for _ in range(10):
        router = asyncio.run(cell())
        with pytest.warns(ResourceWarning, match="AsyncRouter"):
            router = None
        wait_for_threads()
        assert router is None
    assert [decider() for decider in deciders] == [None] * 10


def test_what_waits_is_still_decided(random_model: Path, gate: Gate) -> None:
    """Would break if the answer of ``RoutingService(...).submit(...)`` never came, since nobody holds the service."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    service.warm().result(PATIENCE_S)
    gate.close()
    futures = [service.submit(message) for message in MESSAGES]
    late = service.submit("fix it", deadline=0.01)
    with pytest.warns(ResourceWarning):
        del service
    assert late.result(PATIENCE_S).reason == "deadline"
    gate.open()
    assert [future.result(PATIENCE_S).reason for future in futures] == [None] * len(futures)
    wait_for_threads()


@pytest.mark.parametrize("end", [RoutingService.close, lambda service: service.__exit__(None, None, None)])
def test_a_closed_service_is_dropped_in_silence(random_encoder: Path, end: Callable[[RoutingService], None]) -> None:
    """Warnings are errors here."""
    service = RoutingService(Router(config=CONFIG, model=random_encoder, prefix_cache=False))
    end(service)
    del service
    assert not our_threads()
