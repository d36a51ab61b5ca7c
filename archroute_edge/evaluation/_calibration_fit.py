"""Fitting a calibration to labelled decisions, and measuring it on decisions that it was not fitted to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from archroute_edge.deciders import SMALLEST_PROBABILITY, TEMPERATURE_LIMITS, CalibratedAnswer, Calibration
from archroute_edge.errors import CalibrationError
from archroute_edge.evaluation._cases import Case
from archroute_edge.evaluation._evaluation import CaseResult
from archroute_edge.evaluation._metrics import N_BINS, at_most, expected_calibration_error, negative_log_likelihood
from archroute_edge.report import Share
from archroute_edge.routes import OTHER

_SEVERAL_TABLES: Final = 3
_CHANCE: Final = 0.05
_DIGITS: Final = 6
RIGHT_WHERE_SURE: Final = 0.95
"""Of the decisions that a cascade leaves to its encoder, the share that is to be right."""


@dataclass(frozen=True)
class Fit:
    """A temperature, and the calibrated confidence below which ``other`` is the better answer (0 for none).

    ``switch_over`` is the calibrated confidence from which on a decision may be left to the model, None if there is none.
    """

    temperature: float
    other_below: float
    switch_over: float | None = None


@dataclass(frozen=True)
class SureDecisions:
    """Of decisions that were held out: how many are sure enough to be left to the model, and how many of those are right."""

    share: Share
    accuracy: Share


@dataclass(frozen=True)
class Figures:
    """Accuracy, mean negative log likelihood (nats) and calibration error (ten bins of equal width) of decisions."""

    accuracy: Share
    nll: float
    ece: float


@dataclass(frozen=True)
class CrossValidation:
    """Figures of decisions, each calibrated with what was fitted to the other folds.

    Attributes:
        by: what was kept in one fold: ``route table`` or ``conversation``.
        before: without calibration; ``temperature`` with the temperature alone, ``after`` with the bound as well.
        sure: what a cascade leaves to the model at the switch-over of the other folds.
    """

    folds: tuple[int, ...]
    by: str
    fits: tuple[Fit, ...]
    before: Figures
    temperature: Figures
    after: Figures
    sure: SureDecisions

    def to_dict(self, *, with_switch_over: bool = False) -> dict[str, Any]:
        """As the calibration's file has it, for an encoder ``with_switch_over``."""
        stages = {"before": self.before, "with_temperature": self.temperature, "with_temperature_and_bound": self.after}
        found = {name: {"accuracy": each.accuracy.share, "nll": each.nll, "ece": each.ece} for name, each in stages.items()}
        if with_switch_over:
            found["above_switch_over"] = {"decided": self.sure.share.share, "accuracy": self.sure.accuracy.share}
        rounded = {name: {key: value and round(value, _DIGITS) for key, value in each.items()} for name, each in found.items()}
        return {"folds": len(self.fits), "by": self.by, "ece_bins": N_BINS, **rounded}


def fit_temperature(scores: Sequence[Mapping[str, float]], expected: Sequence[str]) -> float:
    """The temperature, from 0.05 to 20, whose calibrated probabilities have the least mean negative log likelihood.

    With b = 1/T that is convex, and its derivative, the mean of E[ln P] under P^b minus ln P(expected), grows with b: the
    root is bisected.
    """
    logs = np.full((len(scores), max(len(each) for each in scores)), -np.inf)
    for row, each in enumerate(scores):
        logs[row, : len(each)] = np.log(np.maximum(list(each.values()), SMALLEST_PROBABILITY))
    wanted = np.log([max(each[name], SMALLEST_PROBABILITY) for each, name in zip(scores, expected, strict=True)])
    finite = np.where(np.isneginf(logs), 0.0, logs)

    def slope(inverse: float) -> float:
        powers = inverse * logs
        weights = np.exp(powers - powers.max(axis=1, keepdims=True))
        return float(np.mean((weights * finite).sum(axis=1) / weights.sum(axis=1) - wanted))

    least, most = TEMPERATURE_LIMITS
    low, high = 1 / most, 1 / least
    if slope(high) <= 0:
        return least
    if slope(low) >= 0:
        return most
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def fit_other_bound(confidence: Sequence[float], decided: Sequence[str], expected: Sequence[str]) -> float:
    """The confidence below which answering ``other`` instead makes most decisions right; 0 where it does not help.

    It helps where the cases it mends outnumber those it spoils by more than chance would (sign test, one-sided, 5 %).
    """
    changes = sorted(
        (sure, (right == OTHER) - (answer == right))
        for sure, answer, right in zip(confidence, decided, expected, strict=True)
        if answer != OTHER
    )
    best, bound, gain, mended, spoiled = 0, 0.0, 0, 0, 0
    for place, (sure, change) in enumerate(changes):
        gain += change
        mended += change > 0
        spoiled += change < 0
        following = changes[place + 1][0] if place + 1 < len(changes) else 1.0
        if gain > best and following > sure and at_most(spoiled, mended + spoiled) < _CHANCE:
            best, bound = gain, (sure + following) / 2
    return bound


