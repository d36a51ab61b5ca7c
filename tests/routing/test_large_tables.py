"""Large route tables that come with a request: evaluated in slices, between which others have their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from archroute_edge import Decision, Route, Router, RoutingService
from archroute_edge.deciders import _route_vectors as route_vectors
from archroute_edge.deciders._route_vectors import RouteVectors
from archroute_edge.engine import Cancellation, EmbeddingEngine, EncodedText, Vectors
from tests.gate import PATIENCE_S
from tests.routing.conftest import CONFIG

LARGE = [Route(f"route {number}", f"{number} fix bugs and write code " * 40) for number in range(12)]


@pytest.fixture
def service(random_encoder: Path) -> Iterator[RoutingService]:
    with RoutingService(Router(config=CONFIG, model=random_encoder, prefix_cache=False)) as service:
        service.warm().result(PATIENCE_S)
        yield service


@pytest.fixture
def in_each_slice(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something happen whenever a part of a table is about to be evaluated."""

    def let(happen: Callable[[], None]) -> None:
        is_slice = False
        evaluate, embed = RouteVectors._evaluate, EmbeddingEngine.embed

        def noted(*arguments: object) -> Vectors:
            nonlocal is_slice
            is_slice = True
            return evaluate(*arguments)  # type: ignore[arg-type]

        def embedded(engine: EmbeddingEngine, texts: Sequence[EncodedText], cancellation: Cancellation) -> Vectors:
            nonlocal is_slice
            if is_slice:
                is_slice = False
                happen()
            return embed(engine, texts, cancellation)

        monkeypatch.setattr(RouteVectors, "_evaluate", noted)
        monkeypatch.setattr(EmbeddingEngine, "embed", embedded)

    return let


def test_a_large_table_holds_nobody_up(service: RoutingService, in_each_slice: Callable[[Callable[[], None]], None]) -> None:
    """Would break if the texts of one caller's table were one turn, or if callers could keep it from ever being ready."""
    polite: list[Future[Decision]] = []
    n_slices = 0
    asking = True

    def ask() -> None:
        nonlocal n_slices
        if not asking:
            return
        n_slices += 1
        assert all(each.done() for each in polite)
        polite.append(service.submit("please fix this bug", caller="polite"))

    in_each_slice(ask)
    large = service.submit("fix it", routes=LARGE, caller="greedy", scores=True)
    decision = large.result(PATIENCE_S)
    assert all(each.result(PATIENCE_S).reason is None for each in polite)
    # Each part was interrupted so often, and then evaluated.
    assert n_slices > 4
    assert n_slices % (route_vectors._MOST_INTERRUPTIONS + 1) == 0
    assert decision.timings.total_ms >= decision.timings.wait_ms > 0
    asking = False
    with Router(config=CONFIG, model=service.router.model_file.path, prefix_cache=False) as alone:
        assert decision.scores == pytest.approx(alone.route("fix it", routes=LARGE, scores=True).scores, abs=1e-6)


def test_many_tables_at_once_are_all_finished(service: RoutingService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if each gave way to the next, and what was finished of it was forgotten before its turn came again."""
    monkeypatch.setattr(route_vectors, "_MOST_BEGUN", 2)
    tables = [[Route(f"{number} {route.name}", route.description) for route in LARGE] for number in range(6)]
    futures = [service.submit("fix it", routes=table, caller=str(number)) for number, table in enumerate(tables)]
    assert all(each.result(PATIENCE_S).reason is None for each in futures)
