"""Whether both engines decide alike, on every case (the shipped ones by default).

    python -m tools.measure.engine_equality MODEL... [--every N]

Prints for each model, as JSON: how many routes are the same; how far the score of a route differs between ik_llama.cpp and
llama.cpp, and between llama.cpp with and without flash attention, which is its own rounding; and the margins, best score less
second, of the cases whose routes differ. A score is a probability, 0 to 1. Of an encoder the engines alone are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from archroute_edge import Router
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import WantedEngine, check_model_file, model_kind
from archroute_edge.evaluation import Case, evaluation_order, largest_table, shipped_cases
from archroute_edge.models import find_model

Scores = Mapping[str, float]


def scores_of(
    model: str, cases: Sequence[Case], engine: WantedEngine, flash: bool | None, threads: int | None, line: ProgressLine
) -> list[Scores]:
    """The scores of each case, in the order of the cases."""
    found: dict[int, Scores] = {}
    settings: dict[str, Any] = {"engine": engine, "flash_attention": flash, "threads": threads, "prefix_cache": False}
    with Router(largest_table(cases), model=model, **settings) as router:
        for number, place in enumerate(evaluation_order(cases)):
            line(f"{Path(model).name} with {engine}", number, len(cases))
            case = cases[place]
            scores = router.route(case.messages, routes=case.table, scores=True).scores
            assert scores is not None
            found[place] = scores
    return [found[place] for place in range(len(cases))]


def margin(scores: Scores) -> float:
    """The best score less the second."""
    second, best = sorted(scores.values())[-2:]
    return best - second


def differences(some: Sequence[Scores], others: Sequence[Scores]) -> dict[str, float]:
    """How far the score of a route differs in a case: median, 99th percentile and most."""
    most = [max(abs(one[name] - other[name]) for name in one) for one, other in zip(some, others, strict=True)]
    return {
        "median": round(float(np.median(most)), 5),
        "p99": round(float(np.percentile(most, 99)), 5),
        "most": round(max(most), 5),
    }


def best(scores: Scores) -> str:
    """The route with the best score."""
    return max(scores, key=lambda name: scores[name])


def compare(model: str, cases: Sequence[Case], threads: int | None, line: ProgressLine) -> dict[str, Any]:
    """The figures of one model."""
    is_encoder = model_kind(check_model_file(find_model(model).path, None)) == "encoder"
    plain = scores_of(model, cases, "llama.cpp", None if is_encoder else False, threads, line)
    others = {"ik, llama.cpp": (scores_of(model, cases, "ik", None, threads, line), plain)}
    if not is_encoder:
        flash = scores_of(model, cases, "llama.cpp", True, threads, line)
        others["llama.cpp with, without flash attention"] = (flash, plain)
    return {
        "model": model,
        "cases": len(cases),
        **{
            name: {
                "same_route": sum(best(one) == best(other) for one, other in zip(*pair, strict=True)),
                "difference": differences(*pair),
                "margins_where_routes_differ": [
                    round(margin(other), 5) for one, other in zip(*pair, strict=True) if best(one) != best(other)
                ],
            }
            for name, pair in others.items()
        },
    }


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Take every Nth case.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]")
def main(models: tuple[str, ...], every: int, threads: int | None) -> None:
    """Compare the engines on cases."""
    cases = shipped_cases()[::every]
    with ProgressLine() as line:
        for model in models:
            found = compare(model, cases, threads, line)
            line.clear()
            click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