def fit_switch_over(confidence: Sequence[float], right: Sequence[bool]) -> float | None:
    """The least confidence from which on :data:`RIGHT_WHERE_SURE` of the decisions are right; None if there is none."""
    found: float | None = None
    n_right = 0
    ranked = sorted(zip(confidence, right, strict=True), reverse=True)
    for number, (sure, is_right) in enumerate(ranked, start=1):
        n_right += is_right
        # Decisions of equal confidence are on one side.
        last = number == len(ranked) or ranked[number][0] < sure
        if last and n_right >= RIGHT_WHERE_SURE * number:
            found = sure
    return found


def fit(results: Sequence[CaseResult]) -> Fit:
    """Temperature first, then the bound on the confidences it gives, then the switch-over on what comes of both.

    Args:
        results: decisions without calibration, one at least.
    """
    expected, decided = [each.expected for each in results], [each.decided for each in results]
    temperature = round(fit_temperature([each.scores for each in results], expected), _DIGITS)
    tempered = _calibrated(results, [Fit(temperature, 0.0)] * len(results))
    # The bounds are not rounded: that would move them to the other side of the decisions that set them.
    bound = fit_other_bound([answer.confidence for answer in tempered], decided, expected)
    answers = _calibrated(results, [Fit(temperature, bound)] * len(results))
    right = [answer.route == name for answer, name in zip(answers, expected, strict=True)]
    return Fit(temperature, bound, fit_switch_over([answer.confidence for answer in answers], right))


def cross_validate(cases: Sequence[Case], results: Sequence[CaseResult], n_folds: int = 5) -> CrossValidation:
    """Figures of calibrations fitted without the cases they are measured on.

    With three route tables or more, all cases of a table are in one fold, otherwise all turns of a conversation: cases that
    are alike are on one side.

    Raises:
        CalibrationError: there are fewer than two such groups.
    """
    groups, by = _groups(cases)
    folds = assign_folds(groups, n_folds)
    n_used = max(folds) + 1
    if n_used < 2:
        raise CalibrationError(
            f"{len(cases)} cases of one {by} cannot be calibrated on: held-out figures need two conversations at least"
        )
    fits = tuple(fit([each for each, other in zip(results, folds, strict=True) if other != fold]) for fold in range(n_used))
    expected = [each.expected for each in results]
    whole = _calibrated(results, [fits[fold] for fold in folds])
    sure = [
        answer.route == name
        for answer, name, fold in zip(whole, expected, folds, strict=True)
        if (least := fits[fold].switch_over) is not None and answer.confidence >= least
    ]
    return CrossValidation(
        folds=tuple(folds),
        by=by,
        fits=fits,
        before=_figures(_calibrated(results, [Fit(1.0, 0.0)] * len(results)), expected),
        temperature=_figures(_calibrated(results, [Fit(fits[fold].temperature, 0.0) for fold in folds]), expected),
        after=_figures(whole, expected),
        sure=SureDecisions(Share(len(sure), len(results)), Share(sum(sure), len(sure))),
    )


def assign_folds(groups: Sequence[Hashable], n_folds: int) -> list[int]:
    """A fold for each member, those of one group together, folds of about equal size: the largest group goes first."""
    sizes = Counter(groups)
    load = [0] * min(n_folds, len(sizes))
    fold_of = {}
    for group, size in sorted(sizes.items(), key=lambda item: -item[1]):
        fold_of[group] = load.index(min(load))
        load[fold_of[group]] += size
    return [fold_of[group] for group in groups]


def _groups(cases: Sequence[Case]) -> tuple[list[Hashable], str]:
    if len({case.table for case in cases}) >= _SEVERAL_TABLES:
        return [case.table for case in cases], "route table"
    alone = [place if case.conversation_id is None else case.conversation_id for place, case in enumerate(cases)]
    return list(alone), "conversation"


def _calibrated(results: Sequence[CaseResult], fits: Sequence[Fit]) -> list[CalibratedAnswer]:
    return [
        Calibration(fitted.temperature, fitted.other_below, "", "", "").apply(each.decided, each.scores)
        for each, fitted in zip(results, fits, strict=True)
    ]


def _figures(answers: Sequence[CalibratedAnswer], expected: Sequence[str]) -> Figures:
    right = [answer.route == name for answer, name in zip(answers, expected, strict=True)]
    nll = negative_log_likelihood([answer.scores for answer in answers], expected)
    ece = expected_calibration_error([answer.confidence for answer in answers], right)
    assert nll is not None
    assert ece is not None
    return Figures(Share(sum(right), len(right)), nll, ece)
