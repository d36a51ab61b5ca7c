"""Decisions while other conversations sit in the KV cache, against the same decisions alone: interleaved, medians.

    python -m tools.measure.resident_cells random-1.5B-Q4_0.gguf --rounds 7

Both are held to the answer's canonical tokens, as a trained model would take them.
"""

from __future__ import annotations

import json
import statistics
from itertools import islice
from pathlib import Path

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine.backend import physical_cores
from tools.measure.peers.ours import EXAMPLE, ArchRoute
from tools.measure.peers.question import fresh_messages

_N_CTX = 8192
_MOST_CONVERSATIONS = 16
_WORDS = "please look at the second part of this text and say what you think about it " * 12


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Fresh messages.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--cells", type=click.IntRange(min=0), default=3000, show_default=True, help="Cells of other conversations.")
def main(model: Path, rounds: int, threads: int | None, cells: int) -> None:
    """Print the median decision times with and without other conversations as JSON."""
    n_threads = threads or physical_cores()
    alone, crowded = (ArchRoute(str(model), n_threads, n_ctx=_N_CTX) for _ in range(2))
    resident = 0
    for number in range(_MOST_CONVERSATIONS):
        if resident >= cells:
            break
        resident += crowded.router.warm(f"conversation {number}: {_WORDS}").evaluated
    times: dict[str, list[float]] = {"alone": [], "crowded": []}
    with ProgressLine() as progress:
        for index, message in enumerate(islice(fresh_messages(), rounds + 1)):
            question = alone.ask(EXAMPLE, message)
            for name, peer in (("alone", alone), ("crowded", crowded)):
                seconds = peer.decide(question).seconds
                if index:
                    times[name].append(seconds)
            progress("rounds", index, rounds)
    alone.router.close()
    crowded.router.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    report = {"model": model.name, "threads": n_threads, "rounds": rounds, "resident_cells": resident}
    report |= {"alone_median_s": medians["alone"], "crowded_median_s": medians["crowded"]}
    print(json.dumps({**report, "ratio_of_medians": medians["crowded"] / medians["alone"]}, indent=2))


if __name__ == "__main__":
    main()
