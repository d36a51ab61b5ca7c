"""Flash attention on or off: time to evaluate a decision's tokens, over the depth of the prefix and foreign cells.

    python -m tools.measure.attention random-1.5B-Q4_0.gguf --depths 190,1000,3000,6000 --foreign 0,3000

The figures behind the engine's ``FLASH_ATTENTION_DEPTH``. Rounds are interleaved.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import click
import numpy as np

from archroute_edge.engine import EngineSettings, LoadedModel, open_engine, physical_cores, sequence_batch
from tools.measure.option_types import Numbers

N_NEW = 185
_PREFIX, _FOREIGN, _WORK = 0, 1, 2


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--depths", type=Numbers(0), default="190,1000,3000,6000", show_default=True, help="Tokens before the new ones.")
@click.option("--foreign", type=Numbers(0), default="0,3000", show_default=True, help="Cells of other sequences.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Evaluations a setting.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
def main(model: Path, depths: list[int], foreign: list[int], rounds: int, threads: int | None) -> None:
    """Print medians of the time for 185 new tokens as JSON lines."""
    random = np.random.default_rng(0)
    with LoadedModel(model) as loaded:
        for depth in depths:
            for n_foreign in foreign:
                cells = depth + n_foreign + N_NEW + 512
                engines = [
                    open_engine(loaded, EngineSettings(cells, threads or physical_cores(), flash_attention=flash))
                    for flash in (False, True)
                ]
                times: list[list[float]] = [[], []]
                for engine in engines:
                    for sequence, length in ((_PREFIX, depth), (_FOREIGN, n_foreign)):
                        if length:
                            engine.evaluate(sequence_batch(sequence, random.integers(0, 5000, length).tolist(), 0))
                for round_number in range(rounds + 1):
                    new = random.integers(0, 5000, N_NEW).tolist()
                    for engine, seconds in zip(engines, times, strict=True):
                        engine.copy(_PREFIX, _WORK, 0, depth)
                        started = time.perf_counter()
                        engine.evaluate(sequence_batch(_WORK, new, depth, [N_NEW - 1]))
                        if round_number:
                            seconds.append(time.perf_counter() - started)
                        engine.truncate(_WORK, 0)
                for engine in engines:
                    engine.close()
                off, on = (statistics.median(seconds) for seconds in times)
                row = {"depth": depth, "foreign": n_foreign, "off_s": off, "on_s": on, "on_over_off": on / off}
                print(json.dumps({key: round(value, 4) for key, value in row.items()}), flush=True)
                print(f"depth {depth}, foreign {n_foreign}: done", file=sys.stderr)


if __name__ == "__main__":
    main()
