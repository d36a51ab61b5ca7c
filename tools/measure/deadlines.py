"""Requests sent together to a service, each with a deadline: how late is the latest answer?

    python -m tools.measure.deadlines random-1.5B-Q4_0.gguf --deadline 0.3 --requests 50

The routes are evaluated before (not with ``--cold``), so that some requests are decided in time; the others get the fallback.
Lateness is measured at the caller: when the future has its answer.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, wait
from itertools import islice

import click

from archroute_edge import Decision, Router, RoutingService
from archroute_edge.cli.options import read_config
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import ENGINES, WantedEngine
from archroute_edge.report import p95
from tools.measure.peers.question import fresh_messages


@click.command()
@click.argument("model")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=0.3, show_default=True, help="Seconds.")
@click.option("--requests", type=click.IntRange(min=1), default=50, show_default=True, help="Requests fired together.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often they are fired.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Length, in messages of 40 tokens.")
@click.option("--direct", is_flag=True, help="Router.route from a thread a request, without a service.")
@click.option("--engine", type=click.Choice(ENGINES), default="llama.cpp", show_default=True, help="What evaluates.")
@click.option("--cold", is_flag=True, help="Evaluate no route table before the first round.")
@click.option("--allowed-ms", type=click.FloatRange(0), default=50.0, show_default=True, help="How late an answer may be.")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    model: str,
    deadline: float,
    requests: int,
    rounds: int,
    threads: int | None,
    repeat: int,
    direct: bool,
    engine: WantedEngine,
    cold: bool,
    allowed_ms: float,
) -> None:
    """Print the answers' lateness as JSON; exit with 1 if one was later than allowed."""
    router = Router(config=read_config(None).config, model=model, threads=threads, engine=engine, prefix_cache=False)
    if not cold:
        router.warm()
    service = None if direct else RoutingService(router, queue_limit=requests)
    if service is not None and not cold:
        service.warm().result()
    messages = (f"{message} " * repeat for message in fresh_messages())
    late_ms: list[float] = []
    n_decided = 0
    with ProgressLine() as progress:
        for number in range(rounds):
            fired = _fire(router, service, list(islice(messages, requests)), deadline)
            late_ms += [late for late, _ in fired]
            n_decided += sum(decision.reason is None for _, decision in fired)
            progress("rounds", number + 1, rounds)
    if service is None:
        router.close()
    else:
        service.close(drain=False)
    report = {
        "model": router.model_file.name,
        "deadline_s": deadline,
        "requests": requests,
        "rounds": rounds,
        "message_repeated": repeat,
        "through": "Router.route" if direct else "RoutingService",
        "decided_in_time": n_decided,
        "answered_at_the_deadline": len(late_ms) - n_decided,
        "latest_ms_past_the_deadline": max(late_ms),
        "p95_ms_past_the_deadline": p95(late_ms),
        "later_than_allowed": sum(late > allowed_ms for late in late_ms),
        "allowed_ms": allowed_ms,
    }
    print(json.dumps(report, indent=2))
    ctx.exit(int(max(late_ms) > allowed_ms))


def _fire(router: Router, service: RoutingService | None, messages: list[str], deadline: float) -> list[tuple[float, Decision]]:
    """Ask for all at once: by how many milliseconds each answer came after its deadline (negative: before), and the answer."""
    ended: list[float] = [0.0] * len(messages)
    started: list[float] = [0.0] * len(messages)
    futures: list[Future[Decision]] = []

    def end(number: int) -> None:
        ended[number] = time.perf_counter()

    def ask(number: int, future: Future[Decision]) -> None:
        started[number] = time.perf_counter()
        decision = router.route(messages[number], deadline=deadline)
        end(number)
        future.set_result(decision)

    for number, message in enumerate(messages):
        if service is not None:
            started[number] = time.perf_counter()
            futures.append(service.submit(message, deadline=deadline, caller=str(number % 4)))
            futures[-1].add_done_callback(lambda _future, number=number: end(number))  # type: ignore[misc]
        else:
            futures.append(Future())
            threading.Thread(target=ask, args=(number, futures[-1])).start()
    wait(futures)
    # A callback runs just after the waiting thread is woken.
    while not all(ended):
        time.sleep(0.001)
    return [
        (1000 * (end - start - deadline), future.result()) for start, end, future in zip(started, ended, futures, strict=True)
    ]


if __name__ == "__main__":
    main()
