"""Several callers at once: decisions a second and each caller's wait, ours and llama-server's with as many slots.

    python -m tools.measure.gpu.callers random-1.5B-Q8_0.gguf --llama-server work/build/bin/llama-server

Each caller asks its next question when it has its answer. All get fresh messages over the model card's five routes, of one
length, and are held to the same answer (docs/peers.md).
"""

from __future__ import annotations

import itertools
import json
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from archroute_edge import RoutingService
from archroute_edge.engine import physical_cores
from archroute_edge.report import p95
from tools.measure.peers.llama_server import LlamaServer
from tools.measure.peers.ours import EXAMPLE, ArchRoute, agreeing
from tools.measure.peers.question import Question, fresh_messages


def alike(asker: ArchRoute) -> Iterator[Question]:
    """Questions whose prompts are of one length."""
    length = None
    for message in fresh_messages():
        question = asker.ask(EXAMPLE, message)
        length = length or len(question.prompt)
        if len(question.prompt) == length:
            yield question


def measure(decide: Callable[[Question, int], object], callers: int, questions: list[Question]) -> dict[str, Any]:
    """Let the callers ask all questions, after one each to warm up; seconds and rates."""
    waiting = iter(questions)
    lock = threading.Lock()
    seconds: list[float] = []

    def ask(caller: int) -> None:
        while True:
            with lock:
                question = next(waiting, None)
            if question is None:
                return
            started = time.perf_counter()
            decide(question, caller)
            with lock:
                seconds.append(time.perf_counter() - started)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(decide, questions[:callers], range(callers)))
        for _ in range(callers):
            next(waiting)
        started = time.perf_counter()
        list(pool.map(ask, range(callers)))
        whole = time.perf_counter() - started
    return {
        "decisions": len(seconds),
        "decisions_per_s": len(seconds) / whole,
        "median_s": statistics.median(seconds),
        "p95_s": p95(seconds),
    }


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--llama-server", type=click.Path(exists=True, path_type=Path), help="Left out, it is not compared.")
@click.option("--callers", type=click.IntRange(min=2), default=8, show_default=True, help="Callers at once.")
@click.option("--questions", type=click.IntRange(min=1), default=10, show_default=True, help="Questions a caller.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
def main(model: Path, llama_server: Path | None, callers: int, questions: int, threads: int | None) -> None:
    """Print both sides' figures as JSON."""
    # SIGTERM ends the server too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    n_threads = threads or physical_cores()
    ours = ArchRoute(str(model), n_threads)
    asked = list(itertools.islice(alike(ours), callers * (questions + 1)))
    service = RoutingService(ours.router, queue_limit=callers)
    with agreeing(asked[0].answer_tokens, len(asked[0].prompt)):
        found = {
            "archroute-edge": measure(
                lambda question, caller: service.submit(question.message, caller=str(caller)).result(), callers, asked
            )
        }
    service.close()
    if llama_server is not None:
        with LlamaServer(llama_server, model, n_threads, slots=callers) as server:
            found["llama-server"] = measure(lambda question, caller: server.decide(question), callers, asked)
    print(json.dumps({"model": model.name, "callers": callers, "threads": n_threads, "sides": found}, indent=2))


if __name__ == "__main__":
    main()
