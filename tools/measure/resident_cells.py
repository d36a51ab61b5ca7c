"""The cost of other conversations to a decision: alone, with others parked as usual, and with others left in a context twice
as large.

    python -m tools.measure.resident_cells random-1.5B-Q4_0.gguf --rounds 7

Three routers, interleaved, medians. All are held to the answer's canonical tokens, which a trained model would take.
"""

from __future__ import annotations

import json
import statistics
from itertools import islice
from pathlib import Path

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.decoding import _kv_cache as kv_cache
from archroute_edge.engine import physical_cores
from tools.measure.peers.ours import EXAMPLE, ArchRoute
from tools.measure.peers.question import fresh_messages

_N_CTX = {"alone": 4096, "parked": 4096, "left": 8192}
_MOST_CONVERSATIONS = 16
_USUAL = kv_cache.MAX_OTHER_CELLS
_WORDS = "please look at the second part of this text and say what you think about it " * 12


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Fresh messages.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--cells", type=click.IntRange(min=0), default=3000, show_default=True, help="Cells of other conversations.")
def main(model: Path, rounds: int, threads: int | None, cells: int) -> None:
    """Print the median decision times as JSON."""
    n_threads = threads or physical_cores()
    peers = {name: ArchRoute(str(model), n_threads, n_ctx=cells_in_all) for name, cells_in_all in _N_CTX.items()}
    resident = dict.fromkeys(_N_CTX, 0)
    for name in ("parked", "left"):
        kv_cache.MAX_OTHER_CELLS = _USUAL if name == "parked" else _N_CTX["left"]
        for number in range(_MOST_CONVERSATIONS):
            if resident[name] >= cells:
                break
            resident[name] += peers[name].router.warm(f"conversation {number}: {_WORDS}").evaluated
    times: dict[str, list[float]] = {name: [] for name in _N_CTX}
    with ProgressLine() as progress:
        for index, message in enumerate(islice(fresh_messages(), rounds + 1)):
            question = peers["alone"].ask(EXAMPLE, message)
            for name, peer in peers.items():
                kv_cache.MAX_OTHER_CELLS = _N_CTX["left"] if name == "left" else _USUAL
                seconds = peer.decide(question).seconds
                if index:
                    times[name].append(seconds)
            progress("rounds", index, rounds)
    for peer in peers.values():
        peer.router.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: medians[name] / medians["alone"] for name in ("parked", "left")}
    report = {"model": model.name, "threads": n_threads, "rounds": rounds, "cells_of_others": resident["left"]}
    print(json.dumps({**report, "median_s": medians, "ratio_to_alone": ratios}, indent=2))


if __name__ == "__main__":
    main()
