"""Whether probabilities are true: calibration error, proper scores, and accuracy over the share of cases that is answered.

Pure functions over arrays: ``confidence`` (n,) in 0 to 1, ``right`` (n,) of truth values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from archroute_edge.deciders import SMALLEST_PROBABILITY

N_BINS = 10
"""Equal-width bins of confidence, unless told otherwise: 0 to 0.1, above 0.1 to 0.2, and so on."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The cases whose confidence is above ``low`` (or 0) and at most ``high``; the means are None where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class CoveragePoint:
    """Answering only what has at least ``confidence`` answers the share ``coverage``, of which ``accuracy`` is right."""

    confidence: float
    coverage: float
    accuracy: float


def reliability_bins(confidence: Sequence[float], right: Sequence[bool], n_bins: int = N_BINS) -> list[ReliabilityBin]:
    """Mean confidence and accuracy in ``n_bins`` bins of equal width.

    Guo et al., "On Calibration of Modern Neural Networks", 2017: bin m of M holds ((m-1)/M, m/M]; 0 is in the first.
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    places = np.clip(np.ceil(sure * n_bins) - 1, 0, n_bins - 1).astype(int)
    bins = []
    for place in range(n_bins):
        inside = places == place
        count = int(inside.sum())
        bins.append(
            ReliabilityBin(
                place / n_bins,
                (place + 1) / n_bins,
                count,
                float(sure[inside].mean()) if count else None,
                float(correct[inside].mean()) if count else None,
            )
        )
    return bins


def expected_calibration_error(confidence: Sequence[float], right: Sequence[bool], n_bins: int = N_BINS) -> float | None:
    """ECE: the mean distance of accuracy from confidence over :func:`reliability_bins`, each weighted by its cases.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015. None of no cases.
    """
    bins = reliability_bins(confidence, right, n_bins)
    total = sum(each.count for each in bins)
    if not total:
        return None
    distances = (
        each.count * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(distances) / total


def negative_log_likelihood(scores: Sequence[Mapping[str, float]], expected: Sequence[str]) -> float | None:
    """Mean of -ln P(the expected route), in nats; a probability counts as 1e-12 at least. None of no cases."""
    if not expected:
        return None
    return float(
        np.mean([-math.log(max(each[name], SMALLEST_PROBABILITY)) for each, name in zip(scores, expected, strict=True)])
    )


def brier_score(scores: Sequence[Mapping[str, float]], expected: Sequence[str]) -> float | None:
    """Mean of Σ (P(route) - [route is expected])² over all routes and ``other``: 0 is best, 2 worst. None of no cases.

    Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    if not expected:
        return None
    return float(
        np.mean(
            [
                sum((score - (route == name)) ** 2 for route, score in each.items())
                for each, name in zip(scores, expected, strict=True)
            ]
        )
    )


def coverage_curve(confidence: Sequence[float], right: Sequence[bool]) -> list[CoveragePoint]:
    """Accuracy of the surest cases, from few to all: a point for every confidence that occurs, the highest first.

    El-Yaniv and Wiener, "On the foundations of noise-free selective classification", 2010 (there as risk, 1 - accuracy).
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    order = np.argsort(-sure, kind="stable")
    sure, n_right = sure[order], np.cumsum(correct[order])
    # Cases of equal confidence are answered together or not at all.
    ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True)) if len(sure) else np.empty(0, dtype=int)
    return [CoveragePoint(float(sure[end]), float((end + 1) / len(sure)), float(n_right[end] / (end + 1))) for end in ends]


def at_coverage(curve: Sequence[CoveragePoint], coverage: float) -> CoveragePoint | None:
    """The first point of ``curve`` that answers at least the share ``coverage``; None of an empty curve."""
    return next((point for point in curve if point.coverage >= coverage - 1e-9), None)
