"""A target on trial, compared with the incumbent by the latest requests of each."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping
from typing import Final

from archroute_edge.config import Canary, RoutingConfig
from archroute_edge.targets import Place, group_at

# A difference has to be larger than chance makes it, too: that many standard deviations. Every request is a new
# look at the windows, so with two of them nearly every canary would be withdrawn some day.
_DEVIATIONS: Final = 4.0
_ROUNDING: Final = 1e-9


class _Window:
    """The latest outcomes of one side."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._outcomes: deque[tuple[bool, float | None]] = deque()
        self._latencies: list[float] = []
        self.n_errors = 0

    def add(self, ok: bool, latency_ms: float | None) -> None:
        self._outcomes.append((ok, latency_ms if ok else None))
        self.n_errors += not ok
        if ok and latency_ms is not None:
            insort(self._latencies, latency_ms)
        if len(self._outcomes) > self._size:
            was_ok, old = self._outcomes.popleft()
            self.n_errors -= not was_ok
            if old is not None:
                del self._latencies[bisect_left(self._latencies, old)]

    @property
    def is_full(self) -> bool:
        return len(self._outcomes) == self._size

    @property
    def n_latencies(self) -> int:
        return len(self._latencies)

    @property
    def median_ms(self) -> float:
        """The lower median of the answers, of which there is one at least."""
        return self._latencies[(len(self._latencies) - 1) // 2]

    @property
    def fastest_ms(self) -> float:
        """Of the answers."""
        return self._latencies[0]

    @property
    def slowest_ms(self) -> float:
        """Of the answers."""
        return self._latencies[-1]

    def share_above(self, latency_ms: float) -> float:
        """The share of the answers that took longer."""
        return 1 - bisect_right(self._latencies, latency_ms) / len(self._latencies)


class CanaryTrial:
    """A comparison that ends when the canary has done worse than the incumbent, by a margin of its rule and beyond chance.

    Args:
        canary: who is on trial, and the margins.
        models: model to the side that it stands on: whether it is the canary's.
    """

    def __init__(self, canary: Canary, models: Mapping[str, bool]) -> None:
        self.canary = canary
        self.is_withdrawn = False
        self._models = models
        self._windows = {True: _Window(canary.window), False: _Window(canary.window)}

    def add(self, model: str, ok: bool, first_byte_ms: float | None) -> str | None:
        """Count a request. If that withdraws the canary: why."""
        side = self._models.get(model)
        if side is None:
            return None
        self._windows[side].add(ok, first_byte_ms)
        why = self._why_worse(self._windows[True], self._windows[False])
        self.is_withdrawn = why is not None
        return why

    def _why_worse(self, new: _Window, old: _Window) -> str | None:
        # Few requests tell nothing, so both sides need all of theirs.
        if not new.is_full or not old.is_full:
            return None
        size = self.canary.window
        more = new.n_errors - old.n_errors
        deviation = math.sqrt((new.n_errors + old.n_errors) * (1 - (new.n_errors + old.n_errors) / (2 * size)))
        if more > self.canary.error_margin * size + _ROUNDING and more > _DEVIATIONS * deviation:
            return f"{new.n_errors} of its last {size} requests failed, and {old.n_errors} of the incumbent's"
        # Of those that failed the time says nothing, and with few others left it is no matter of time.
        if min(new.n_latencies, old.n_latencies) < size / 2:
            return None
        mine, its = new.median_ms, old.median_ms
        spread = math.sqrt(1 / new.n_latencies + 1 / old.n_latencies) / 2
        # In a small window chance explains any median, but not that every answer is slower than all of the other side.
        is_beyond_chance = new.share_above(its) - 0.5 > _DEVIATIONS * spread or new.fastest_ms > old.slowest_ms
        if mine > its * (1 + self.canary.latency_margin) and is_beyond_chance:
            return (
                f"the median time to the first byte is {mine:.0f} ms in its last {size} requests, the incumbent's {its:.0f} ms"
            )
        return None


def trials_of(config: RoutingConfig) -> dict[Place, CanaryTrial]:
    """The trials that a configuration asks for, all at their beginning."""
    rules = [(Place("route", name), rule) for name, rule in config.forward.routes.items()]
    rules += [(Place("alias", name), rule) for name, rule in config.forward.aliases.items()]
    found = {}
    for place, rule in rules:
        trial = None if rule.canary is None else _trial(config, place, rule.canary)
        if trial is not None:
            found[place] = trial
    return found


def _trial(config: RoutingConfig, place: Place, canary: Canary) -> CanaryTrial | None:
    group = group_at(config, place)
    if group is None or canary.model not in group.names:
        return None
    others = [name for name in group.names if name != canary.model]
    if not others:
        return None
    models = {
        name: [member] if isinstance(member, str) else member.models
        for name, member in zip(group.names, group.members, strict=True)
    }
    # The first of equals.
    incumbent = max(others, key=lambda name: group.weights.get(name, 0.0))
    sides = dict.fromkeys(models[incumbent], False)
    for model in models[canary.model]:
        # A model on both sides says nothing about either.
        if sides.pop(model, None) is None:
            sides[model] = True
    return CanaryTrial(canary, sides)
