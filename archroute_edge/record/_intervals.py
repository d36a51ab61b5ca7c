"""95 % intervals for differences of two groups of requests, and for the median of paired differences.

Requests of one conversation are alike, so a group of n requests says less than n independent ones. By how much less (the design
effect) is measured with the conversations as clusters, and the intervals are as wide as n divided by that makes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_Z: Final = NormalDist().inv_cdf(0.975)
_TAIL: Final = 0.025
# So few say nothing of a median's spread.
_LEAST_FOR_MEDIANS: Final = 10


@dataclass(frozen=True)
class Difference:
    """What one group has more than another, with a 95 % interval; its ends are None where there are too few."""

    value: float
    low: float | None
    high: float | None

    @property
    def is_one(self) -> bool:
        """Whether the groups differ by more than chance: 0 is not in the interval."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"value": self.value, "interval": [self.low, self.high], "is_difference": self.is_one}


def design_effect(values: Floats, clusters: Integers) -> float:
    """How many times as large the variance of the mean is as that of independent values; 1 at least.

    The mean is a ratio of sums over clusters (Kish, "Survey Sampling", 1965, section 6.3).
    """
    n = len(values)
    _, places = np.unique(clusters, return_inverse=True)
    m = int(places.max()) + 1 if n else 0
    if m < 2:
        return 1.0
    plain = float(values.var(ddof=1)) / n
    if plain == 0.0:
        return 1.0
    residuals = np.bincount(places, values - values.mean(), minlength=m)
    return max(1.0, float((residuals**2).sum()) / n**2 * m / (m - 1) / plain)


def share_difference(one: Floats, one_clusters: Integers, other: Floats, other_clusters: Integers) -> Difference:
    """Share of ones in ``one`` less that in ``other``.

    Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10: from Wilson's
    intervals, so that it holds for shares near 0.
    """
    p, q = float(one.mean()), float(other.mean())
    p_low, p_high = _wilson(p, len(one) / design_effect(one, one_clusters))
    q_low, q_high = _wilson(q, len(other) / design_effect(other, other_clusters))
    difference = p - q
    return Difference(
        difference, difference - math.hypot(p - p_low, q_high - q), difference + math.hypot(p_high - p, q - q_low)
    )


def median_difference(one: Floats, one_clusters: Integers, other: Floats, other_clusters: Integers) -> Difference:
    """Median of ``one`` less that of ``other``.

    Price and Bonett, "Distribution-free confidence intervals for difference and ratio of medians", 2002: the variance of each
    median is told from the order statistics around it.
    """
    difference = float(np.median(one) - np.median(other))
    if min(len(one), len(other)) < _LEAST_FOR_MEDIANS:
        return Difference(difference, None, None)
    half = _Z * math.sqrt(_median_variance(one, one_clusters) + _median_variance(other, other_clusters))
    return Difference(difference, difference - half, difference + half)


def mean_difference(one: Floats, one_clusters: Integers, other: Floats, other_clusters: Integers) -> Difference:
    """Mean of ``one`` less that of ``other``, by the normal distribution of means."""
    difference = float(one.mean() - other.mean())
    if min(len(one), len(other)) < _LEAST_FOR_MEDIANS:
        return Difference(difference, None, None)
    half = _Z * math.sqrt(_mean_variance(one, one_clusters) + _mean_variance(other, other_clusters))
    return Difference(difference, difference - half, difference + half)


def paired_median(differences: Floats) -> Difference:
    """Median of differences between pairs, with the interval that the sign test gives (order statistics)."""
    ordered, n = np.sort(differences), len(differences)
    if n <= 1000:
        below = [math.comb(n, k) for k in range(n // 2 + 1)]
        rank = sum(1 for total in np.cumsum(np.array(below, dtype=object)) if total / 2**n <= _TAIL)
    else:
        rank = math.floor(n / 2 - _Z * math.sqrt(n) / 2)
    middle = float(np.median(ordered))
    if rank == 0:
        return Difference(middle, None, None)
    return Difference(middle, float(ordered[rank - 1]), float(ordered[n - rank]))


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval, of a number of values that need not be whole."""
    middle = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _median_variance(values: Floats, clusters: Integers) -> float:
    n = len(values)
    ordered = np.sort(values)
    rank = max(1, round((n + 1) / 2 - math.sqrt(n)))
    # Of the tail that the rank has, exactly for few and by the normal distribution with continuity correction for many.
    if n <= 1000:
        tail = sum(math.comb(n, k) for k in range(rank)) / 2**n
    else:
        tail = NormalDist(n / 2, math.sqrt(n) / 2).cdf(rank - 0.5)
    spread = float(ordered[n - rank] - ordered[rank - 1]) / (2 * NormalDist().inv_cdf(1 - tail))
    above = (values > np.median(values)).astype(np.float64)
    return spread**2 * design_effect(above, clusters)


def _mean_variance(values: Floats, clusters: Integers) -> float:
    return float(values.var(ddof=1)) / len(values) * design_effect(values, clusters)
