"""Large route tables that come with a request: evaluated in slices, between which others have their turn."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from archroute_edge import Decision, Route, Router, RoutingService
from archroute_edge.deciders import _route_vectors as route_vectors
from archroute_edge.engine import Cancellation, EmbeddingEngine, EncodedText, Vectors
from tests.gate import PATIENCE_S
from tests.routing.conftest import CONFIG

LARGE = [Route(f"route {number}", f"{number} fix bugs and write code " * 40) for number in range(12)]


def test_a_large_table_holds_nobody_up(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if the texts of one caller's table were one turn, or if callers could keep it from ever being ready."""
    polite: list[Future[Decision]] = []
    is_asking, embed = True, EmbeddingEngine.embed

    def ask_and_embed(engine: EmbeddingEngine, texts: Sequence[EncodedText], cancellation: Cancellation) -> Vectors:
        # A message is far shorter than any of the routes.
        if is_asking and len(texts[0].tokens) > 50:
            assert all(each.done() for each in polite)
            polite.append(service.submit("please fix this bug", caller="polite"))
        return embed(engine, texts, cancellation)

    with RoutingService(Router(config=CONFIG, model=random_encoder, prefix_cache=False)) as service:
        service.warm().result(PATIENCE_S)
        monkeypatch.setattr(EmbeddingEngine, "embed", ask_and_embed)
        decision = service.submit("fix it", routes=LARGE, caller="greedy", scores=True).result(PATIENCE_S)
        assert all(each.result(PATIENCE_S).reason is None for each in polite)
        # Each part was interrupted so often, and then evaluated.
        assert len(polite) > 4
        assert len(polite) % (route_vectors._MOST_INTERRUPTIONS + 1) == 0
        assert decision.timings.total_ms >= decision.timings.wait_ms > 0
        is_asking = False
    with Router(config=CONFIG, model=random_encoder, prefix_cache=False) as alone:
        assert decision.scores == pytest.approx(alone.route("fix it", routes=LARGE, scores=True).scores, abs=1e-6)


def test_many_tables_at_once_are_all_finished(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if each gave way to the next, and what was finished of it was forgotten before its turn came again."""
    monkeypatch.setattr(route_vectors, "_MOST_BEGUN", 2)
    tables = [[Route(f"{number} {route.name}", route.description) for route in LARGE] for number in range(6)]
    with RoutingService(Router(config=CONFIG, model=random_encoder, prefix_cache=False)) as service:
        futures = [service.submit("fix it", routes=table, caller=str(number)) for number, table in enumerate(tables)]
        assert all(each.result(PATIENCE_S).reason is None for each in futures)
