"""Expected scores against prices: the rate that keeps a share of dear calls or a budget, and what is expected at a rate.

A prompt goes to the model with the best expected score - rate * price. So as the rate grows, each prompt moves to cheaper
models and to no dearer one: the share of prompts that go to a dearest model, and the cost, fall in steps and never rise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.errors import QualityError
from archroute_edge.quality._outcomes import Scores

A_THOUSAND: Final = 1000
# Rates are found to this part of themselves. Halving an interval so often comes down to it from any bound.
_PRECISION: Final = 1e-12
_MOST_STEPS: Final = 200
# What summing leaves of a share or a cost that is kept exactly.
_ROUNDING: Final = 1e-9
# Its product with any usual price is a finite number.
_MOST_RATE: Final = 1e300


@dataclass(frozen=True)
class OperatingPoint:
    """What is expected of prompts at one rate.

    Args:
        rate: what a US dollar is worth in expected scores.
        shares: of the prompts that each model gets; they sum to 1.
        dear_share: of the prompts that a dearest model gets.
        cost_per_1k: US dollars for 1,000 requests.
        expected_score: mean of the expected scores of the models that are chosen.
    """

    rate: float
    shares: tuple[float, ...]
    dear_share: float
    cost_per_1k: float
    expected_score: float


class Trade:
    """Models that are chosen for prompts by expected score less price.

    Args:
        scores: (n, k) expected scores, one row a prompt, the models in the order that decides between equal values.
        prices: (k,) US dollars of a request, or (n, k) of each prompt's.

    Raises:
        QualityError: no prompts, no models, or numbers that are not finite; a price below 0.
    """

    def __init__(self, scores: Scores, prices: npt.ArrayLike) -> None:
        self._scores = np.asarray(scores, np.float64)
        if self._scores.ndim != 2 or 0 in self._scores.shape:
            raise QualityError("there are no expected scores to weigh against prices")
        found = np.asarray(prices, np.float64)
        if found.shape not in (self._scores.shape, self._scores.shape[1:]):
            raise QualityError(f"there are prices of shape {found.shape} for expected scores of shape {self._scores.shape}")
        self._prices = np.broadcast_to(found, self._scores.shape)
        if not (np.isfinite(self._scores).all() and np.isfinite(self._prices).all() and (self._prices >= 0).all()):
            raise QualityError("expected scores and prices must be finite, and prices not below 0")
        self._dearest = self._prices.max(axis=1)

    def chosen(self, rate: float) -> npt.NDArray[np.intp]:
        """(n,) number of the model that each prompt goes to; the first of equal ones."""
        numbers: npt.NDArray[np.intp] = np.argmax(self._scores - rate * self._prices, axis=1)
        return numbers

    def at(self, rate: float) -> OperatingPoint:
        """What is expected at a rate."""
        return self._point(rate, self.chosen(rate))

    def alone(self, model: int) -> OperatingPoint:
        """What is expected if one model gets every prompt."""
        return self._point(0.0, np.full(len(self._scores), model, np.intp))

    def _point(self, rate: float, chosen: npt.NDArray[np.intp]) -> OperatingPoint:
        rows = np.arange(len(chosen))
        prices = self._prices[rows, chosen]
        counts = np.bincount(chosen, minlength=self._scores.shape[1])
        return OperatingPoint(
            rate=rate,
            shares=tuple((counts / len(chosen)).tolist()),
            dear_share=float(np.mean(prices >= self._dearest)),
            cost_per_1k=A_THOUSAND * float(prices.mean()),
            expected_score=float(self._scores[rows, chosen].mean()),
        )

    def rate_for_share(self, share: float) -> float:
        """The smallest rate at which at most ``share`` of the prompts go to a dearest model.

        Raises:
            QualityError: at no rate.
        """

        def is_within(point: OperatingPoint) -> bool:
            return point.dear_share <= share + _ROUNDING

        found = self._smallest(is_within)
        if found is None:
            least = self.at(self._highest).dear_share
            raise QualityError(
                f"a share of {share:.1%} cannot be kept: for {least:.1%} of the prompts no model costs less than a dearest one"
            )
        return found

    def rate_for_cost(self, cost_per_1k: float) -> float:
        """The smallest rate at which 1,000 requests cost at most so many US dollars.

        Raises:
            QualityError: at no rate.
        """

        def is_within(point: OperatingPoint) -> bool:
            return point.cost_per_1k <= cost_per_1k * (1 + _ROUNDING)

        found = self._smallest(is_within)
        if found is None:
            least = self.at(self._highest).cost_per_1k
            raise QualityError(
                f"1,000 requests for ${cost_per_1k:g} cannot be had: the cheapest models cost ${least:.4g} already"
            )
        return found

    @property
    def _highest(self) -> float:
        """A rate at which every prompt goes to a cheapest model."""
        ordered = np.sort(self._prices, axis=1)
        gaps = np.diff(ordered, axis=1)
        gaps = gaps[gaps > 0]
        if not gaps.size:
            return 0.0
        # Scores differ by 1 at most, however they were made.
        spread = max(1.0, float(self._scores.max() - self._scores.min()))
        # Prices that differ by less than any amount of money count as equal: their rate would be no number.
        return min(2.0 * spread / max(float(gaps.min()), sys.float_info.min), _MOST_RATE)

    def _smallest(self, is_within: Callable[[OperatingPoint], bool]) -> float | None:
        if is_within(self.at(0.0)):
            return 0.0
        low, high = 0.0, self._highest
        if not is_within(self.at(high)):
            return None
        for _ in range(_MOST_STEPS):
            middle = low + (high - low) / 2
            if high - low <= _PRECISION * high or not low < middle < high:
                break
            if is_within(self.at(middle)):
                high = middle
            else:
                low = middle
        return high

    def curve(self, shares: Sequence[float]) -> list[OperatingPoint]:
        """What is expected at the rates that keep these shares of calls of a dearest model, each once, the dearest first."""
        points: dict[float, OperatingPoint] = {}
        for share in sorted(shares, reverse=True):
            try:
                rate = self.rate_for_share(share)
            except QualityError:
                continue
            points.setdefault(rate, self.at(rate))
        return list(points.values())
