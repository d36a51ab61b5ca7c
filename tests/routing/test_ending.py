"""The routing service: what becomes of requests at its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archroute_edge import Decision, Router, RoutingService
from archroute_edge.errors import ServiceClosedError
from archroute_edge.routing import _service_worker as service_worker
from tests.gate import PATIENCE_S, Gate, our_threads
from tests.routing.conftest import CONFIG, MESSAGES

pytestmark = pytest.mark.usefixtures("tried_kernels")


@pytest.mark.parametrize("timeout", [None, 0.05])
def test_closing(random_model: Path, gate: Gate, timeout: float | None) -> None:
    """With time enough what waits is finished; else it hears that it is not."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    service.warm().result(PATIENCE_S)
    assert not service.is_closed
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
    assert service.is_closed
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


def test_closing_between_two_conversations_of_a_list(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a list were nowhere to be found while it goes back to the queue: all of it would still be decided."""
    service = RoutingService(Router(config=CONFIG, model=random_model, prefix_cache=False))
    service.warm().result(PATIENCE_S)

    def close_now(decision: Decision, _seconds: float) -> Decision:
        service.close(drain=False)
        return decision

    monkeypatch.setattr(service_worker, "with_waiting", close_now)
    with pytest.raises(ServiceClosedError):
        service.submit_many(MESSAGES).result(PATIENCE_S)
    monkeypatch.undo()
    service.close()


def test_a_program_that_ends_does_not_finish_what_goes_on() -> None:
    """Would break if a window could be closed only when a model is loaded, or a prefix evaluated, that nobody needs now."""
    script = (
        "import time\n"
        "from archroute_edge import Cancellation\n"
        "from archroute_edge.deciders._background import BackgroundWork\n"
        "from archroute_edge.errors import DecisionCancelledError\n"
        "try:\n"
        "    with Cancellation().until(0.05) as limit:\n"
        "        BackgroundWork().finish('work', lambda closing: closing.wait_until(time.sleep), limit)\n"
        "except DecisionCancelledError:\n"
        "    print('late')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "late\n", "")


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


def test_a_program_that_ends_while_a_thread_decides(random_model: Path) -> None:
    """Would break if a model were freed under the hands of a thread that the interpreter does not wait for."""
    script = (
        "import sys, threading\n"
        "from contextlib import suppress\n"
        "from archroute_edge import Route, Router\n"
        "from archroute_edge.errors import DecisionCancelledError\n"
        "router = Router([Route('a')], model=sys.argv[1], prefix_cache=False, threads=1, budget=8000)\n"
        "decided = threading.Event()\n"
        "def decide():\n"
        "    with suppress(DecisionCancelledError):\n"
        "        while True:\n"
        "            router.route('a question')\n"
        "            decided.set()\n"
        "            router.route('a very long question ' * 2000)\n"
        "threading.Thread(target=decide, daemon=True).start()\n"
        "decided.wait()\n"
        "print('fine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(random_model)], capture_output=True, text=True, check=False, timeout=PATIENCE_S * 2
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
