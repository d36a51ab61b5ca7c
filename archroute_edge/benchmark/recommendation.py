"""Which level to take on this machine, and why: the Pareto front of time, memory and quality, and a choice on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from archroute_edge.benchmark.comparison_metrics import mcnemar
from archroute_edge.benchmark.timing import Times, are_told_apart

SLOWER: Final = 1.10
"""A level that takes at most so many times the fastest one's time may be chosen for what it saves in memory."""

SAME_MEMORY: Final = 1.02
"""Memory that differs by less than this factor counts as equal."""

ACCURACY_LOSS: Final = 0.01
"""A level keeps the quality where its accuracy is at most this much below the best one's, or by chance only."""

MANY_BITS: Final = 4.5
"""Where quality was not measured, levels with fewer bits a weight are not recommended if there are others."""

_SIGNIFICANT: Final = 0.05


@dataclass(frozen=True)
class Figures:
    """What is weighed of a level.

    Attributes:
        times: times of a warm first-turn decision.
        memory: peak resident memory in bytes.
        bits_per_weight: stands for quality where nothing was measured.
        right: for each labelled case whether it was decided right; None where there were no cases.
    """

    label: str
    times: Times
    memory: int
    bits_per_weight: float
    right: tuple[bool, ...] | None = None

    @property
    def quality(self) -> float:
        """Accuracy, or bits a weight where it was not measured; more is better."""
        return self.bits_per_weight if self.right is None else sum(self.right) / len(self.right)


@dataclass(frozen=True)
class Recommendation:
    """The level to take.

    Attributes:
        level: its label.
        reasons: why, a sentence each.
        front: labels of the levels that none of the others beats, fastest first.
        quality_measured: whether quality is accuracy on cases, or guessed from bits a weight.
    """

    level: str
    reasons: tuple[str, ...]
    front: tuple[str, ...]
    quality_measured: bool


def pareto_front(levels: Sequence[Figures]) -> list[Figures]:
    """The levels that no other beats, fastest first.

    One beats another where its median time, its memory and its quality are all at least as good, and the difference is
    real in one of them: times whose intervals do not overlap, memory beyond 2 %, accuracy beyond chance.
    """
    front = [one for one in levels if not any(_beats(other, one) for other in levels if other is not one)]
    return sorted(front, key=lambda each: each.times.p50)


def _beats(one: Figures, other: Figures) -> bool:
    no_worse = one.times.p50 <= other.times.p50 and one.memory <= other.memory and one.quality >= other.quality
    return no_worse and (
        are_told_apart(one.times, other.times)
        or one.memory * SAME_MEMORY < other.memory
        or (one.quality > other.quality and not _same_quality(one, other))
    )


def _same_quality(one: Figures, other: Figures) -> bool:
    """Whether two qualities differ by chance only: McNemar's test on the same cases; bits a weight are no chance."""
    if one.right is None or other.right is None:
        return one.quality == other.quality
    return mcnemar(one.right, other.right).p_value > _SIGNIFICANT


def keeps_quality(levels: Sequence[Figures]) -> list[Figures]:
    """The levels whose quality is good enough: within a point of the best accuracy or not told from it, or many bits."""
    best = max(levels, key=lambda each: each.quality)
    if best.right is None:
        return [each for each in levels if each.bits_per_weight >= MANY_BITS] or [best]
    return [each for each in levels if each.quality >= best.quality - ACCURACY_LOSS or _same_quality(best, each)]


def recommend(levels: Sequence[Figures]) -> Recommendation:
    """Choose among levels (at least one): of those that keep the quality the fastest, or a smaller one that is hardly slower.

    "Hardly" is :data:`SLOWER`, or that their times are not told apart.
    """
    front = pareto_front(levels)
    good = keeps_quality(levels)
    measured = levels[0].right is not None
    # A level that is beaten by one that keeps the quality is no choice; all of them cannot be.
    choices = [each for each in good if not any(_beats(other, each) for other in good if other is not each)]
    fastest = min(choices, key=lambda each: each.times.p50)
    near = [
        each
        for each in choices
        if each.times.p50 <= SLOWER * fastest.times.p50 or not are_told_apart(each.times, fastest.times)
    ]
    smallest = min(each.memory for each in near)
    chosen = max((each for each in near if each.memory <= SAME_MEMORY * smallest), key=lambda each: each.quality)
    reasons = [_quality_reason(levels, good, measured), _time_reason(chosen, fastest, choices)]
    if len(levels) == 1:
        reasons = ["it is the only level measured"]
    return Recommendation(chosen.label, tuple(reasons), tuple(each.label for each in front), measured)


def _quality_reason(levels: Sequence[Figures], good: Sequence[Figures], measured: bool) -> str:
    aside = ", ".join(each.label for each in levels if each not in good)
    if measured:
        best = max(levels, key=lambda each: each.quality)
        kept = f"accuracy within a point of the best ({best.label}, {100 * best.quality:.1f} %), or not told from it"
        return f"{kept}; left aside for losing more: {aside}" if aside else f"all levels keep the {kept}"
    guess = "quality was not measured (give --cases), so it is judged by bits a weight"
    return f"{guess}: left aside for fewer than {MANY_BITS}: {aside}" if aside else guess


def _time_reason(chosen: Figures, fastest: Figures, choices: Sequence[Figures]) -> str:
    if chosen is not fastest:
        ratio = chosen.times.p50 / fastest.times.p50
        apart = "" if are_told_apart(chosen.times, fastest.times) else ", which the noise hides"
        measured = "accuracy" if chosen.right is not None else "bits a weight"
        gain = f"with {chosen.memory / fastest.memory:.2f} of its memory"
        if chosen.memory * SAME_MEMORY >= fastest.memory:
            gain = f"with more {measured} in the same memory"
        return f"{ratio:.2f} times the time of the fastest ({fastest.label}){apart}, {gain}"
    others = [each for each in choices if each is not chosen]
    if not others:
        return "no other level that keeps the quality is on the front of time, memory and quality"
    following = min(others, key=lambda each: each.times.p50)
    return (
        f"the fastest that keeps the quality; the next, {following.label}, takes {following.times.p50 / chosen.times.p50:.2f} "
        f"times as long with {following.memory / chosen.memory:.2f} of the memory"
    )
