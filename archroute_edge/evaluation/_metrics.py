"""Figures of decisions: how often they are right, whether their probabilities are true, and how two models differ.

Pure functions over sequences with an entry a case. Routes of different tables that have one name count as one route: a name
is all that a decision gives.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from archroute_edge.deciders import SMALLEST_PROBABILITY
from archroute_edge.evaluation._cases import Case
from archroute_edge.report import Share

N_BINS: Final = 10
"""Equal-width bins of confidence, unless told otherwise: 0 to 0.1, above 0.1 to 0.2, and so on."""


@dataclass(frozen=True)
class RouteFigures:
    """How many cases belong to a route, how many were sent there, and how many of these rightly."""

    route: str
    expected: int
    decided: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of the cases sent to the route that belong there."""
        return self.right / self.decided if self.decided else None

    @property
    def recall(self) -> float | None:
        """Share of the route's cases that were sent there."""
        return self.right / self.expected if self.expected else None

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, as 2 TP / (2 TP + FP + FN), which is 0 where one of them is undefined."""
        return 2 * self.right / (self.expected + self.decided)


@dataclass(frozen=True)
class Confusion:
    """``count`` cases of route ``expected`` were sent to ``decided``; ``cases`` are their places in the sequence given."""

    expected: str
    decided: str
    count: int
    cases: tuple[int, ...]


@dataclass(frozen=True)
class ConversationScores:
    """The three scores of the Arch-Router paper for conversations: turns, spans and whole conversations that are right."""

    turns: Share
    spans: Share
    conversations: Share


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


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test: cases that only one of two models decided right, and the probability of so large a difference
    where both are right equally often."""

    only_first: int
    only_second: int
    p_value: float


def equal(ones: Sequence[str], others: Sequence[str]) -> Share:
    """Share of places at which both have the same: accuracy of decisions, or agreement of two models."""
    return Share(sum(one == other for one, other in zip(ones, others, strict=True)), len(ones))


def accuracy_by_tag(tags: Iterable[Sequence[str]], right: Sequence[bool]) -> dict[str, Share]:
    """Accuracy over the cases of each tag, in alphabetical order; a case counts under each of its tags."""
    found: dict[str, list[bool]] = {}
    for names, is_right in zip(tags, right, strict=True):
        for name in dict.fromkeys(names):
            found.setdefault(name, []).append(is_right)
    return {name: Share(sum(found[name]), len(found[name])) for name in sorted(found)}


def figures_by_route(expected: Sequence[str], decided: Sequence[str]) -> list[RouteFigures]:
    """Figures of every name that was expected or decided, the most often expected first."""
    wanted, given = Counter(expected), Counter(decided)
    right = Counter(one for one, two in zip(expected, decided, strict=True) if one == two)
    names = sorted(wanted.keys() | given.keys(), key=lambda name: (-wanted[name], -given[name], name))
    return [RouteFigures(name, wanted[name], given[name], right[name]) for name in names]


def macro_f1(figures: Sequence[RouteFigures]) -> float | None:
    """Mean F1 over the routes that were expected or decided, each counting as much as any other.

    Sokolova and Lapalme, "A systematic analysis of performance measures for classification tasks", 2009; averaged as F1 of
    each class, not as F1 of averaged precision and recall.
    """
    return float(np.mean([each.f1 for each in figures])) if figures else None


def confusion_counts(expected: Sequence[str], decided: Sequence[str]) -> dict[str, dict[str, int]]:
    """``counts[expected][decided]``, without zeros."""
    counts: dict[str, dict[str, int]] = {}
    for (one, two), count in Counter(zip(expected, decided, strict=True)).items():
        counts.setdefault(one, {})[two] = count
    return counts


