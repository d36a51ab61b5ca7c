"""How long llama.cpp's threads should wait by spinning: decisions at several settings of GNU OpenMP, interleaved.

    python -m tools.measure.spinning random-1.5B-Q4_0.gguf --rounds 15
    python -m tools.measure.spinning models/mini-Q8_0.gguf --busy 2 --rounds 40

A setting is a value of GOMP_SPINCOUNT and, behind a ``+``, one of OMP_WAIT_POLICY. OpenMP reads both when it is loaded, so each
setting gets its own process. The router's own thread warms the routes, and the caller's decides: so each process has two pools
of threads, as in most programs that have one; ``--one-pool`` leaves the first out. ``--busy`` starts as many other processes
that only compute. Prints medians in milliseconds, and their ratio to the first setting's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import physical_cores

_OPENMPS_OWN = "300000"
_SETTINGS = (_OPENMPS_OWN, "30000+active", "10000+active", "3000+active", "1000+active", "1000")
_WORKER = "from tools.measure.spinning import work; work()"
_BUSY = "while True: pass"


def work() -> None:
    """Answer each line on stdin with the seconds of a warm first turn."""
    from archroute_edge import Router
    from archroute_edge.engine import model_kind, read_header
    from tools.measure.peers.ours import EXAMPLE, ArchRoute, route_table
    from tools.measure.peers.question import fresh_messages

    model, threads, has_two_pools = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "two"
    messages = fresh_messages()
    if model_kind(read_header(Path(model))) == "encoder":
        router = Router(route_table(EXAMPLE), model=model, threads=threads, prefix_cache=False)

        def decide() -> float:
            message = next(messages)
            started = time.perf_counter()
            router.route(message)
            return time.perf_counter() - started

    else:
        peer = ArchRoute(model, threads)
        router = peer.router

        def decide() -> float:
            return peer.decide(peer.ask(EXAMPLE, next(messages))).seconds

    if has_two_pools:
        router.warm()
    decide()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(decide(), flush=True)


def _environment(setting: str) -> dict[str, str]:
    count, _, policy = setting.partition("+")
    inherited = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return {**inherited, "GOMP_SPINCOUNT": count, **({"OMP_WAIT_POLICY": policy} if policy else {})}


def _ask(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@click.command()
@click.argument("model", type=click.Path(exists=True))
@click.option("--rounds", type=click.IntRange(min=2), default=15, show_default=True, help="Messages a setting.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--busy", type=click.IntRange(min=0), default=0, show_default=True, help="Processes that compute beside them.")
@click.option("--one-pool", is_flag=True, help="Only the caller's thread computes.")
def main(model: str, rounds: int, threads: int | None, busy: int, one_pool: bool) -> None:
    """Print the medians as JSON."""
    command = [sys.executable, "-c", _WORKER, model, str(threads or physical_cores()), "one" if one_pool else "two"]
    times: dict[str, list[float]] = {setting: [] for setting in _SETTINGS}
    with ExitStack() as stack, ProgressLine() as line:
        processes = {}
        for setting in _SETTINGS:
            processes[setting] = subprocess.Popen(
                command, env=_environment(setting), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(processes[setting].kill)
        for process in processes.values():
            assert process.stdout is not None
            process.stdout.readline()
        for _ in range(busy):
            stack.callback(subprocess.Popen([sys.executable, "-c", _BUSY]).kill)
        time.sleep(1)
        for turn in range(rounds):
            first = turn % len(_SETTINGS)
            for setting in (*_SETTINGS[first:], *_SETTINGS[:first]):
                times[setting].append(1000 * _ask(processes[setting]))
            line("rounds", turn + 1, rounds)
    medians = {setting: statistics.median(taken) for setting, taken in times.items()}
    ratios = {setting: round(median / medians[_OPENMPS_OWN], 3) for setting, median in medians.items()}
    print(json.dumps({"model": model, "busy": busy, "one_pool": one_pool, "median_ms": medians, "ratio": ratios}, indent=2))


if __name__ == "__main__":
    main()
