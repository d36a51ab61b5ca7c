"""What the record says about a stretch of time: counted once, for the terminal, a page and JSON."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from archroute_edge.record._intervals import Floats
from archroute_edge.record._reading import Record, Wanted
from archroute_edge.record._sides import ShadowPairs, Sides, shadow_pairs, sides_of
from archroute_edge.record._traffic import Booleans, Names, Traffic, read_traffic
from archroute_edge.report import Share, p95

NOTHING: Final = "(none)"
"""Stands for requests without a route, or that no model answered."""
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_N_BINS: Final = 20


@dataclass(frozen=True)
class Spread:
    """The median and the 95th percentile, which is None of few values."""

    p50: float
    p95: float | None


@dataclass(frozen=True)
class Money:
    """US dollars.

    Args:
        spent: for the answers to clients.
        shadows: for copies to shadow models.
        priced: answers whose cost is known with the model that answered and with the default model.
        priced_spent: for those.
        default: what those would have cost with the default model.
        unpriced: all other answers.
    """

    spent: float
    shadows: float
    priced: int
    priced_spent: float
    default: float
    unpriced: int

    @property
    def saved(self) -> float | None:
        """What routing saved on the priced answers, shadows paid; negative if it cost more. None if there are none."""
        return self.default - self.priced_spent - self.shadows if self.priced else None


@dataclass(frozen=True)
class Group:
    """Requests that have a route or a model in common.

    Args:
        name: of the route or the model.
        requests: how many.
        share: of all.
        failed: of those that were forwarded.
        tried_again: of the same, those that needed more than one try.
        confidence: the median.
        first_byte_ms: until the client got the first byte.
        total_ms: until the answer's end.
        input: tokens.
        output: tokens.
        cached: share of the input that was in the provider's cache.
        cost: US dollars.
        default_cost: with the default model, of the requests whose cost is known with both.
        score: mean grade.
        scored: how many have a grade.
    """

    name: str
    requests: int
    share: float
    failed: Share
    tried_again: Share
    confidence: float | None
    first_byte_ms: Spread | None
    total_ms: Spread | None
    input: int
    output: int
    cached: float | None
    cost: float | None
    default_cost: float | None
    score: float | None
    scored: int


@dataclass(frozen=True)
class Target:
    """All tries of one target, shadows left out.

    Args:
        model: the target.
        tries: of it.
        failed: of these.
        errors: why, the most frequent first, with counts.
        first_byte_ms: of those that answered, from the beginning of the try.
    """

    model: str
    tries: int
    failed: Share
    errors: tuple[tuple[str, int], ...]
    first_byte_ms: Spread | None


@dataclass(frozen=True)
class Buckets:
    """Counts over time.

    Args:
        unit: ``minute`` (five of them), ``hour``, ``day`` or ``week``.
        starts: of each bucket, in seconds since 1970; days and weeks begin at midnight here.
        routes: name to requests of each bucket, the most frequent first.
        models: the same.
        failed: requests of each bucket.
        spent: US dollars, for the requests whose cost is known with the default model, too.
        default: US dollars, with the default model, for the same.
        first_byte_ms: the median of each bucket; NaN if there is none.
    """

    unit: str
    starts: tuple[float, ...]
    routes: dict[str, list[int]]
    models: dict[str, list[int]]
    failed: list[int]
    spent: list[float]
    default: list[float]
    first_byte_ms: list[float | None]


@dataclass(frozen=True)
class TrafficReport:
    """All of it.

    Args:
        first: time of the first request, in seconds since 1970.
        last: of the last one.
        requests: of clients.
        forwarded: of these; the others asked for a decision alone.
        failed: of the forwarded ones.
        aborted: requests whose client went away.
        tries: of all.
        corrected: decisions to which a grade names another route.
        decision_ms: until the route was decided.
        money: spent and saved.
        routes: the busiest first.
        models: the same, by who answered.
        targets: the same, by who was tried.
        confidence: decisions in each of 20 bins of confidence.
        over_time: counts.
        sides: models that shared traffic by chance.
        shadows: pairs.
    """

    first: float
    last: float
    requests: int
    forwarded: int
    failed: Share
    aborted: int
    tries: int
    corrected: int
    decision_ms: Spread | None
    money: Money
    routes: tuple[Group, ...]
    models: tuple[Group, ...]
    targets: tuple[Target, ...]
    confidence: tuple[int, ...]
    over_time: Buckets
    sides: tuple[Sides, ...]
    shadows: tuple[ShadowPairs, ...]


def report_on(record: Record, wanted: Wanted) -> TrafficReport | None:
    """What the record says about the requests that are wanted, and about shadows of them; None if there are none."""
    wanted = replace(wanted, shadows=False)
    traffic = read_traffic(record, wanted)
    if not len(traffic.time):
        return None
    forwarded = ~traffic.is_decision
    confidence, _ = np.histogram(traffic.confidence[~np.isnan(traffic.confidence)], _N_BINS, (0.0, 1.0))
    return TrafficReport(
        float(traffic.time[0]),
        float(traffic.time[-1]),
        len(traffic.time),
        int(forwarded.sum()),
        _share(traffic.is_failed, forwarded),
        int(traffic.is_aborted.sum()),
        len(traffic.tries.request),
        record.corrected(wanted),
        _spread(1000 * traffic.decision),
        _money(traffic, record.shadow_cost(wanted)),
        _groups(traffic, traffic.route),
        _groups(traffic, traffic.model),
        _targets(traffic),
        tuple(confidence.tolist()),
        _buckets(traffic),
        tuple(sides_of(traffic)),
        tuple(shadow_pairs(record, wanted)),
    )


def _money(traffic: Traffic, shadows: float) -> Money:
    answered = ~traffic.is_decision & (traffic.model.codes >= 0)
    return Money(
        float(np.nansum(traffic.cost)),
        shadows,
        int(traffic.is_priced.sum()),
        float(traffic.cost[traffic.is_priced].sum()),
        float(traffic.default_cost[traffic.is_priced].sum()),
        int((answered & ~traffic.is_priced).sum()),
    )


def _groups(traffic: Traffic, column: Names) -> tuple[Group, ...]:
    everything = np.ones(len(traffic.time), dtype=bool)
    found = [_group(traffic, name, column.of(name)) for name in column.counted(everything)]
    if (column.codes < 0).any():
        found.append(_group(traffic, NOTHING, column.codes < 0))
    return tuple(found)


def _group(traffic: Traffic, name: str, rows: Booleans) -> Group:
    forwarded = rows & ~traffic.is_decision
    with_input = float(np.nansum(traffic.input[rows]))
    scores = traffic.score[rows & ~np.isnan(traffic.score)]
    return Group(
        name,
        int(rows.sum()),
        float(rows.mean()),
        _share(traffic.is_failed, forwarded),
        _share(traffic.n_tries > 1, forwarded),
        _middle(traffic.confidence[rows]),
        _spread(1000 * traffic.first_byte[forwarded]),
        _spread(1000 * traffic.duration[forwarded & ~traffic.is_aborted & ~traffic.is_failed]),
        int(with_input),
        int(np.nansum(traffic.output[rows])),
        float(np.nansum(traffic.cached[rows])) / with_input if with_input else None,
        _sum(traffic.cost[rows]),
        _sum(traffic.default_cost[rows & traffic.is_priced]),
        float(scores.mean()) if len(scores) else None,
        len(scores),
    )


def _targets(traffic: Traffic) -> tuple[Target, ...]:
    everything = np.ones(len(traffic.tries.request), dtype=bool)
    return tuple(_target(traffic, model) for model in traffic.tries.model.counted(everything))


def _target(traffic: Traffic, model: str) -> Target:
    tries = traffic.tries
    rows = tries.model.of(model)
    failed = rows & (tries.error.codes >= 0)
    counts = np.bincount(tries.error.codes[failed], minlength=len(tries.error.names))
    errors = [(tries.error.names[place], int(counts[place])) for place in np.argsort(-counts, kind="stable") if counts[place]]
    return Target(model, int(rows.sum()), _share(failed, rows), tuple(errors), _spread(1000 * tries.first_byte[rows & ~failed]))


def _buckets(traffic: Traffic) -> Buckets:
    unit, edges = bucket_edges(float(traffic.time[0]), float(traffic.time[-1]))
    n = len(edges) - 1
    places = np.clip(np.searchsorted(edges, traffic.time, side="right") - 1, 0, n - 1)
    everything = np.ones(len(places), dtype=bool)

    def counts(column: Names) -> dict[str, list[int]]:
        named = {name: column.of(name) for name in column.counted(everything)}
        if (column.codes < 0).any():
            named[NOTHING] = column.codes < 0
        return {name: np.bincount(places[rows], minlength=n).tolist() for name, rows in named.items()}

    def sums(values: Floats) -> list[float]:
        return [float(total) for total in np.bincount(places, np.nan_to_num(values), minlength=n)]

    starts = np.searchsorted(places, np.arange(n + 1))
    medians = [_middle(1000 * traffic.first_byte[begin:end]) for begin, end in itertools.pairwise(starts)]
    return Buckets(
        unit,
        tuple(edges[:-1]),
        counts(traffic.route),
        counts(traffic.model),
        np.bincount(places[traffic.is_failed], minlength=n).tolist(),
        sums(np.where(traffic.is_priced, traffic.cost, 0.0)),
        sums(np.where(traffic.is_priced, traffic.default_cost, 0.0)),
        medians,
    )


def bucket_edges(first: float, last: float) -> tuple[str, list[float]]:
    """Where buckets begin, and the end of the last one: as long as give a curve of some ten to a hundred points."""
    span = last - first
    for unit, seconds, longest in (("minute", 300.0, 3 * _HOUR), ("hour", _HOUR, 3 * _DAY)):
        if span <= longest:
            start = first // seconds * seconds
            return unit, [start + seconds * place for place in range(int((last - start) // seconds) + 2)]
    unit, days = ("day", 1) if span <= 120 * _DAY else ("week", 7)
    # Days of the calendar, which are not all of one length.
    day = datetime.datetime.fromtimestamp(first).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        day -= datetime.timedelta(days=day.weekday())
    edges = [day.timestamp()]
    while edges[-1] <= last:
        day += datetime.timedelta(days=days)
        edges.append(day.timestamp())
    return unit, edges


def _share(rows: Booleans, of: Booleans) -> Share:
    return Share(int((rows & of).sum()), int(of.sum()))


def _known(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def _spread(values: Floats) -> Spread | None:
    known = _known(values)
    return Spread(float(np.median(known)), p95(known.tolist())) if len(known) else None


def _middle(values: Floats) -> float | None:
    known = _known(values)
    return float(np.median(known)) if len(known) else None


def _sum(values: Floats) -> float | None:
    known = _known(values)
    return float(known.sum()) if len(known) else None
