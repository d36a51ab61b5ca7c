"""What an evaluation found: the figures of one model, and of two on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from archroute_edge.conversation import read_messages
from archroute_edge.deciders import LOW_CONFIDENCE
from archroute_edge.evaluation import _metrics as metrics
from archroute_edge.evaluation._cases import Case
from archroute_edge.evaluation._evaluation import CaseResult
from archroute_edge.report import Share, counted, p95, printable
from archroute_edge.routes import RouteTable

_CONFUSIONS_KEPT: Final = 50
_SHORT: Final = 30
_CHANCE: Final = 0.05
_SEVERAL_TABLES: Final = 3


@dataclass(frozen=True)
class ModelReport:
    """Figures of one model over the cases that it has decided.

    Attributes:
        cases: those that were decided, in the order of the file.
        results: a result for each of them.
        unfinished: conversations of which a turn was not decided; their first turns alone would misjudge them.
    """

    name: str
    prompt_format: str
    cases: Sequence[Case]
    results: Sequence[CaseResult]
    unfinished: frozenset[str | None] = field(default_factory=frozenset)

    @cached_property
    def expected(self) -> Sequence[str]:
        """The right route of each case."""
        return [each.expected for each in self.results]

    @cached_property
    def decided(self) -> Sequence[str]:
        """The decided route of each case."""
        return [each.decided for each in self.results]

    @cached_property
    def right(self) -> Sequence[bool]:
        """Whether each case was decided right."""
        return [each.right for each in self.results]

    @cached_property
    def confidence(self) -> Sequence[float]:
        """The confidence of each decision."""
        return [each.confidence for each in self.results]

    @cached_property
    def accuracy(self) -> Share:
        """Share of right decisions."""
        return metrics.equal(self.expected, self.decided)

    @cached_property
    def by_tag(self) -> Mapping[str, Share]:
        """Accuracy over the cases of each tag."""
        return metrics.accuracy_by_tag((case.tags for case in self.cases), self.right)

    @cached_property
    def by_route(self) -> Sequence[metrics.RouteFigures]:
        """Precision, recall and F1, routes of one name pooled."""
        return metrics.figures_by_route(self.expected, self.decided)

    @cached_property
    def worst(self) -> Sequence[metrics.Confusion]:
        """The most frequent confusions; their ``cases`` are places in :attr:`cases`."""
        return metrics.worst_confusions(self.expected, self.decided, _CONFUSIONS_KEPT)

    @cached_property
    def conversations(self) -> metrics.ConversationScores | None:
        """None where no case belongs to a conversation that was decided whole."""
        pairs = zip(self.cases, self.right, strict=True)
        whole = [(case, right) for case, right in pairs if case.conversation_id not in self.unfinished]
        return metrics.conversation_scores([case for case, _ in whole], [right for _, right in whole])

    @cached_property
    def coverage(self) -> Sequence[metrics.CoveragePoint]:
        """Accuracy over the share of cases answered."""
        return metrics.coverage_curve(self.confidence, self.right)

    @cached_property
    def reliability(self) -> Sequence[metrics.ReliabilityBin]:
        """Confidence and accuracy in ten bins."""
        return metrics.reliability_bins(self.confidence, self.right)

    @cached_property
    def greedy_is_not_most_probable(self) -> Share:
        """Cases whose decided route is not the most probable one; without those that a calibration turned into ``other``."""
        own = [each for each in self.results if each.reason != LOW_CONFIDENCE]
        return Share(sum(each.most_probable != each.decided for each in own), len(own))

    @cached_property
    def milliseconds(self) -> tuple[float, float | None] | None:
        """Median and 95th percentile of a decision with all scores; no percentile of few cases."""
        times = [each.milliseconds for each in self.results]
        return (float(np.percentile(times, 50)), p95(times)) if times else None

    @cached_property
    def places_by_table(self) -> Mapping[RouteTable, Sequence[int]]:
        """Places in :attr:`cases` of each route table, the table with the least share of right decisions first."""
        found: dict[RouteTable, list[int]] = {}
        for place, case in enumerate(self.cases):
            found.setdefault(case.table, []).append(place)
        return dict(sorted(found.items(), key=lambda item: sum(self.right[place] for place in item[1]) / len(item[1])))


@dataclass(frozen=True)
class Comparison:
    """Two models on the cases that both have decided; the first is the reference of the divergence.

    ``differing`` are places in ``cases`` where they decide differently, ``divergences`` a KL divergence a case, in nats.
    """

    names: tuple[str, str]
    cases: Sequence[Case]
    results: tuple[Sequence[CaseResult], Sequence[CaseResult]]
    agreement: Share
    divergences: Sequence[float]
    test: metrics.PairedTest
    differing: Sequence[int]

    @property
    def mean_kl(self) -> float | None:
        """Mean divergence of the second model's probabilities from the first's, in nats."""
        return float(np.mean(self.divergences)) if self.divergences else None

    def verdict(self) -> str:
        """Which model is right more often, in a sentence."""
        if self.test.only_first == self.test.only_second:
            return "Neither is right more often."
        better = printable(self.names[self.test.only_second > self.test.only_first])
        if self.test.p_value < _CHANCE:
            return f"{better} is right more often, by more than chance would give (5 %)."
        return f"{better} is right more often, by no more than chance could give; more cases would tell."


@dataclass(frozen=True)
class EvaluationReport:
    """A report a model, and the comparison where there are two; ``partial`` if a run was interrupted."""

    source: str
    n_cases: int
    n_tables: int
    models: Sequence[ModelReport]
    comparison: Comparison | None
    partial: bool = False

    def domains(self) -> set[str]:
        """The tags that name a domain: every case of their route tables has them. With few tables none can be told."""
        if self.n_tables < _SEVERAL_TABLES:
            return set()
        cases = self.models[0].cases
        of_table: dict[RouteTable, set[str]] = {}
        for case in cases:
            of_table.setdefault(case.table, set(case.tags)).intersection_update(case.tags)
        tables = {tag: {case.table for case in cases if tag in case.tags} for case in cases for tag in case.tags}
        return {tag for tag, own in tables.items() if len(own) < len(of_table) and all(tag in of_table[table] for table in own)}

    def described(self) -> str:
        """What was run, in a sentence or two."""
        text = f"{counted(self.n_cases, 'case')} over {counted(self.n_tables, 'route table')}, from {self.source}."
        if self.partial:
            done = " and ".join(f"{len(model.results)} of them by {model.name}" for model in self.models)
            text += f" PARTIAL: the run was interrupted; decided were {done}, and every figure is over these alone."
        return text

    def answer(self) -> list[str]:
        """The finding, a sentence each."""
        lines = []
        for each in self.models:
            accuracy = each.accuracy
            lines.append(
                f"{printable(each.name)} decides {100 * (accuracy.share or 0):.1f} % of {accuracy.total} cases right "
                f"(95 % interval {accuracy.interval_text} %)."
            )
        return [*lines, self.comparison.verdict()] if self.comparison else lines


def report_on(name: str, prompt_format: str, cases: Sequence[Case], results: Mapping[int, CaseResult]) -> ModelReport:
    """The report of ``results``, which are by place in ``cases`` and may be a part of them."""
    places = sorted(results)
    unfinished = {case.conversation_id for place, case in enumerate(cases) if place not in results}
    done = [cases[place] for place in places]
    return ModelReport(name, prompt_format, done, [results[place] for place in places], frozenset(unfinished))


def compare(first: ModelReport, second: ModelReport) -> Comparison:
    """The two models on the cases that both have decided; both reports are over the same cases."""
    lines = {each.line: each for each in second.results}
    both = [place for place, each in enumerate(first.results) if each.line in lines]
    ones = [first.results[place] for place in both]
    twos = [lines[each.line] for each in ones]
    return Comparison(
        names=(first.name, second.name),
        cases=[first.cases[place] for place in both],
        results=(ones, twos),
        agreement=metrics.equal([each.decided for each in ones], [each.decided for each in twos]),
        divergences=[metrics.kl_divergence(one.scores, two.scores) for one, two in zip(ones, twos, strict=True)],
        test=metrics.mcnemar([each.right for each in ones], [each.right for each in twos]),
        differing=[place for place, (one, two) in enumerate(zip(ones, twos, strict=True)) if one.decided != two.decided],
    )


def last_message(case: Case, most: int = 90) -> str:
    """The user's last message on one line of at most ``most`` characters; before a short one the message before it."""
    texts = [turn.content for turn in read_messages(case.messages) if turn.role == "user"]
    last = printable(texts[-1], most)
    if len(texts) > 1 and len(last) <= _SHORT:
        return f"{printable(texts[-2], most - len(last) - 3)} / {last}"
    return last
