"""How many canaries are withdrawn that are as good as the incumbent, and how soon those that are worse.

    python -m tools.measure.canaries --trials 100

Requests are made up: each goes to the canary with its share, fails with a probability, and has its first byte after a time that
is distributed log-normally around 400 ms (sigma 0.8: a tenth of them takes 1.1 s and more). The margins are the standard ones.
"""

from __future__ import annotations

import logging
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import click

from archroute_edge.config import Canary, ForwardSettings, RoutingConfig, TrafficRule
from archroute_edge.gateway import Health
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets import Place

_SPREAD = 0.8
_MEDIAN_MS = 400.0
_PLACE = Place("route", "r")


@dataclass(frozen=True)
class Side:
    """How often a target fails, and how many times as long as usual its first byte takes."""

    errors: float
    slowness: float = 1.0


PAIRS = (
    ("equal, 1 % errors", Side(0.01), Side(0.01)),
    ("equal, 5 % errors", Side(0.05), Side(0.05)),
    ("11 % errors instead of 1 %", Side(0.01), Side(0.11)),
    ("20 % errors instead of 1 %", Side(0.01), Side(0.20)),
    ("70 % slower", Side(0.01), Side(0.01, 1.7)),
    ("twice as slow", Side(0.01), Side(0.01, 2.0)),
)
"""What is measured: a name, the incumbent and the canary."""


def requests_until_withdrawn(
    draw: random.Random, window: int, share: float, incumbent: Side, canary: Side, most: int
) -> int | None:
    """How many requests the canary got before it was withdrawn; None if it never was, in ``most`` requests of both."""
    rule = TrafficRule(weights={"old": 1 - share, "new": share}, canary=Canary("new", window))
    config = RoutingConfig(RouteTable([Route("r", "d", ["old", "new"])]), forward=ForwardSettings(routes={"r": rule}))
    health = Health(config)
    n_canary = 0
    for _ in range(most):
        is_canary = draw.random() < share
        n_canary += is_canary
        side = canary if is_canary else incumbent
        ok = draw.random() >= side.errors
        took = draw.lognormvariate(log(_MEDIAN_MS * side.slowness), _SPREAD)
        health.ended("new" if is_canary else "old", ok, took if ok else None, [_PLACE])
        if health.is_withdrawn(_PLACE, "new"):
            return n_canary
    return None


def rows(windows: tuple[int, ...], share: float, trials: int, most: int) -> Iterator[tuple[str, int, int, float | None]]:
    """Name and window; how many of the trials were withdrawn, and the median of the canary's requests until then."""
    for name, incumbent, canary in PAIRS:
        for window in windows:
            draw = random.Random(window)
            ends = [requests_until_withdrawn(draw, window, share, incumbent, canary, most) for _ in range(trials)]
            withdrawn = [each for each in ends if each is not None]
            yield name, window, len(withdrawn), statistics.median(withdrawn) if withdrawn else None


@click.command()
@click.option("--window", "windows", type=click.IntRange(min=1), multiple=True, default=(50, 100, 200), show_default=True)
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=0.1, show_default=True, help="Of the canary.")
@click.option("--trials", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--requests", "most", type=click.IntRange(min=1), default=20_000, show_default=True, help="Of both sides, in a trial."
)
def main(windows: tuple[int, ...], share: float, trials: int, most: int) -> None:
    """Print a row for each pair of targets and each window."""
    logging.getLogger("archroute_edge").setLevel(logging.CRITICAL)
    click.echo("| the canary | window | withdrawn | its requests until then |\n|---|---|---|---|")
    for name, window, n_withdrawn, median in rows(windows, share, trials, most):
        click.echo(f"| {name} | {window} | {n_withdrawn / trials:.0%} | {'' if median is None else f'{median:.0f}'} |")


if __name__ == "__main__":
    main()
