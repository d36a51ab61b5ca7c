"""What an evaluation found: every figure of one model, and of two on the same cases, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import LOW_CONFIDENCE
from archroute_edge.evaluation import _comparison_metrics as comparison_metrics
from archroute_edge.evaluation import _confidence_metrics as confidence_metrics
from archroute_edge.evaluation import _metrics as metrics
from archroute_edge.evaluation._cases import Case
from archroute_edge.evaluation._cells import printable
from archroute_edge.evaluation._confidence_metrics import CoveragePoint, ReliabilityBin
from archroute_edge.evaluation._evaluation import CaseResult
from archroute_edge.evaluation._metrics import Confusion, ConversationScores, RouteFigures, Share

_CONFUSIONS_KEPT: Final = 50
_SHORT: Final = 30
COVERAGES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the cases at which the accuracy is stated."""


@dataclass(frozen=True)
class ModelReport:
    """Figures of one model over the cases that it has decided.

    Attributes:
        name: of the model.
        prompt_format: how it was asked.
        n_cases: cases of the evaluation; more than ``results`` where it was interrupted.
        cases: those that were decided, in the order of the file.
        results: a result for each of them.
        by_tag: accuracy of the cases of each tag.
        by_route: precision, recall and F1, routes of one name pooled.
        confusions: ``[expected][decided]`` counts.
        worst: the most frequent confusions; their ``cases`` are places in ``cases``.
        conversations: None where no case belongs to a conversation that was decided whole.
        coverage: accuracy over the share of cases answered.
        nll: negative log likelihood, mean, in nats.
        greedy_is_not_most_probable: cases whose decided route is not the most probable one, those that a calibration
            turned into ``other`` left out.
    """

    name: str
    prompt_format: str
    n_cases: int
    cases: Sequence[Case]
    results: Sequence[CaseResult]
    accuracy: Share
    by_tag: Mapping[str, Share]
    by_route: Sequence[RouteFigures]
    macro_f1: float | None
    confusions: Mapping[str, Mapping[str, int]]
    worst: Sequence[Confusion]
    conversations: ConversationScores | None
    coverage: Sequence[CoveragePoint]
    reliability: Sequence[ReliabilityBin]
    ece: float | None
    nll: float | None
    brier: float | None
    greedy_is_not_most_probable: Share
    low_confidence: int
    trimmed: int
    milliseconds: tuple[float, float] | None
    """Median and 95th percentile of a decision with all scores."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the cases that both have decided; the first is the reference of the divergence.

    ``differing`` are places in ``cases`` where they decide differently, ``divergences`` a KL divergence a case, in nats.
    """

    names: tuple[str, str]
    cases: Sequence[Case]
    results: tuple[Sequence[CaseResult], Sequence[CaseResult]]
    agreement: Share
    mean_kl: float | None
    divergences: Sequence[float]
    test: comparison_metrics.PairedTest
    differing: Sequence[int]


@dataclass(frozen=True)
class EvaluationReport:
    """All of an evaluation: where the cases come from, a report a model, and the comparison where there are two."""

    source: str
    n_cases: int
    n_tables: int
    models: Sequence[ModelReport]
    comparison: Comparison | None
    partial: bool = False
    """Whether it was interrupted, so that the figures are over a part of the cases."""


def report_on(name: str, prompt_format: str, cases: Sequence[Case], results: Mapping[int, CaseResult]) -> ModelReport:
    """Work out every figure.

    Args:
        name: of the model.
        prompt_format: how it was asked.
        cases: all cases of the evaluation.
        results: what was decided, by place in ``cases``; may be a part.
    """
    places = sorted(results)
    done, found = [cases[place] for place in places], [results[place] for place in places]
    expected, decided = [each.expected for each in found], [each.decided for each in found]
    right, confidence = [each.right for each in found], [each.confidence for each in found]
    scores = [each.scores for each in found]
    own = [each for each in found if each.reason != LOW_CONFIDENCE]
    times = [each.milliseconds for each in found]
    by_route = metrics.figures_by_route(expected, decided)
    # A conversation of which a part is missing would be judged by its first turns.
    unfinished = {case.conversation_id for place, case in enumerate(cases) if place not in results}
    whole = [case.conversation_id not in unfinished for case in done]
    return ModelReport(
        name=name,
        prompt_format=prompt_format,
        n_cases=len(cases),
        cases=done,
        results=found,
        accuracy=metrics.accuracy(expected, decided),
        by_tag=metrics.accuracy_by_tag((case.tags for case in done), expected, decided),
        by_route=by_route,
        macro_f1=metrics.macro_f1(by_route),
        confusions=metrics.confusion_counts(expected, decided),
        worst=metrics.worst_confusions(expected, decided, _CONFUSIONS_KEPT),
        conversations=metrics.conversation_scores(
            [case for case, is_whole in zip(done, whole, strict=True) if is_whole],
            [each for each, is_whole in zip(right, whole, strict=True) if is_whole],
        ),
        coverage=confidence_metrics.coverage_curve(confidence, right),
        reliability=confidence_metrics.reliability_bins(confidence, right),
        ece=confidence_metrics.expected_calibration_error(confidence, right),
        nll=confidence_metrics.negative_log_likelihood(scores, expected),
        brier=confidence_metrics.brier_score(scores, expected),
        greedy_is_not_most_probable=Share(sum(each.most_probable != each.decided for each in own), len(own)),
        low_confidence=len(found) - len(own),
        trimmed=sum(each.trimmed for each in found),
        milliseconds=(float(np.percentile(times, 50)), float(np.percentile(times, 95))) if times else None,
    )


def compare(first: ModelReport, second: ModelReport) -> Comparison:
    """The two models on the cases that both have decided; both reports are over the same cases."""
    lines = {each.line: each for each in second.results}
    both = [place for place, each in enumerate(first.results) if each.line in lines]
    cases, ones = [first.cases[place] for place in both], [first.results[place] for place in both]
    twos = [lines[each.line] for each in ones]
    divergences = [comparison_metrics.kl_divergence(one.scores, two.scores) for one, two in zip(ones, twos, strict=True)]
    return Comparison(
        names=(first.name, second.name),
        cases=cases,
        results=(ones, twos),
        agreement=comparison_metrics.agreement([each.decided for each in ones], [each.decided for each in twos]),
        mean_kl=float(np.mean(divergences)) if divergences else None,
        divergences=divergences,
        test=comparison_metrics.mcnemar([each.right for each in ones], [each.right for each in twos]),
        differing=[place for place, (one, two) in enumerate(zip(ones, twos, strict=True)) if one.decided != two.decided],
    )


def last_message(case: Case, most: int = 90) -> str:
    """The user's last message on one line of at most ``most`` characters; before a short one the message before it."""
    texts = [turn.content for turn in read_messages(case.messages) if turn.role == "user"]
    last = printable(texts[-1], most)
    if len(texts) > 1 and len(last) <= _SHORT:
        return f"{printable(texts[-2], most - len(last) - 3)} / {last}"
    return last
