"""How long each engine takes for a prompt, the engines taking turns.

    python -m tools.measure.engine_times MODEL... [--tokens 185] [--rounds 7]

Prints for each model, as JSON, the median seconds of each engine, and their ratio. The first round is not counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from archroute_edge.engine import (
    CompletionEngine,
    EngineName,
    EngineSettings,
    LoadedModel,
    open_engine,
    physical_cores,
    sequence_batch,
)

_N_CTX = 4096


def median_seconds(engines: Mapping[str, CompletionEngine], n_tokens: int, rounds: int) -> dict[str, float]:
    """The median time of each engine for the same random tokens, the engines taking turns; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    most = min(engine.model.vocabulary.n_tokens for engine in engines.values())
    tokens = [int(token) for token in np.random.default_rng(0).integers(0, most, n_tokens)]
    for number in range(rounds):
        for name, engine in engines.items():
            engine.truncate(0, 0)
            begun = time.perf_counter()
            engine.evaluate(sequence_batch(0, tokens, 0, [n_tokens - 1]))
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def measure(model: Path, n_tokens: int, rounds: int, threads: int) -> dict[str, Any]:
    """The figures of one model."""
    names: tuple[EngineName, ...] = ("llama.cpp", "ik")
    engines: dict[str, CompletionEngine] = {}
    with ExitStack() as stack:
        for name in names:
            loaded = stack.enter_context(LoadedModel(model, n_gpu_layers=0, engine=name))
            engines[name] = stack.enter_context(closing(open_engine(loaded, EngineSettings(_N_CTX, threads))))
        medians = median_seconds(engines, n_tokens, rounds)
    ratio = medians["ik"] / medians["llama.cpp"]
    return {
        "model": model.name,
        "tokens": n_tokens,
        "seconds": {k: round(v, 3) for k, v in medians.items()},
        "ratio": round(ratio, 3),
    }


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tokens", default=185, show_default=True, type=click.IntRange(1, 512), help="Tokens of the prompt.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=2), help="Rounds, the first not counted.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]")
def main(models: tuple[Path, ...], tokens: int, rounds: int, threads: int | None) -> None:
    """Time both engines on MODELS."""
    for model in models:
        click.echo(json.dumps(measure(model, tokens, rounds, threads or physical_cores())))


if __name__ == "__main__":
    main()
