"""Single requests with their routes' names, many narrow kinds of one source at a time: they teach telling terse names apart.

A table has a score of routes at most; here every request has a hundred wrong ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archroute_edge.deciders import route_text
from archroute_edge.routes import Route
from training.mini.catalogue import Subject
from training.mini.tables import TableSampler
from training.mini.tool_tables import AGENTS, TERSE
from training.tiny.kinds_bank import Kind
from training.tiny.noise import disturb

_SOURCES = {
    "clinc150": 0.24, "banking77": 0.10, "domains": 0.30, "narrow": 0.10, "bank": 0.08, "metatool": 0.08, "tools": 0.05,
    "hwu64": 0.05, AGENTS: 0.12, TERSE: 0.25,
}  # fmt: skip
_NAME_ONLY = 0.7
# How often a name is the terse one of a data set or of ours.
_TERSE = 0.6
_UNTOUCHED = 0.7


@dataclass
class Pairs:
    """N requests and N texts of routes, the n-th of which belong together.

    `open` (N, N) marks the others that could be right too, so that they count as neither.
    """

    requests: list[str]
    routes: list[str]
    open: np.ndarray


def draw_pairs(sampler: TableSampler, count: int, rng: random.Random) -> Pairs:
    """At most `count` pairs of different kinds of one source."""
    kinds = _choose(sampler, count, rng)
    requests = [_request(kind, rng) for kind in kinds]
    routes = [_route(sampler.catalogue.subject(kind.id), rng) for kind in kinds]
    return Pairs(requests, routes, open_pairs(kinds, routes, sampler.related))


def _choose(sampler: TableSampler, count: int, rng: random.Random) -> list[Kind]:
    sources = {name: share for name, share in _SOURCES.items() if any(kind.train for kind in sampler.pools.get(name, []))}
    source = rng.choices(list(sources), list(sources.values()))[0]
    pool = [kind for kind in sampler.pools[source] if kind.train]
    if source not in ("domains", "narrow", "tools", AGENTS, TERSE):
        return rng.sample(pool, min(count, len(pool)))
    # Whole domains, since the kinds of one are near to each other.
    domains = sorted({kind.domain for kind in pool})
    rng.shuffle(domains)
    return [kind for domain in domains for kind in pool if kind.domain == domain][:count]


def _request(kind: Kind, rng: random.Random) -> str:
    text = kind.request(rng, held=False)
    return text if rng.random() < _UNTOUCHED else disturb(text, rng)


def _route(subject: Subject, rng: random.Random) -> str:
    name = subject.names[0] if rng.random() < _TERSE else rng.choice(subject.names)
    return route_text(Route(name, "" if rng.random() < _NAME_ONLY else rng.choice(subject.descriptions)))


def open_pairs(kinds: list[Kind], routes: list[str], related: Mapping[str, frozenset[str]]) -> np.ndarray:
    """Kinds that look alike and are not rivals by definition, and routes of one text."""
    marks = np.zeros((len(kinds), len(kinds)), dtype=bool)
    for row, kind in enumerate(kinds):
        alike = related.get(kind.id, frozenset()) - kind.near
        for column, other in enumerate(kinds):
            marks[row, column] = row != column and (other.id in alike or routes[row] == routes[column])
    both: np.ndarray = marks | marks.T
    return both
