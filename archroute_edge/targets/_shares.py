"""How the targets of one place share its traffic: weights, a ramp, and keys that draw the same target on every machine."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archroute_edge.config import Ramp
from archroute_edge.targets._order_words import Place


def ramp_share(ramp: Ramp, now: float) -> float:
    """The share of a growing target at ``now``, in seconds since 1970."""
    passed = now - ramp.start.timestamp()
    if passed < 0:
        return 0.0
    if passed >= ramp.seconds:
        return ramp.last
    return ramp.first + (ramp.last - ramp.first) * passed / ramp.seconds


@dataclass(frozen=True)
class Share:
    """A member that may be drawn: its rate, and its place among those whose rate is 0."""

    member: str
    rate: float
    weight: float


def shares(members: Sequence[str], weights: Mapping[str, float], ramp: Ramp | None, now: float) -> list[Share]:
    """Who is drawn with which probability; empty if the order of the members counts.

    Args:
        members: in the order of the configuration, those with a weight of 0 left out.
        weights: empty if none are stated.
        ramp: of one of the members, or none.
        now: seconds since 1970.
    """
    others = [each for each in members if weights.get(each, 0.0) > 0]
    if ramp is None or ramp.model not in members:
        return [Share(each, weights[each], weights[each]) for each in others]
    rest = {each: weights[each] for each in others if each != ramp.model}
    if not rest:
        rest = {each: 1.0 for each in members if each != ramp.model and not weights}
        rest = dict(list(rest.items())[:1])
    share = ramp_share(ramp, now)
    total = sum(rest.values())
    found = [Share(each, (1.0 - share) * weight / total, weight) for each, weight in rest.items()]
    return [*found, Share(ramp.model, share, 1.0)] if share > 0 or not found else found


class Draws:
    """Draws of one request. Equal keys draw equally, on every machine; without a key ``rng`` draws.

    Each member gets an exponentially distributed time with its share as the rate; the earliest comes first with the
    probability of its share. With a key the times depend on the key, the place and the member alone, so a changed share moves
    only conversations that its member wins or loses.
    """

    def __init__(self, key: str | None, rng: random.Random | None) -> None:
        self._key = key
        self._rng = rng
        self._drawn: dict[tuple[str, ...], float] = {}

    def order(self, place: Place, found: Sequence[Share]) -> list[str]:
        """The members of ``found``, in an order drawn by their shares."""
        if len(found) == 1:
            return [found[0].member]
        waits = {each.member: -math.log(self._uniform(*_names(place), each.member)) for each in found}
        times = {
            each.member: (waits[each.member] / each.rate if each.rate > 0 else math.inf, waits[each.member] / each.weight)
            for each in found
        }
        return sorted(times, key=lambda member: times[member])

    def happens(self, place: Place, what: str, share: float) -> bool:
        """Whether something that happens to a share of conversations happens to this one."""
        return self._uniform(*_names(place), "\0" + what) <= share

    def _uniform(self, *parts: str) -> float:
        """A number in (0, 1] that only key and parts decide; the same for one request however often it is asked for."""
        if parts not in self._drawn:
            if self._key is None:
                self._rng = self._rng or random.Random()
                self._drawn[parts] = 1.0 - self._rng.random()
            else:
                digest = hashlib.sha256(json.dumps((self._key, *parts)).encode("ascii")).digest()
                self._drawn[parts] = (int.from_bytes(digest[:6], "big") + 1) / 2**48
        return self._drawn[parts]


def _names(place: Place) -> tuple[str, ...]:
    # An alias's draws have no mark, so that conversations keep the targets that they had before routes shared traffic, too.
    return (place.name,) if place.kind == "alias" else (place.kind, place.name)
