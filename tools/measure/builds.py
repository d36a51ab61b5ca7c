"""Decisions with two builds of llama.cpp, interleaved: this environment's, and another interpreter's.

    python -m tools.measure.builds OTHER_PYTHON models/mini-Q8_0.gguf models/tiny-Q8_0.gguf random-1.5B-Q4_0.gguf

Warm decisions on new one-message conversations over the five example routes; a language model is held to the answer that a
trained one would give. Prints medians in milliseconds, and the ratio of the other build's to this one's: of wall-clock time,
and of processor time, which says more if other programs use the cores (then with `--threads 1`: threads that wait for each
other spin). The other environment has archroute-edge's dependencies; the package itself is taken from this clone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from archroute_edge import Router
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import physical_cores, read_header
from tools.measure.peers.ours import EXAMPLE, ArchRoute, route_table
from tools.measure.peers.question import fresh_messages

_CLONE = Path(__file__).parents[2]
_WORKER = "from tools.measure.builds import work; work()"


def work() -> None:
    """Answer each line on stdin with the milliseconds of a decision, on the clock and of the processor."""
    decide, messages = _decider(sys.argv[1], int(sys.argv[2])), fresh_messages()
    decide(next(messages))
    print("ready", flush=True)
    for _ in sys.stdin:
        message = next(messages)
        started, computed = time.perf_counter(), time.process_time()
        decide(message)
        print(1000 * (time.perf_counter() - started), 1000 * (time.process_time() - computed), flush=True)


def _decider(model: str, threads: int) -> Callable[[str], object]:
    if read_header(model).architecture == "bert":
        return Router(route_table(EXAMPLE), model=model, threads=threads, prefix_cache=False).route
    held = ArchRoute(model, threads)
    return lambda message: held.decide(held.ask(EXAMPLE, message))


def _ask(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return [float(value) for value in process.stdout.readline().split()]


@click.command()
@click.argument("other", metavar="OTHER_PYTHON")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(exists=True, resolve_path=True))
@click.option("--rounds", type=click.IntRange(min=2), default=30, show_default=True, help="Messages a build and model.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
def main(other: str, models: tuple[str, ...], rounds: int, threads: int | None) -> None:
    """Print the medians as JSON."""
    found = {}
    for model in models:
        this, others = _measure((sys.executable, other), model, rounds, threads or physical_cores())
        found[Path(model).name] = {
            name: {"this_ms": round(mine, 2), "other_ms": round(theirs, 2), "ratio": round(theirs / mine, 3)}
            for name, mine, theirs in zip(("clock", "processor"), this, others, strict=True)
        }
    print(json.dumps(found, indent=2))


def _measure(pythons: tuple[str, ...], model: str, rounds: int, threads: int) -> list[list[float]]:
    """Each interpreter's median times."""
    times: list[list[list[float]]] = [[] for _ in pythons]
    with ExitStack() as stack, ProgressLine() as line:
        processes = []
        for python in pythons:
            process = subprocess.Popen(
                [python, "-c", _WORKER, model, str(threads)],
                env={**os.environ, "PYTHONPATH": str(_CLONE)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.kill)
            processes.append(process)
        for python, process in zip(pythons, processes, strict=True):
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise click.ClickException(f"{python} cannot decide with {model}")
        for turn in range(rounds):
            # Every second round backwards, so that a machine that gets busy slows both alike.
            for index in range(len(pythons))[:: -1 if turn % 2 else 1]:
                times[index].append(_ask(processes[index]))
            line(Path(model).name, turn + 1, rounds)
    return [[statistics.median(values) for values in zip(*each, strict=True)] for each in times]


if __name__ == "__main__":
    main()
