"""How long llama.cpp's threads should wait by spinning: decisions at several values of GOMP_SPINCOUNT, interleaved.

    python -m tools.measure.spinning random-1.5B-Q4_0.gguf --rounds 15
    python -m tools.measure.spinning models/tiny-Q8_0.gguf --busy 2 --rounds 40

GNU OpenMP reads the variable when it is loaded, so each value gets its own process; `--busy` starts as many other processes
that only compute. Prints medians in milliseconds, and their ratio to the first value's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import physical_cores

_VALUES = ("300000", "30000", "10000", "3000", "1000")
_WORKER = "from tools.measure.spinning import work; work()"
_BUSY = "while True: pass"


def work() -> None:
    """Answer each line on stdin with the seconds of a warm first turn."""
    from tools.measure.peers.ours import EXAMPLE, ArchRoute
    from tools.measure.peers.question import fresh_messages

    peer, messages = ArchRoute(sys.argv[1], int(sys.argv[2])), fresh_messages()
    peer.decide(peer.ask(EXAMPLE, next(messages)))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(peer.decide(peer.ask(EXAMPLE, next(messages))).seconds, flush=True)


def _ask(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@click.command()
@click.argument("model", type=click.Path(exists=True))
@click.option("--rounds", type=click.IntRange(min=2), default=15, show_default=True, help="Messages a value.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--busy", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that compute beside them.")
def main(model: str, rounds: int, threads: int | None, busy: int) -> None:
    """Print the medians as JSON."""
    command = [sys.executable, "-c", _WORKER, model, str(threads or physical_cores())]
    times: dict[str, list[float]] = {value: [] for value in _VALUES}
    with ExitStack() as stack, ProgressLine() as line:
        processes = {}
        for value in _VALUES:
            processes[value] = subprocess.Popen(
                command,
                env={**os.environ, "GOMP_SPINCOUNT": value},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(processes[value].kill)
        for process in processes.values():
            assert process.stdout is not None
            process.stdout.readline()
        for _ in range(busy):
            stack.callback(subprocess.Popen([sys.executable, "-c", _BUSY]).kill)
        time.sleep(1)
        for turn in range(rounds):
            first = turn % len(_VALUES)
            for value in (*_VALUES[first:], *_VALUES[:first]):
                times[value].append(1000 * _ask(processes[value]))
            line("rounds", turn + 1, rounds)
    medians = {value: statistics.median(taken) for value, taken in times.items()}
    ratios = {value: round(median / medians[_VALUES[0]], 3) for value, median in medians.items()}
    print(json.dumps({"model": model, "busy": busy, "median_ms": medians, "ratio": ratios}, indent=2))


if __name__ == "__main__":
    main()
