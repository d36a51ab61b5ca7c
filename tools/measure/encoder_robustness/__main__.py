"""The share of an encoder's decisions that change if the same is said otherwise.

    python -m tools.measure.encoder_robustness models/mini-Q8_0.gguf

120 requests written for this over 38 tables, with two paraphrases each and half of them in eight other languages, and the
shipped cases that are one message in English. Exits with 1 if the order of the routes changed a decision.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from archroute_edge import Router
from archroute_edge.cli.progress import ProgressLine
from tools.measure.encoder_robustness.data import load
from tools.measure.encoder_robustness.figures import as_json, markdown, row_of
from tools.measure.encoder_robustness.probes import REORDERED, all_changes, ask


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--seed", type=int, default=18, show_default=True, help="Of typing errors and orders.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Take each so-many-th request only.")
@click.option("--shipped/--no-shipped", default=True, show_default=True, help="Ask the shipped cases as well.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON, with 95 % intervals.")
@click.pass_context
def main(ctx: click.Context, /, model: Path, threads: int | None, seed: int, every: int, shipped: bool, is_json: bool) -> None:
    """Print a row for each change."""
    data = load(with_shipped=shipped, every=every)
    asked = all_changes(data, seed)
    with Router(data.written[0].table, model=model, threads=threads, prefix_cache=False) as router, ProgressLine() as line:
        answers = ask(router, asked, lambda done, total: line("decisions", done, total))
    rows = [row_of(change, answers) for change in asked]
    if is_json:
        asked_of = {"model": model.name, "seed": seed, "every": every, "shipped": shipped}
        print(json.dumps({**asked_of, "changes": as_json(rows)}, indent=2))
    else:
        print("\n".join(markdown(rows)))
    ctx.exit(int(any(row.changed.right for row in rows if row.kind == REORDERED)))


if __name__ == "__main__":
    main()
