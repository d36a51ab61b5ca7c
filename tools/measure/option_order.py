"""How many answers change when the options of a question are given in another order.

    python -m tools.measure.option_order --model mini --model tiny

Decides every case (the shipped ones by default) with its routes in their order, and again with them shuffled. Prints for each
model the share of cases whose route is another then, as JSON, with a 95 % interval, and how far the probability of a route
moves. The answer `other` has no place among the routes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from archroute_edge import Router, RouteTable
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.evaluation import Case, largest_table, read_cases, shipped_cases


def orders(cases: list[Case], shuffles: int, draw: random.Random) -> Iterator[tuple[Case, RouteTable]]:
    """Each case with its table in other orders; a table's orders are the same for all of its cases."""
    found: dict[RouteTable, list[RouteTable]] = {}
    for case in cases:
        if case.table not in found:
            found[case.table] = [shuffled(case.table, draw) for _ in range(shuffles)]
        for table in found[case.table]:
            yield case, table


def shuffled(table: RouteTable, draw: random.Random) -> RouteTable:
    """The routes of a table of at least two in an order that is not theirs."""
    routes = list(table.routes)
    while len(routes) > 1 and tuple(routes) == table.routes:
        draw.shuffle(routes)
    return RouteTable(routes)


def wilson(part: int, whole: int) -> list[float]:
    """A 95 % interval of a share."""
    z, p = 1.96, part / whole
    centre, reach = p + z * z / (2 * whole), z * (p * (1 - p) / whole + z * z / (4 * whole * whole)) ** 0.5
    return [
        round(bound / (1 + z * z / whole), 4) for bound in (max(0.0, centre - reach), min(1 + z * z / whole, centre + reach))
    ]


def measure(
    model: str, cases: list[Case], shuffles: int, seed: int, threads: int | None, progress: ProgressLine
) -> dict[str, Any]:
    """The changes of one model's answers."""
    moves, changed = [], 0
    with Router(largest_table(cases), model=model, threads=threads, prefix_cache=False) as router:
        total = len(cases) * (1 + shuffles)
        before = {}
        for number, case in enumerate(cases):
            progress(f"{model}: as they are", number, total)
            before[case.line] = router.route(case.messages, routes=case.table, scores=True)
        for number, (case, table) in enumerate(orders(cases, shuffles, random.Random(seed))):
            progress(f"{model}: shuffled", len(cases) + number, total)
            first, second = before[case.line], router.route(case.messages, routes=table, scores=True)
            assert first.scores is not None and second.scores is not None
            changed += first.route != second.route
            moves.append(max(abs(first.scores[name] - second.scores[name]) for name in first.scores))
    return {
        "model": model,
        "cases": len(cases),
        "shuffled": len(moves),
        "changed": changed,
        "share": round(changed / len(moves), 4),
        "interval": wilson(changed, len(moves)),
        "largest_move_median": round(float(np.median(moves)), 6),
        "largest_move_p95": round(float(np.quantile(moves, 0.95)), 6),
    }


@click.command()
@click.option("--model", "models", multiple=True, default=["mini"], show_default=True, help="As for archroute route.")
@click.option(
    "--cases", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The shipped ones by default."
)
@click.option("--limit", type=click.IntRange(min=1), help="The first cases alone.")
@click.option("--shuffles", type=click.IntRange(min=1), default=1, show_default=True, help="Other orders of each table.")
@click.option("--seed", default=0, show_default=True, help="Of the orders.")
@click.option("--threads", type=click.IntRange(min=1), help="As for archroute route.")
def main(models: tuple[str, ...], path: Path | None, limit: int | None, shuffles: int, seed: int, threads: int | None) -> None:
    """Decide on cases whose routes are shuffled and print how many answers change, as JSON."""
    cases = (shipped_cases() if path is None else read_cases(path))[:limit]
    with ProgressLine() as progress:
        found = [measure(model, cases, shuffles, seed, threads, progress) for model in models]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