def worst_confusions(expected: Sequence[str], decided: Sequence[str], most: int) -> list[Confusion]:
    """The ``most`` frequent pairs of an expected and another decided route."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(zip(expected, decided, strict=True)):
        if pair[0] != pair[1]:
            places.setdefault(pair, []).append(place)
    found = [Confusion(*pair, len(cases), tuple(cases)) for pair, cases in places.items()]
    return sorted(found, key=lambda each: (-each.count, each.expected, each.decided))[:most]


def conversation_scores(cases: Sequence[Case], right: Sequence[bool]) -> ConversationScores | None:
    """Shares of turns, of spans and of whole conversations that are right; None where no case has a conversation.

    Arch-Router (Tran et al., "Arch-Router: Aligning LLM Routing with Human Preferences", 2025): a span is a maximal run of
    turns of one conversation on one route, and is right when all its turns are; so is a conversation. A turn's ``span`` says
    which run it belongs to, or else its expected route does. Turns are ordered by ``turn``, then by line.
    """
    conversations: dict[str, list[tuple[Case, bool]]] = {}
    for case, is_right in zip(cases, right, strict=True):
        if case.conversation_id is not None:
            conversations.setdefault(case.conversation_id, []).append((case, is_right))
    turns: list[bool] = []
    spans: list[bool] = []
    whole: list[bool] = []
    for members in conversations.values():
        members.sort(key=lambda member: (member[0].turn, member[0].line))
        before: tuple[str, str] | None = None
        for case, is_right in members:
            run = ("route", case.route) if case.span is None else ("span", case.span)
            if run == before:
                spans[-1] = spans[-1] and is_right
            else:
                spans.append(is_right)
            before = run
        turns += [is_right for _, is_right in members]
        whole.append(all(is_right for _, is_right in members))
    return ConversationScores(*(Share(sum(each), len(each)) for each in (turns, spans, whole))) if turns else None


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
        means = (float(sure[inside].mean()), float(correct[inside].mean())) if count else (None, None)
        bins.append(ReliabilityBin(place / n_bins, (place + 1) / n_bins, count, *means))
    return bins


def expected_calibration_error(confidence: Sequence[float], right: Sequence[bool], n_bins: int = N_BINS) -> float | None:
    """ECE: the mean distance of accuracy from confidence over :func:`reliability_bins`, each weighted by its cases.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015. None of no cases.
    """
    distances = (
        each.count * abs(each.accuracy - each.confidence)
        for each in reliability_bins(confidence, right, n_bins)
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(distances) / len(right) if right else None


def negative_log_likelihood(scores: Sequence[Mapping[str, float]], expected: Sequence[str]) -> float | None:
    """Mean of -ln P(the expected route), in nats; a probability counts as 1e-12 at least. None of no cases."""
    terms = [-math.log(max(each[name], SMALLEST_PROBABILITY)) for each, name in zip(scores, expected, strict=True)]
    return float(np.mean(terms)) if terms else None


def brier_score(scores: Sequence[Mapping[str, float]], expected: Sequence[str]) -> float | None:
    """Mean of Σ (P(route) - [route is expected])² over all routes and ``other``: 0 is best, 2 worst. None of no cases.

    Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    terms = [
        sum((score - (route == name)) ** 2 for route, score in each.items())
        for each, name in zip(scores, expected, strict=True)
    ]
    return float(np.mean(terms)) if terms else None


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


def kl_divergence(reference: Mapping[str, float], other: Mapping[str, float]) -> float:
    """D(reference ‖ other) = Σ p ln(p / q) over the routes, in nats; never below 0, and 0 for equal distributions.

    Kullback and Leibler, "On information and sufficiency", 1951. Both are brought to sum to 1, with 1e-12 as the least
    probability, so that an answer that one model holds for impossible does not make it infinite.

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


def at_most(few: int, total: int) -> float:
    """P(X <= few) of X ~ Binomial(total, 1/2): the one-sided sign test, exact for any ``total``."""
    return sum(math.comb(total, k) for k in range(few + 1)) / (1 << total)


def mcnemar(first_right: Sequence[bool], second_right: Sequence[bool]) -> PairedTest:
    """McNemar's test, exact and two-sided: 2 P(X <= min(b, c)) of X ~ Binomial(b + c, 1/2), at most 1.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947; the
    exact form is the sign test on the cases that only one model decides right.
    """
    only_first = sum(one and not two for one, two in zip(first_right, second_right, strict=True))
    only_second = sum(two and not one for one, two in zip(first_right, second_right, strict=True))
    tail = at_most(min(only_first, only_second), only_first + only_second)
    return PairedTest(only_first, only_second, min(1.0, 2 * tail))
