"""How long an encoder's decisions take: by length of the message, by number of routes, and from the start of a process.

    python -m tools.measure.encoder_times models/mini-Q8_0.gguf --rounds 60
    python -m tools.measure.encoder_times models/mini-Q8_0.gguf --beside training/mini/teacher-Q8_0.gguf
    python -m tools.measure.encoder_times models/mini-Q8_0.gguf --engine ik --beside models/mini-Q8_0.gguf

Warm decisions on fresh messages, interleaved over lengths and tables; medians and 95th percentiles in milliseconds. The first
decision is that of a Python program, from the start of its process to the decision; an earlier run has saved the route vectors.
A second encoder, which llama.cpp evaluates, decides on messages of the same lengths in turn with the first: the ratios of their
medians hold even if other work makes both slower.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import Any

import click

from archroute_edge import Router, RouteTable
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.conversation import Turn
from archroute_edge.deciders import conversation_text
from archroute_edge.engine import ENGINES, EmbeddingEngine, LoadedModel, WantedEngine, physical_cores
from archroute_edge.report import p95
from tools.measure.peers.ours import table_of

_LENGTHS = (16, 24, 64, 128)
_N_ROUTES = (10, 100)
_WORDS = (
    "please look at this again and say why the invoice of last month was sent twice to our office in the city while "
    "nobody had asked for it and what we should tell the customer about the delay of the parcel before friday"
)
# What an application does; its own start and imports count.
_PROGRAM = """
import json, sys, time
started = float(sys.argv[1])
from archroute_edge import Route, Router
model, folder, threads, routes, engine = sys.argv[2], sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5]), sys.argv[6]
with Router([Route(*each) for each in routes], model=model, prefix_cache=folder, threads=threads, engine=engine) as router:
    decision = router.route("why was the invoice sent twice?")
    print(json.dumps(time.time() - started))
"""


def message_of(engine: EmbeddingEngine, n_tokens: int, draw: random.Random) -> str:
    """A fresh message whose conversation is `n_tokens` tokens, those of the encoder's own included."""
    words: list[str] = []
    while _n_tokens(engine, words) < n_tokens:
        words.append(draw.choice(_WORDS.split()))
    while _n_tokens(engine, words) > n_tokens:
        words.pop()
    return " ".join(words)


def _n_tokens(engine: EmbeddingEngine, words: list[str]) -> int:
    turns = [Turn("user", " ".join(words) or "a")]
    return len(engine.encode(conversation_text(turns)).tokens)


def first_decision(model: Path, table: RouteTable, folder: str, threads: int, engine: str) -> float:
    """Seconds from the start of a process to its first decision."""
    routes = json.dumps([[route.name, route.description] for route in table])
    command = [sys.executable, "-c", _PROGRAM, repr(time.time()), str(model), folder, str(threads), routes, engine]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _open(
    stack: ExitStack, model: Path, tables: Mapping[int, RouteTable], n_threads: int, engine_name: WantedEngine
) -> tuple[Router, EmbeddingEngine]:
    """A router with `model` that knows all tables, and an engine that counts its tokens; both closed with `stack`."""
    counting = stack.enter_context(LoadedModel(model, wanted="encoder"))
    engine = stack.enter_context(closing(EmbeddingEngine(counting, 1)))
    settings: dict[str, Any] = {"threads": n_threads, "prefix_cache": False, "engine": engine_name}
    router = stack.enter_context(Router(tables[_N_ROUTES[0]], model=model, **settings))
    for table in tables.values():
        router.warm(routes=table)
    return router, engine


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=2), default=60, show_default=True, help="Messages of each kind.")
@click.option("--beside", "other", type=click.Path(exists=True, path_type=Path), help="An encoder to compare with.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--engine", type=click.Choice(ENGINES), default="llama.cpp", show_default=True, help="What evaluates MODEL.")
def main(model: Path, rounds: int, other: Path | None, threads: int | None, engine: WantedEngine) -> None:
    """Print the times as JSON."""
    n_threads = threads or physical_cores()
    draw = random.Random(7)
    tables = {number: table_of(number) for number in _N_ROUTES}
    cells = list(product(_LENGTHS, _N_ROUTES))
    times, times_beside = ({cell: list[float]() for cell in cells} for _ in range(2))
    with ExitStack() as stack:
        opened = [_open(stack, model, tables, n_threads, engine)]
        if other is not None:
            opened.append(_open(stack, other, tables, n_threads, "llama.cpp"))
        line = stack.enter_context(ProgressLine())
        for turn in range(rounds + 2):
            for length, number in cells:
                for (router, counting), taken in zip(opened, (times, times_beside), strict=False):
                    message = message_of(counting, length, draw)
                    started = time.perf_counter()
                    router.route(message, routes=tables[number])
                    if turn >= 2:
                        taken[length, number].append(1000 * (time.perf_counter() - started))
            line("rounds", turn + 1, rounds + 2)
    with tempfile.TemporaryDirectory() as folder:
        first_decision(model, tables[10], folder, n_threads, engine)
        if not any(Path(folder).iterdir()):
            raise click.ClickException("no route vectors were saved; there is nothing to start warm with")
        starts = [first_decision(model, tables[10], folder, n_threads, engine) for _ in range(9)]
    report = {
        "model": model.name,
        "engine": engine,
        "threads": n_threads,
        "decisions": [
            {
                "tokens": length,
                "routes": number,
                "median_ms": round(statistics.median(taken), 2),
                "p95_ms": p95(taken, 2),
            }
            for (length, number), taken in times.items()
        ],
        "routes_100_over_10": {
            str(length): round(statistics.median(times[length, 100]) / statistics.median(times[length, 10]), 3)
            for length in _LENGTHS
        },
        "first_decision_of_a_process_s": {"median": round(statistics.median(starts), 3), "most": round(max(starts), 3)},
    }
    if other is not None:
        ratios = {cell: statistics.median(times[cell]) / statistics.median(times_beside[cell]) for cell in cells}
        report["beside"] = {
            "model": other.name,
            "ratios": [
                {"tokens": length, "routes": number, "ratio": round(ratio, 2)} for (length, number), ratio in ratios.items()
            ],
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
