"""Two models on the same cases: how often they agree, how far their probabilities are apart, and whether one is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archroute_edge.deciders import SMALLEST_PROBABILITY
from archroute_edge.evaluation._metrics import Share


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test of two models' decisions on the same cases.

    ``only_first`` cases only the first model decided right, ``only_second`` only the second; ``p_value`` is the
    probability of a difference at least as large where both are right equally often.
    """

    only_first: int
    only_second: int
    p_value: float


def agreement(first: Sequence[str], second: Sequence[str]) -> Share:
    """Share of cases on which two models decide the same."""
    return Share(sum(one == two for one, two in zip(first, second, strict=True)), len(first))


def kl_divergence(reference: Mapping[str, float], other: Mapping[str, float]) -> float:
    """D(reference ‖ other) = Σ p ln(p / q) over the routes, in nats; never below 0, and 0 for equal distributions.

    Kullback and Leibler, "On information and sufficiency", 1951. Both are brought to sum to 1, with 1e-12 as the least
    probability, so that what one model holds for impossible does not make it infinite.

    Raises:
        ValueError: they are not over the same routes.
    """
    if reference.keys() != other.keys():
        raise ValueError("the distributions are not over the same routes")
    total_p = sum(max(each, SMALLEST_PROBABILITY) for each in reference.values())
    total_q = sum(max(each, SMALLEST_PROBABILITY) for each in other.values())
    terms = []
    for route, score in reference.items():
        p, q = max(score, SMALLEST_PROBABILITY) / total_p, max(other[route], SMALLEST_PROBABILITY) / total_q
        terms.append(p * math.log(p / q))
    return max(0.0, math.fsum(terms))


def mean_kl_divergence(reference: Sequence[Mapping[str, float]], other: Sequence[Mapping[str, float]]) -> float | None:
    """Mean of :func:`kl_divergence` over the cases, in nats; None of no cases."""
    found = [kl_divergence(one, two) for one, two in zip(reference, other, strict=True)]
    return math.fsum(found) / len(found) if found else None


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> PairedTest:
    """McNemar's test, exact and two-sided: 2 P(X <= min(b, c)) of X ~ Binomial(b + c, 1/2), at most 1.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947; the
    exact form is the sign test on the cases that only one model decides right.
    """
    only_first = sum(one and not two for one, two in zip(first_right, second_right, strict=True))
    only_second = sum(two and not one for one, two in zip(first_right, second_right, strict=True))
    n_different = only_first + only_second
    tail = sum(math.comb(n_different, k) for k in range(min(only_first, only_second) + 1))
    return PairedTest(only_first, only_second, min(1.0, 2 * tail / 2**n_different))
