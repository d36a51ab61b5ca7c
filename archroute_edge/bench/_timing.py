"""What repeated timings say: percentiles with their intervals, and whether a run was quiet enough to tell two things apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

QUIET_SPREAD: Final = 0.05
"""Rounds of one thing whose medians differ by less than this share of them count as equal."""

NOISY_SPREAD: Final = 0.20
"""Rounds that differ by more than this make a run noisy, whatever else was measured."""

_TAIL: Final = 0.025
_MOST_PAIRS: Final = 4


@dataclass(frozen=True)
class Interval:
    """Where a percentile lies with a confidence of 95 %; an end is None where the samples are too few to bound it."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class Times:
    """Repeated measurements of one thing, in any unit: at least one, by round, in the order they were taken."""

    rounds: tuple[tuple[float, ...], ...]

    @property
    def samples(self) -> tuple[float, ...]:
        """All samples."""
        return tuple(itertools.chain.from_iterable(self.rounds))

    @property
    def p50(self) -> float:
        """The median."""
        return quantile(self.samples, 0.5)

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return quantile(self.samples, 0.95)

    @property
    def p50_interval(self) -> Interval:
        """Where the median lies; see :func:`order_interval`."""
        return order_interval(self.samples, 0.5)

    @property
    def round_medians(self) -> tuple[float, ...]:
        """The median of each round."""
        return tuple(quantile(each, 0.5) for each in self.rounds)

    @property
    def figure(self) -> float:
        """The median, which stands for all in one column of CSV."""
        return self.p50

    def to_dict(self) -> dict[str, Any]:
        """The times as JSON; fewer than 72 samples do not bound the 95th percentile from above."""
        p95_interval = order_interval(self.samples, 0.95)
        return {
            "p50": self.p50,
            "p50_interval": [self.p50_interval.low, self.p50_interval.high],
            "p95": self.p95,
            "p95_interval": [p95_interval.low, p95_interval.high],
            "samples": len(self.samples),
            "round_medians": list(self.round_medians),
        }


def quantile(samples: Sequence[float], share: float) -> float:
    """The value that ``share`` of the samples do not exceed, interpolated linearly between neighbours."""
    return float(np.quantile(np.asarray(samples, np.float64), share))


def order_interval(samples: Sequence[float], share: float) -> Interval:
    """95 % interval of a quantile from the order of the samples alone: nothing is assumed of how they are distributed.

    The number of samples below the quantile is binomial, so its tails of 2.5 % say between which of the sorted samples
    the quantile lies (David and Nagaraja, "Order Statistics", 2003, section 7.1).
    """
    ordered, n = sorted(samples), len(samples)
    # In logarithms: beyond about a thousand samples the binomial coefficients are larger than any float.
    log_factorial = [math.lgamma(k + 1) for k in range(n + 1)]
    log, log_other = math.log(share), math.log1p(-share)
    below = [
        math.exp(log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * log + (n - k) * log_other)
        for k in range(n + 1)
    ]
    # How many counts from either end have at most the tail's probability together.
    n_low = sum(total <= _TAIL for total in itertools.accumulate(below))
    n_high = sum(total <= _TAIL for total in itertools.accumulate(below[::-1]))
    return Interval(ordered[n_low - 1] if n_low else None, ordered[n - n_high] if n_high else None)


def are_told_apart(one: Times, other: Times) -> bool:
    """Whether two medians differ by more than chance: their 95 % intervals do not overlap. Fewer than six samples have none."""
    ends = ((one.p50_interval.high, other.p50_interval.low), (other.p50_interval.high, one.p50_interval.low))
    return any(high is not None and low is not None and high < low for high, low in ends)


@dataclass(frozen=True)
class NoiseVerdict:
    """Whether the rounds of a run agree well enough for differences between its levels to mean something, and ``text`` says it.

    ``spreads`` has for each level the difference of its rounds' extreme medians, as a share of their median;
    ``lost_in_noise`` are pairs of levels that the noise leaves undecided.
    """

    is_noisy: bool
    spreads: Mapping[str, float]
    lost_in_noise: tuple[tuple[str, str], ...]
    text: str


def judge_noise(times: Mapping[str, Times]) -> NoiseVerdict:
    """Judge a run by what its rounds gave for each level (at least one).

    A pair of levels is lost in the noise where the medians of their rounds overlap and the rounds of one of them differ by
    more than :data:`QUIET_SPREAD`; levels that overlap with less are equally fast, which is a finding.
    """
    medians = {label: each.round_medians for label, each in times.items()}
    spreads = {label: (max(each) - min(each)) / quantile(each, 0.5) for label, each in medians.items()}
    lost = tuple(
        (one, other)
        for one, other in itertools.combinations(medians, 2)
        if min(medians[one]) <= max(medians[other])
        and min(medians[other]) <= max(medians[one])
        and max(spreads[one], spreads[other]) > QUIET_SPREAD
    )
    worst = max(spreads, key=lambda label: spreads[label])
    if min(len(each) for each in medians.values()) < 2:
        return NoiseVerdict(False, spreads, lost, "one round only: how far rounds would differ is not known")
    differ = f"rounds of {worst} differ by {100 * spreads[worst]:.0f} %"
    if lost:
        pairs = ", ".join(f"{one} and {other}" for one, other in lost[:_MOST_PAIRS])
        pairs += f", and {len(lost) - _MOST_PAIRS} pairs more" if len(lost) > _MOST_PAIRS else ""
        return NoiseVerdict(True, spreads, lost, f"too noisy to tell apart: {pairs} ({differ})")
    if spreads[worst] > NOISY_SPREAD:
        return NoiseVerdict(True, spreads, lost, f"noisy: {differ}; other work may have run beside")
    return NoiseVerdict(False, spreads, lost, f"quiet enough: {differ}, no level by more")
