"""Callbacks of futures that want to end the thread, which is the service's."""

from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Decision, Router, RoutingService
from archroute_edge.errors import ServiceClosedError
from archroute_edge.routing._service_worker import ServiceWorker
from tests.gate import PATIENCE_S, Gate
from tests.routing.conftest import CONFIG, MESSAGES


def leave(_future: Future[Any]) -> None:
    """What a callback does that takes its thread for the program's."""
    sys.exit(1)


def stop(_future: Future[Any]) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("callback", [leave, stop])
def test_the_service_goes_on(
    service: RoutingService, gate: Gate, caplog: pytest.LogCaptureFixture, callback: Any, busy: Future[Decision]
) -> None:
    """Would break if the worker ended without a word: all later calls said that somebody had closed the service."""
    called = threading.Event()
    busy.add_done_callback(callback)
    # Of asyncio, for instance.
    busy.add_done_callback(lambda _future: called.set())
    with caplog.at_level(logging.ERROR):
        gate.open()
        assert called.wait(PATIENCE_S)
    assert callback.__name__ in caplog.text
    assert service.submit("fix it").result(PATIENCE_S).reason is None
    assert not service.is_closed


def test_deadlines_go_on(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """They are answered by another thread, which has callbacks too."""
    for message in MESSAGES[:3]:
        late = service.submit(message, deadline=0.01)
        late.add_done_callback(leave)
        assert late.result(PATIENCE_S).reason == "deadline"
    gate.open()
    assert busy.result(PATIENCE_S).reason is None


def test_a_warm_up_that_is_given_up(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    warming = service.warm("I am typing")
    warming.add_done_callback(leave)
    closing = threading.Thread(target=service.close)
    closing.start()
    gate.open()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert warming.cancelled()
    assert busy.result(0).reason is None


def test_closing_tells_all_that_wait(random_model: Path, gate: Gate) -> None:
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    gate.close()
    futures = [service.submit(message) for message in MESSAGES]
    for future in futures:
        future.add_done_callback(leave)
    service.close(drain=False)
    for future in futures:
        with pytest.raises(ServiceClosedError):
            future.result(0)


def test_in_a_thread_of_ones_own_it_does_end_that(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """Would break if Ctrl-C, or sys.exit, were swallowed where the program itself cancels or adds a callback."""
    busy.add_done_callback(leave)
    with pytest.raises(SystemExit):
        busy.cancel()
    with pytest.raises(SystemExit):
        busy.add_done_callback(leave)
    gate.open()
    assert service.submit("fix it").result(PATIENCE_S).reason is None


def test_a_thread_that_ended_on_an_error_says_so(
    random_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Would break if later calls were told that the service has been closed, and nobody said why."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    service.warm().result(PATIENCE_S)

    def fail(_worker: ServiceWorker) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(ServiceWorker, "_next", fail)
    service.submit("fix it").exception(PATIENCE_S)
    service.close()
    assert service.is_closed
    with pytest.raises(ServiceClosedError, match=r"ended on an error: MemoryError\('no room'\)"):
        service.submit("fix it")
    assert "MemoryError" in caplog.text
