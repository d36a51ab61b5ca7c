"""What a share of dear calls or a budget comes to on prompts: the rate, and what is expected at it and around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.quality._outcomes import Scores
from archroute_edge.quality._predictor import Predictor, PromptFeatures
from archroute_edge.quality._prices import OperatingPoint, Trade

MOST_SAMPLE: Final = 10_000
"""Most prompts of a sample; of more, as many are kept, evenly spread over them."""

CURVE: Final = tuple(number / 10 for number in range(11))
"""Shares of calls of a dearest model that a report shows beside the one that was asked for."""


@dataclass(frozen=True)
class RateReport:
    """What a goal comes to.

    Args:
        models: those that a request may go to.
        n_prompts: what it was measured on.
        unlike: share of the prompts that are unlike those of the training; None if that is not known.
        chosen: at the rate that keeps the goal.
        alone: each model for all prompts, in the order of ``models``.
        curve: at rates around, the dearest first.
    """

    models: tuple[str, ...]
    n_prompts: int
    unlike: float | None
    chosen: OperatingPoint
    alone: tuple[OperatingPoint, ...]
    curve: tuple[OperatingPoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """It as plain values for JSON, models by name."""
        return {
            "rate": self.chosen.rate,
            "n_prompts": self.n_prompts,
            "unlike": self.unlike,
            "chosen": self._plain(self.chosen),
            "alone": {name: self._plain(point) for name, point in zip(self.models, self.alone, strict=True)},
            "curve": [self._plain(point) for point in self.curve],
        }

    def _plain(self, point: OperatingPoint) -> dict[str, Any]:
        return {**asdict(point), "shares": dict(zip(self.models, point.shares, strict=True))}


def rate_report(
    models: Sequence[str],
    scores: Scores,
    prices: npt.ArrayLike,
    *,
    share: float | None = None,
    cost_per_1k: float | None = None,
    unlike: float | None = None,
) -> RateReport:
    """What a share, or a cost of 1,000 requests, comes to; without either, the best expected score at any price.

    The rate has six digits, rounded upwards.

    Args:
        models: names of the columns of ``scores``.
        scores: (n, k) expected scores.
        prices: (k,) or (n, k) US dollars of a request.
        share: at most this share of the prompts may go to a dearest model.
        cost_per_1k: US dollars that 1,000 requests may cost.
        unlike: share of the prompts that are unlike those of the training.

    Raises:
        QualityError: the goal cannot be kept at any rate, or there are no prompts.
    """
    trade = Trade(scores, prices)
    rate = 0.0
    if share is not None:
        rate = trade.rate_for_share(share)
    elif cost_per_1k is not None:
        rate = trade.rate_for_cost(cost_per_1k)
    rate = _in_six_digits(rate)
    return RateReport(
        models=tuple(models),
        n_prompts=len(scores),
        unlike=unlike,
        chosen=trade.at(rate),
        alone=tuple(trade.alone(number) for number in range(len(models))),
        curve=tuple(trade.curve(CURVE)),
    )


def _in_six_digits(rate: float) -> float:
    """The next rate that people can copy; upwards, so that what is kept is kept."""
    if rate == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(rate)) - 5)
    # Not the product, whose last digit differs from that of the number as it is printed.
    found = float(f"{math.ceil(rate / step) * step:.6g}")
    return found if found >= rate else float(f"{found + step:.6g}")


def expected_of_sample(predictor: Predictor, features: PromptFeatures) -> Scores:
    """Expected scores with the digits that a file keeps, so that a rate is the same when the file is read again."""
    return predictor.expected(features).astype(np.float32).astype(np.float64)


def with_sample(predictor: Predictor, scores: Scores, tokens: Sequence[float], features: PromptFeatures) -> Predictor:
    """``predictor`` itself, with these prompts as its sample.

    Args:
        predictor: it is changed.
        scores: (n, k) its expected scores of them.
        tokens: (n,) how many tokens each has.
        features: of the same prompts.
    """
    kept = np.arange(len(scores))
    if len(scores) > MOST_SAMPLE:
        kept = np.linspace(0, len(scores) - 1, MOST_SAMPLE).round().astype(np.intp)
    predictor.replace_sample(scores[kept], features.rows(kept))
    predictor.sample_tokens = np.asarray(tokens, np.float64)[kept]
    return predictor
