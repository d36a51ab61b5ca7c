"""How long a typed message waits for its route after Enter: cold, warmed at pauses, and decided at the last one.

    python -m tools.measure.typing_pauses random-1.5B-Q4_0.gguf --messages 100 --pause 0.3 --pause 1

Each message is typed in two parts, with a pause after each; Enter ends the second one. In a pause, `warm` is called after
``--warm-after`` seconds without a key, and `warm(whole=True)` after ``--whole-after``, as `examples/typing_app.py` does. The
three ways are measured in turn, each on messages of its own. Prints medians, and their ratios to the cold ones, as JSON.

With ``--processor-time``, time passes as on a machine that has nothing else to do: while the router has work to do, pauses and
answers are measured in its processor time. That is right for one thread.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from archroute_edge import Router, RoutingService
from archroute_edge.cli.options import read_config
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.report import p95
from tools.measure.peers.question import fresh_messages

_LOOK_EVERY_S = 0.002


@dataclass
class _Way:
    """A way to get a typed message routed, and what was measured of it.

    Args:
        after: seconds without a key, and what is then called with the text so far.
    """

    after: list[tuple[float, Callable[[str], Future[Any]]]]
    seconds: list[float] = field(default_factory=list)
    n_evaluated: list[int] = field(default_factory=list)


class _Clock:
    """Seconds, of the clock or as they would pass on an idle machine.

    Args:
        is_processor_time: whether processor time counts while something is to be done.
    """

    def __init__(self, is_processor_time: bool) -> None:
        self._is_processor_time = is_processor_time
        self._pending: list[Future[Any]] = []

    def await_(self, future: Future[Any]) -> None:
        """Note something that is to be done."""
        self._pending.append(future)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        if not self._is_processor_time:
            time.sleep(max(0.0, seconds))
            return
        passed, before, used_before = 0.0, time.perf_counter(), time.process_time()
        while passed < seconds:
            time.sleep(_LOOK_EVERY_S)
            now, used = time.perf_counter(), time.process_time()
            self._pending = [each for each in self._pending if not each.done()]
            passed += used - used_before if self._pending else now - before
            before, used_before = now, used

    def now(self) -> float:
        """The time, while the router has something to do."""
        return time.process_time() if self._is_processor_time else time.perf_counter()


@click.command()
@click.argument("model")
@click.option("--messages", type=click.IntRange(min=2), default=100, show_default=True, help="Messages of each kind.")
@click.option(
    "--pause",
    "pauses",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    default=[0.3],
    show_default=True,
    help="Seconds.",
)
@click.option("--warm-after", type=click.FloatRange(0), default=0.1, show_default=True, help="Seconds without a key.")
@click.option("--whole-after", type=click.FloatRange(0), default=0.2, show_default=True, help="Seconds without a key.")
@click.option("--processor-time", is_flag=True, help="For a busy machine, with --threads 1.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
def main(
    model: str,
    messages: int,
    pauses: tuple[float, ...],
    warm_after: float,
    whole_after: float,
    processor_time: bool,
    threads: int | None,
) -> None:
    """Measure the time from Enter to the route, for each pause."""
    router = Router(config=read_config(None).config, model=model, threads=threads, prefix_cache=False)
    report = {
        "model": "+".join(file.name for file in router.model_files),
        "messages": messages,
        "clock": "processor time" if processor_time else "wall",
    }
    typed, clock = fresh_messages(), _Clock(processor_time)
    with RoutingService(router) as service, ProgressLine() as progress:
        service.warm().result()
        warm = (warm_after, service.warm)
        whole = (whole_after, partial(service.warm, whole=True))
        # A cascade loads its second model when it is first needed.
        service.submit(next(typed)).result()
        found = []
        for pause in pauses:
            ways = {"cold": _Way([]), "warm": _Way([warm]), "whole": _Way([warm, whole])}
            for number in range(messages):
                progress(f"pauses of {pause:g} s", number, messages)
                for way in ways.values():
                    _type(service, way, next(typed), pause, clock)
            found.append({"pause_s": pause, **_figures(ways)})
    print(json.dumps({**report, "warm_after_s": warm_after, "whole_after_s": whole_after, "pauses": found}, indent=2))


def _type(service: RoutingService, way: _Way, message: str, pause: float, clock: _Clock) -> None:
    """Type a message, press Enter, and wait for its route."""
    for text in (message[: message.index(" ", len(message) // 2)], message) if way.after else ():
        passed = 0.0
        for seconds, call in way.after:
            if seconds < pause:
                clock.sleep(seconds - passed)
                clock.await_(call(text))
                passed = seconds
        clock.sleep(pause - passed)
    began = clock.now()
    decision = service.submit(message).result()
    way.seconds.append(clock.now() - began)
    way.n_evaluated.append(decision.tokens.evaluated)


def _figures(ways: dict[str, _Way]) -> dict[str, object]:
    cold = statistics.median(ways["cold"].seconds)
    return {
        name: {
            "median_ms": round(1000 * statistics.median(way.seconds), 2),
            "p95_ms": p95([1000 * each for each in way.seconds], 2),
            "of_cold": round(statistics.median(way.seconds) / cold, 4),
            "evaluated_tokens": statistics.median(way.n_evaluated),
            "answered_by_the_pause": sum(not each for each in way.n_evaluated),
        }
        for name, way in ways.items()
    }


if __name__ == "__main__":
    main()
