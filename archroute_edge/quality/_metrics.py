"""Figures of predictors of quality: pure functions over arrays with an entry a prompt.

Two models, a weak and a strong one: a prompt's *gain* is the strong one's score less the weak one's, and a predictor's *order*
is a number a prompt, the higher the sooner the prompt goes to the strong model. Prompts of equal order go there in random
order, and the figures are what that gives on average, so that no figure depends on the order of a file.

``weights`` are (draws, prompts): how often a prompt counts in each draw of a bootstrap; all 1 for the figure itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.report import NONE

Floats = npt.NDArray[np.float64]

NO_GAP: Final = 1e-9
"""A strong model that scores no more than this above the weak one leaves no gap to recover."""
RECOVERED: Final = (0.5, 0.8)
"""The shares of the gap that CPT50 and CPT80 are about."""
N_BINS: Final = 10
"""Equal-width bins of expected scores: 0 to 0.1, above 0.1 to 0.2, and so on."""

_INTERVAL: Final = (0.025, 0.975)
# Numbers of a chunk of draws: few enough to stay near the processor.
_CELLS: Final = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"value": self.value, "interval": None if self.low is None else [self.low, self.high]}

    def text(self, digits: int = 3, scale: float = 1.0, sign: str = "") -> str:
        """``0.612 (0.590 to 0.634)``."""
        if self.value is None:
            return NONE
        shown = f"{scale * self.value:{sign}.{digits}f}"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} ({scale * self.low:{sign}.{digits}f} to {scale * self.high:{sign}.{digits}f})"

    @property
    def less(self) -> Estimate:
        """The figure with the other sign."""
        return Estimate(*(None if each is None else -each for each in (self.value, self.high, self.low)))

    @property
    def is_above_zero(self) -> bool:
        """Whether chance (5 %) would not give it if it were 0 or less."""
        return self.low is not None and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether chance (5 %) would not give it if it were 0 or more."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Curve:
    """How the share of the gap that is recovered grows with the share of prompts that the strong model answers."""

    shares: Floats
    recovered: Floats

    def at(self, shares: Floats) -> Curve:
        """The same at these shares."""
        return Curve(shares, np.interp(shares, self.shares, self.recovered))


@dataclass(frozen=True)
class PairFigures:
    """Figures of an order, (draws,) each; NaN in a draw without a gap, or of one kind of prompts only.

    Attributes:
        apgr: average share of the gap that is recovered, over all shares of strong calls.
        calls: for each of :data:`RECOVERED`, the share of strong calls that recovers so much of the gap.
        auc: chance that a prompt that the strong model answers better stands before one that it does not.
    """

    apgr: Floats
    calls: Mapping[float, Floats]
    auc: Floats

    def named(self) -> dict[str, Floats]:
        """By name: ``apgr``, ``cpt50``, ``cpt80``, ``auc``."""
        return {"apgr": self.apgr, **{cpt_name(each): calls for each, calls in self.calls.items()}, "auc": self.auc}


def cpt_name(recovered: float) -> str:
    """``cpt50`` of 0.5."""
    return f"cpt{100 * recovered:g}"


class PairOrder:
    """Prompts of two models in a predictor's order.

    Args:
        order: a number a prompt, the highest first.
        gains: the strong model's score less the weak one's.

    Raises:
        ValueError: there is no prompt, or a number is NaN.
    """

    def __init__(self, order: Floats, gains: Floats) -> None:
        if len(order) != len(gains) or not len(order):
            raise ValueError("an order and as many gains are needed, one at least")
        if np.isnan(order).any() or np.isnan(gains).any():
            raise ValueError("NaN has no place in an order")
        self._places = np.argsort(-order, kind="stable")
        ranked = order[self._places]
        self._starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
        self._gains = gains[self._places]
        self._better = (self._gains > NO_GAP).astype(np.float64)

    def curve(self) -> Curve | None:
        """The curve of PGR, performance gap recovered: (quality of the mixture - weak) / (strong - weak).

        Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", 2024 (arXiv 2406.18665), section 2.2. A point for
        every number of prompts after which the order changes; lines between them are what random choice among prompts of equal
        order gives. None if there is no gap.
        """
        ranked = np.ones((1, len(self._gains)))
        counts, gained = self._summed(ranked), self._summed(ranked * self._gains)
        if not _has_gap(counts, gained)[0]:
            return None
        shares, recovered = _curves(counts, gained)
        return Curve(shares[0], recovered[0])

    def figures(self, weights: Floats) -> PairFigures:
        """The figures of each draw."""
        ranked = weights[:, self._places]
        counts, gained, better = (self._summed(each) for each in (ranked, ranked * self._gains, ranked * self._better))
        has_gap = _has_gap(counts, gained)
        shares, recovered = _curves(counts, gained)
        calls = {each: np.where(has_gap, _first_reached(shares, recovered, each), np.nan) for each in RECOVERED}
        return PairFigures(_average(counts, gained, has_gap), calls, _auc(better, counts - better))

    def _summed(self, ranked: Floats) -> Floats:
        """(draws, groups): sums over each group of equal order, of (draws, prompts) in that order."""
        summed: Floats = np.add.reduceat(ranked, self._starts, axis=1)
        return summed


def _auc(better: Floats, other: Floats) -> Floats:
    """Area under the ROC curve, as the Mann-Whitney statistic with ties counted half.

    Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", 1982.

    Args:
        better: (draws, groups) prompts of a group that the strong model answers better.
        other: its other ones.
    """
    after = other.sum(axis=1, keepdims=True) - np.cumsum(other, axis=1)
    pairs = better.sum(axis=1) * other.sum(axis=1)
    return _divided((better * (after + 0.5 * other)).sum(axis=1), pairs, pairs > 0)


def _has_gap(counts: Floats, gained: Floats) -> npt.NDArray[np.bool_]:
    has_gap: npt.NDArray[np.bool_] = gained.sum(axis=1) > NO_GAP * counts.sum(axis=1)
    return has_gap


def _average(counts: Floats, gained: Floats, has_gap: npt.NDArray[np.bool_]) -> Floats:
    """APGR, the average performance gap recovered: the area under the curve of PGR over the share of strong calls, 0 to 1.

    RouteLLM (as above), section 2.2; here the trapezoid over all shares, not over ten. A random order has 0.5 on average, and
    an order that tells no prompts apart has it exactly.
    """
    before = np.cumsum(gained, axis=1) - gained
    area = (counts * (before + 0.5 * gained)).sum(axis=1)
    return _divided(area, counts.sum(axis=1) * gained.sum(axis=1), has_gap)


def _curves(counts: Floats, gained: Floats) -> tuple[Floats, Floats]:
    """(draws, groups + 1): shares of strong calls, and of the gap; what has no gap comes to nothing that means something."""
    shares, recovered = (
        np.concatenate([np.zeros((len(each), 1)), np.cumsum(each, axis=1)], axis=1) for each in (counts, gained)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares, recovered = shares / shares[:, -1:], recovered / recovered[:, -1:]
    return shares, recovered


def _first_reached(shares: Floats, recovered: Floats, wanted: float) -> Floats:
    """CPT(x), call-performance threshold: the least share of strong calls that recovers the share x of the gap.

    RouteLLM (as above), section 2.2. Between two points of the curve it is interpolated; NaN where x is never reached.
    """
    reached = recovered >= wanted
    first = reached.argmax(axis=1)
    rows = np.arange(len(shares))
    before = np.maximum(first - 1, 0)
    low, high = recovered[rows, before], recovered[rows, first]
    part = _divided(wanted - low, high - low, (first > 0) & (high > low))
    found = shares[rows, before] + np.where(first > 0, part, 0.0) * (shares[rows, first] - shares[rows, before])
    return np.where(reached.any(axis=1), found, np.nan)


def _divided(upper: Floats, lower: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    # What a draw without a gap comes to is no number.
    with np.errstate(invalid="ignore"):
        divided: Floats = np.divide(upper, lower, out=np.full(len(upper), np.nan), where=where)
    return divided


def resamples(n: int, draws: int, seed: int = 0) -> Iterator[Floats]:
    """Weights of a bootstrap over prompts, a chunk of the draws at a time: n prompts are drawn from n with replacement.

    Efron, "Bootstrap methods: another look at the jackknife", 1979. The same seed gives the same draws.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    for begun in range(0, draws, step):
        size = min(step, draws - begun)
        drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def bootstrapped(figures: Callable[[Floats], Mapping[str, Floats]], n: int, draws: int, seed: int = 0) -> dict[str, Estimate]:
    """Every figure of ``n`` prompts with its percentile interval.

    Args:
        figures: the figures of each draw, by name, from the draws' weights.
    """
    found = {name: each[0] for name, each in figures(np.ones((1, n))).items()}
    chunks = [figures(weights) for weights in resamples(n, draws, seed)]
    return {
        name: estimated(value, np.concatenate([np.empty(0), *(each[name] for each in chunks)])) for name, value in found.items()
    }


