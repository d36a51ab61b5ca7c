"""A cascade at every switch-over: the share that the encoder decides, the accuracy, and the time.

    python -m tools.measure.cascade_curve models/mini-Q8_0.gguf models/tiny-Q8_0.gguf --svg docs/cascade.svg

Both models decide every case alone (the shipped ones by default). The cascade at any switch-over follows: the encoder's answer
if its confidence is at least that, else the language model's, whose time is added. A language model with random weights says
nothing about accuracy; its times are right for prefill.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from archroute_edge import Router
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.evaluation import Case, CaseResult, evaluate, largest_table, read_cases, shipped_cases
from archroute_edge.report import COLOURS, figure, write_svg

_THRESHOLDS = tuple(number / 20 for number in range(21))


@dataclass(frozen=True)
class Point:
    """A cascade at one switch-over: shares of the cases, and the mean time of a decision in milliseconds."""

    switch_over: float
    decided_by_encoder: float
    right: float
    right_where_encoder: float | None
    mean_ms: float


def curve(first: Sequence[CaseResult], second: Sequence[CaseResult]) -> list[Point]:
    """The cascade of an encoder's results and a language model's on the same cases, at switch-overs from 0 to 1."""
    points = []
    for threshold in _THRESHOLDS:
        sure = [each.confidence >= threshold for each in first]
        answers = [a if by_encoder else b for a, b, by_encoder in zip(first, second, sure, strict=True)]
        times = [
            a.milliseconds + (0 if by_encoder else b.milliseconds) for a, b, by_encoder in zip(first, second, sure, strict=True)
        ]
        own = [a.right for a, by_encoder in zip(first, sure, strict=True) if by_encoder]
        points.append(
            Point(
                threshold,
                statistics.mean(sure),
                statistics.mean(each.right for each in answers),
                statistics.mean(own) if own else None,
                statistics.mean(times),
            )
        )
    return points


def draw(points: Sequence[Point], path: Path) -> None:
    """Shares, and the mean time below them."""
    places = [point.switch_over for point in points]
    with figure(7.0, 5.6, panels=(2, 1)) as (drawn, (above, below)):
        above.plot(
            places, [100 * point.decided_by_encoder for point in points], color=COLOURS[0], label="decided by the encoder"
        )
        known = [point for point in points if point.right_where_encoder is not None]
        above.plot(
            [point.switch_over for point in known],
            [100 * (point.right_where_encoder or 0) for point in known],
            color=COLOURS[2],
            linestyle="--",
            label="right, of the encoder's",
        )
        above.plot(places, [100 * point.right for point in points], color=COLOURS[2], label="right, of all")
        above.set(ylabel="share, %", ylim=(0, 102))
        above.legend(loc="lower left")
        below.plot(places, [point.mean_ms for point in points], color=COLOURS[1])
        below.set(xlabel="switch-over: the encoder decides from this confidence on", ylabel="mean time, ms", xlim=(0, 1))
        below.set_ylim(bottom=0)
        write_svg(drawn, "Shares decided and right, and mean time, over the switch-over", path)


def _run(model: Path, cases: Sequence[Case], threads: int | None, line: ProgressLine) -> list[CaseResult]:
    with Router(largest_table(cases), model=model, threads=threads, prefix_cache=False) as router:
        return evaluate(router, cases, on_progress=lambda done, total: line(model.name, done, total))


@click.command()
@click.argument("encoder", type=click.Path(exists=True, path_type=Path))
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("cases", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: physical cores]")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Take each so-many-th case only.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the curves into this file.")
def main(encoder: Path, model: Path, cases: Path | None, threads: int | None, every: int, svg: Path | None) -> None:
    """Print the curve as JSON."""
    asked = (read_cases(cases) if cases else shipped_cases())[::every]
    with ProgressLine() as line:
        first, second = (_run(each, asked, threads, line) for each in (encoder, model))
    points = curve(first, second)
    if svg:
        draw(points, svg)
    alone = {each.name: statistics.mean(r.right for r in results) for each, results in ((encoder, first), (model, second))}
    print(json.dumps({"cases": len(asked), "right_alone": alone, "curve": [asdict(point) for point in points]}, indent=2))


if __name__ == "__main__":
    main()
