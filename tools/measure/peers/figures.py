"""Medians beside each other: ratios, their intervals, and the bars that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_N_RESAMPLED = 4000


@dataclass(frozen=True)
class Quartiles:
    """The median of some times in seconds, and the quartiles around it."""

    lower: float
    median: float
    upper: float


def quartiles(seconds: Sequence[float]) -> Quartiles:
    """Of at least one time."""
    return Quartiles(*(float(value) for value in np.quantile(seconds, [0.25, 0.5, 0.75])))


@dataclass(frozen=True)
class Bar:
    """The bound on a ratio: ours / theirs at most ``limit``, or theirs / ours at least."""

    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True)
class Comparison:
    """Our times beside a peer's.

    Args:
        quantity: what the ratio is of.
        ours: seconds.
        theirs: seconds; in the same order as ours where ``paired``.
        bar: what it is held against, if anything.
        paired: whether each time of ours belongs to one of theirs, taken right before or after it.
        same_answers: whether both gave the same answer each time; None where the peer was held to none.
    """

    quantity: str
    ours: Sequence[float]
    theirs: Sequence[float]
    bar: Bar | None = None
    paired: bool = True
    same_answers: bool | None = None

    @property
    def ratio(self) -> float:
        """The ratio of the medians: theirs / ours if the bar is a minimum, else ours / theirs."""
        return float(self._ratios(np.array(self.ours)[None], np.array(self.theirs)[None])[0])

    @property
    def interval(self) -> tuple[float, float]:
        """Where the ratio lies in 95 of 100 runs like this one, by resampling the times."""
        draw = np.random.default_rng(0)
        ours, theirs = np.array(self.ours), np.array(self.theirs)
        chosen = draw.integers(0, len(ours), (_N_RESAMPLED, len(ours)))
        also = chosen if self.paired else draw.integers(0, len(theirs), (_N_RESAMPLED, len(theirs)))
        low, high = np.quantile(self._ratios(ours[chosen], theirs[also]), [0.025, 0.975])
        return float(low), float(high)

    @property
    def verdict(self) -> str:
        """``met`` or ``missed``, and whether chance could have made it the other; empty without a bar."""
        if self.same_answers is False:
            return "other answers"
        if self.bar is None:
            return ""
        found = "met" if (self.ratio >= self.bar.limit if self.bar.at_least else self.ratio <= self.bar.limit) else "missed"
        low, high = self.interval
        return f"{found}, within noise" if low < self.bar.limit < high else found

    def _ratios(self, ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        medians = np.median(ours, axis=1), np.median(theirs, axis=1)
        over, under = medians[::-1] if self.bar is not None and self.bar.at_least else medians
        ratios: npt.NDArray[np.float64] = over / under
        return ratios