def estimated(value: float, drawn: Floats) -> Estimate:
    """A figure with the interval that 95 in 100 of its draws lie in.

    A figure that more than one draw in 40 does not have (NaN: no gap, never reached) has no interval: its end is in none of
    the draws.
    """
    known = drawn[~np.isnan(drawn)]
    if np.isnan(value):
        return Estimate(None)
    if not len(drawn) or len(known) < (1 - _INTERVAL[0]) * len(drawn):
        return Estimate(float(value))
    low, high = np.quantile(known, _INTERVAL)
    return Estimate(float(value), float(low), float(high))


@dataclass(frozen=True)
class Bin:
    """The answers whose expected score is above ``low`` (or 0) and at most ``high``; means are None where there are none."""

    low: float
    high: float
    count: int
    expected: float | None
    score: float | None


@dataclass(frozen=True)
class Calibration:
    """Expected scores of a model beside its scores.

    Args:
        expected: a number a prompt, 0 to 1.
        scores: as many; NaN where the model was not asked.
    """

    expected: Floats
    scores: Floats

    @cached_property
    def _known(self) -> tuple[Floats, Floats]:
        known = ~np.isnan(self.scores)
        return self.expected[known], self.scores[known]

    @property
    def count(self) -> int:
        """Scores that there are."""
        return len(self._known[1])

    @property
    def mean_expected(self) -> float | None:
        """Mean of the expected scores."""
        return _mean(self._known[0])

    @property
    def mean_score(self) -> float | None:
        """Mean of the scores."""
        return _mean(self._known[1])

    @property
    def brier(self) -> float | None:
        """Mean of (expected score - score)², 0 best: the Brier score if every score is 0 or 1.

        Brier, "Verification of forecasts expressed in terms of probability", 1950, in the form for two outcomes.
        """
        expected, scores = self._known
        return _mean((expected - scores) ** 2)

    @property
    def constant_brier(self) -> float | None:
        """:attr:`brier` of the constant that suits these scores best, their mean."""
        scores = self._known[1]
        return float(np.var(scores)) if len(scores) else None

    @cached_property
    def bins(self) -> Sequence[Bin]:
        """:data:`N_BINS` bins of equal width, the empty ones included."""
        expected, scores = self._known
        places = np.clip(np.ceil(expected * N_BINS) - 1, 0, N_BINS - 1).astype(np.intp)
        found = []
        for place in range(N_BINS):
            here = places == place
            found.append(Bin(place / N_BINS, (place + 1) / N_BINS, int(here.sum()), _mean(expected[here]), _mean(scores[here])))
        return found

    @property
    def ece(self) -> float | None:
        """Expected calibration error: mean distance of a bin's expected scores from its scores, weighted by its size.

        Guo et al., "On calibration of modern neural networks", 2017, with scores from 0 to 1 in the place of accuracy.
        """
        filled = [each for each in self.bins if each.expected is not None and each.score is not None]
        if not filled:
            return None
        return sum(each.count * abs((each.expected or 0) - (each.score or 0)) for each in filled) / self.count


def _mean(numbers: Floats) -> float | None:
    return float(np.mean(numbers)) if len(numbers) else None
