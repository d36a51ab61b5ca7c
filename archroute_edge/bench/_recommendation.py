"""Which level to take on this machine, and why: the Pareto front of time, memory and quality, and a choice on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from archroute_edge.bench._timing import Times, are_told_apart
from archroute_edge.evaluation import mcnemar

SLOWER: Final = 1.10
"""A level that takes at most so many times the fastest one's time may be chosen for its memory or its accuracy."""

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
        times: of a warm first-turn decision.
        memory: peak, in bytes; ``n_bytes`` of the file, which decides if all else is equal.
        bits_per_weight: stands for quality if nothing was measured.
        right: for each labelled case whether it was decided right; None without cases.
    """

    label: str
    times: Times
    memory: int
    bits_per_weight: float
    right: tuple[bool, ...] | None = None
    n_bytes: int = 0

    @property
    def quality(self) -> float:
        """Accuracy, or bits a weight where it was not measured; more is better."""
        return self.bits_per_weight if self.right is None else sum(self.right) / len(self.right)


@dataclass(frozen=True)
class Recommendation:
    """The level to take, by its label, and why, a sentence each.

    ``front``: levels that no other beats, fastest first. Quality is accuracy if ``quality_measured``, else bits a weight.
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
    best = _best(levels)
    least = best[0].quality - ACCURACY_LOSS
    if best[0].right is None:
        return [each for each in levels if each.bits_per_weight >= MANY_BITS] or best
    return [each for each in levels if each.quality >= least or any(_same_quality(one, each) for one in best)]


def _best(levels: Sequence[Figures]) -> list[Figures]:
    """The levels of the highest quality, all of them where they are equal."""
    highest = max(each.quality for each in levels)
    return [each for each in levels if each.quality == highest]


def recommend(levels: Sequence[Figures]) -> Recommendation:
    """Choose among levels (at least one): of those that keep the quality the fastest, or one that gives more for hardly more.

    The order of ``levels`` decides nothing but between levels that are equal in everything, the file's size included.
    """
    front = pareto_front(levels)
    good = keeps_quality(levels)
    # A level that is beaten by one that keeps the quality is no choice; all of them cannot be.
    choices = [each for each in good if not any(_beats(other, each) for other in good if other is not each)]
    fastest = min(choices, key=_speed)
    near = [each for each in choices if _is_near(each, fastest)]
    smallest = min(each.memory for each in near)
    small = [each for each in near if each.memory <= SAME_MEMORY * smallest]
    chosen = min(small, key=_speed)
    # Among those of equal memory accuracy counts where it is more than chance, and bits a weight do not: they are a guess.
    while better := [each for each in small if _is_more_accurate(each, chosen)]:
        chosen = min(better, key=_speed)
    reasons = [_quality_reason(levels, good), _time_reason(chosen, fastest, good)]
    if len(levels) == 1:
        reasons = ["it is the only level measured"]
    measured = levels[0].right is not None
    return Recommendation(chosen.label, tuple(reasons), tuple(each.label for each in front), measured)


def _speed(level: Figures) -> tuple[float, int, int, float]:
    """Sorts levels by their median time, and equally fast ones by what they take and what they give."""
    return level.times.p50, level.n_bytes, level.memory, -level.quality


def _is_near(level: Figures, fastest: Figures) -> bool:
    """Whether a level may be preferred to the fastest: a tenth slower, or as much as is not told and its memory outweighs."""
    if level.times.p50 <= SLOWER * fastest.times.p50:
        return True
    outweighs = level.times.p50 * level.memory < fastest.times.p50 * fastest.memory
    return outweighs and not are_told_apart(level.times, fastest.times)


def _is_more_accurate(one: Figures, other: Figures) -> bool:
    measured = one.right is not None and other.right is not None
    return measured and one.quality > other.quality and not _same_quality(one, other)


def _quality_reason(levels: Sequence[Figures], good: Sequence[Figures]) -> str:
    aside = ", ".join(each.label for each in levels if each not in good)
    best = _best(levels)
    if best[0].right is None:
        guess = "quality was not measured (give --cases), so it is judged by bits a weight"
        if best[0].bits_per_weight < MANY_BITS:
            return f"{guess}: all levels have fewer than {MANY_BITS}, so the most count: {best[0].bits_per_weight:.2f}"
        return f"{guess}: left aside for fewer than {MANY_BITS}: {aside}" if aside else guess
    accuracy = f"{100 * best[0].quality:.1f} %"
    if len(best) == len(levels):
        return f"all levels have the same accuracy, {accuracy}"
    kept = f"accuracy within a point of the best ({', '.join(each.label for each in best)}: {accuracy}), or not told from it"
    return f"{kept}; left aside for losing more: {aside}" if aside else f"all levels have an {kept}"


def _time_reason(chosen: Figures, fastest: Figures, good: Sequence[Figures]) -> str:
    if chosen is not fastest:
        apart = "" if are_told_apart(chosen.times, fastest.times) else ", a difference that may be chance"
        return f"{_times_the_time(chosen, fastest)} of the fastest ({fastest.label}){apart}, {_gain(chosen, fastest)}"
    others = [each for each in good if each is not chosen]
    if not others:
        return "no other level keeps the quality"
    if equal := [each.label for each in others if not are_told_apart(each.times, chosen.times)]:
        return (
            "no level that keeps the quality has a lower median time; its difference from these may be chance: "
            f"{', '.join(equal)}"
        )
    following = min(others, key=_speed)
    return (
        f"the fastest that keeps the quality; the next, {following.label}, takes {following.times.p50 / chosen.times.p50:.2f} "
        f"times as long with {following.memory / chosen.memory:.2f} of the memory"
    )


def _times_the_time(chosen: Figures, fastest: Figures) -> str:
    ratio = f"{chosen.times.p50 / fastest.times.p50:.2f}"
    return "the time" if ratio == "1.00" else f"{ratio} times the time"


def _gain(chosen: Figures, fastest: Figures) -> str:
    """What a level that is not the fastest is preferred for."""
    gains = []
    is_more_accurate = _is_more_accurate(chosen, fastest)
    if chosen.memory < fastest.memory and (chosen.memory * SAME_MEMORY < fastest.memory or not is_more_accurate):
        gains.append(f"with {chosen.memory / fastest.memory:.2f} of its memory")
    if is_more_accurate or not gains:
        gains.append(f"with an accuracy of {100 * chosen.quality:.1f} % for its {100 * fastest.quality:.1f} %")
    return " and ".join(gains)
