"""Routing from asyncio: the loop never waits, and cancelling a task stops its evaluation."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import AsyncRouter, Route, Router, RoutingService
from archroute_edge.errors import ConversationError, SettingsError
from tests.gate import PATIENCE_S, Gate, our_threads

ROUTES = [Route("bug_fixing", "fixing errors in code"), Route("poems", "writing poems")]
MESSAGES = [f"question number {number} about my code" for number in range(16)]


@pytest.fixture
def settings(random_model: Path) -> dict[str, Any]:
    return {"model": random_model, "prefix_cache": False, "threads": 1}


def test_many_tasks_get_the_routers_answers(settings: dict[str, Any]) -> None:
    async def ask() -> list[str]:
        async with await AsyncRouter.open(ROUTES, **settings) as router:
            warmed = await router.warm()
            assert warmed.tokens > 0
            assert (await router.warm(MESSAGES[0], whole=True)).tokens > warmed.tokens
            assert (await router.route(MESSAGES[0])).tokens.evaluated == 0
            decisions = await asyncio.gather(*(router.route(message, deadline=PATIENCE_S) for message in MESSAGES))
            many = await router.route_many(MESSAGES)
            assert [each.route for each in many] == [each.route for each in decisions]
            with pytest.raises(ConversationError):
                await router.route([{"role": "nobody", "content": "x"}])
            return [each.route for each in decisions]

    found = asyncio.run(ask())
    with Router(ROUTES, **settings) as router:
        assert found == [router.route(message).route for message in MESSAGES]
    assert not our_threads()


def test_the_loop_runs_while_a_model_decides(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if waiting for a decision, or for the queue, were done in the loop's thread."""
    gate = Gate(monkeypatch)

    async def ask() -> None:
        async with await AsyncRouter.open(ROUTES, **settings) as router:
            await router.warm()
            gate.close()
            tasks = [asyncio.create_task(router.route(message)) for message in MESSAGES[:3]]
            late = await router.route("fix it", deadline=0.05)
            assert late.reason == "deadline"
            assert not any(task.done() for task in tasks)
            gate.open()
            assert all(decision.reason is None for decision in await asyncio.gather(*tasks))

    asyncio.run(ask())


def test_a_cancelled_task_stops_its_evaluation(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate stays closed: only a flag that reaches the evaluation lets the second decision begin."""
    gate = Gate(monkeypatch)

    async def ask() -> None:
        async with await AsyncRouter.open(ROUTES, **settings) as router:
            await router.warm()
            gate.close()
            task = asyncio.create_task(router.route("a question that takes long"))
            await asyncio.to_thread(gate.wait_for_arrival)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while router.service.stats().running:
                await asyncio.sleep(0.001)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(router.route("another one"), 0.05)
            gate.open()
            assert (await router.route("another one")).reason is None
            assert router.service.stats().cancelled == 2

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))


def test_opening_does_not_hold_up_the_loop(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    may_load, loading = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Router:
        loading.set()
        assert may_load.wait(PATIENCE_S)
        return Router(*arguments, **options)

    monkeypatch.setattr("archroute_edge.routing._async_router.Router", slow)

    async def ask() -> None:
        opening = asyncio.create_task(AsyncRouter.open(ROUTES, **settings))
        while not loading.is_set():
            await asyncio.sleep(0.001)
        may_load.set()
        async with await opening as router:
            assert (await router.route("fix it")).route

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
    with pytest.raises(SettingsError):
        asyncio.run(AsyncRouter.open(ROUTES, **settings, n_ctx=-3))


def test_a_shared_service_stays_open(settings: dict[str, Any]) -> None:
    async def ask(service: RoutingService) -> str:
        async with AsyncRouter.over(service) as router:
            return (await router.route("fix it")).route

    with RoutingService(Router(ROUTES, **settings)) as service:
        assert asyncio.run(ask(service)) == asyncio.run(ask(service)) == service.submit("fix it").result(PATIENCE_S).route
