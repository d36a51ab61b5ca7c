"""The tables of an evaluation's report, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from archroute_edge.evaluation._cells import NONE, Table, number, percent, printable, share
from archroute_edge.evaluation._confidence_metrics import at_coverage
from archroute_edge.evaluation._metrics import Confusion, folded_confusions
from archroute_edge.evaluation._report import COVERAGES, Comparison, EvaluationReport, ModelReport, last_message

REST: Final = "all others"
"""What routes are called together that are too many for a confusion table."""

_NAME: Final = 32


def summary_table(report: EvaluationReport) -> Table:
    """A row a figure, a column a model."""
    rows: list[tuple[str, Callable[[ModelReport], str]]] = [
        ("accuracy (95 % interval)", lambda model: share(model.accuracy)),
        ("macro F1 over routes", lambda model: number(model.macro_f1)),
    ]
    if any(model.conversations for model in report.models):
        rows += [
            ("turns right", lambda model: _conversation_share(model, "turns")),
            ("spans right", lambda model: _conversation_share(model, "spans")),
            ("conversations right", lambda model: _conversation_share(model, "conversations")),
        ]
    rows += [
        ("calibration error (ECE, 10 bins)", lambda model: number(model.ece)),
        ("negative log likelihood, nats", lambda model: number(model.nll)),
        ("Brier score, 0 to 2", lambda model: number(model.brier)),
        ("most probable answer not the greedy one", lambda model: share(model.greedy_is_not_most_probable)),
    ]
    if any(model.low_confidence for model in report.models):
        rows.append(("other for low confidence, cases", lambda model: str(model.low_confidence)))
    if any(model.trimmed for model in report.models):
        rows.append(("trimmed conversations, cases", lambda model: str(model.trimmed)))
    rows.append(("time with all scores, p50 / p95", _times))
    return Table(
        "Figures",
        ("", *(f"{printable(model.name)} ({model.prompt_format})" for model in report.models)),
        [(title, *(figure(model) for model in report.models)) for title, figure in rows],
    )


def comparison_table(comparison: Comparison) -> Table:
    """Agreement, divergence and McNemar's test."""
    first, second = (printable(name, _NAME) for name in comparison.names)
    test = comparison.test
    worst = max(comparison.divergences, default=None)
    return Table(
        f"{first} and {second} on the same {len(comparison.cases)} cases",
        ("", "value"),
        [
            ("decided the same", share(comparison.agreement)),
            (f"KL divergence from {first}, mean, nats", number(comparison.mean_kl, 4)),
            ("largest on one case", number(worst, 4)),
            (f"only {first} right", str(test.only_first)),
            (f"only {second} right", str(test.only_second)),
            ("McNemar's exact test, p", f"{test.p_value:.3g}"),
        ],
        note=_verdict(comparison),
    )


def differing_table(comparison: Comparison, most: int) -> Table | None:
    """Cases that the two decide differently; None where there are none."""
    if not comparison.differing:
        return None
    rows = []
    for place in comparison.differing[:most]:
        case, one, two = comparison.cases[place], comparison.results[0][place], comparison.results[1][place]
        rows.append(
            (str(case.line), *(printable(name, _NAME) for name in (case.route, one.decided, two.decided)), last_message(case))
        )
    names = (printable(name, _NAME) for name in comparison.names)
    return Table(
        "Decided differently",
        ("line", "expected", *names, "message"),
        rows,
        text_columns=5,
        note=f"{len(rows)} of {len(comparison.differing)}",
    )


def tag_table(report: EvaluationReport) -> Table | None:
    """Accuracy by tag; None where no case has any."""
    tags = sorted({tag for model in report.models for tag in model.by_tag})
    if not tags:
        return None
    return Table(
        "Accuracy by tag",
        ("tag", *(printable(model.name) for model in report.models)),
        [(printable(tag, _NAME), *(share(model.by_tag.get(tag)) for model in report.models)) for tag in tags],
    )


def route_table(model: ModelReport, most: int) -> Table:
    """Precision, recall and F1 of the ``most`` most frequent routes."""
    shown = model.by_route[:most]
    more = f"; {len(model.by_route) - most} rarer ones are not shown" if len(model.by_route) > most else ""
    return Table(
        f"By route: {printable(model.name)}",
        ("route", "expected", "decided", "precision", "recall", "F1"),
        [
            (
                printable(each.route, _NAME),
                str(each.expected),
                str(each.decided),
                percent(each.precision),
                percent(each.recall),
                number(each.f1),
            )
            for each in shown
        ],
        note=f"Routes of different tables that have one name count as one{more}.",
    )


def confusion_table(model: ModelReport, most: int) -> Table:
    """Counts, expected routes down and decided ones across; numbers stand for the names across."""
    names, square = folded_confusions(model.confusions, most, REST)
    return Table(
        f"Confusions: {printable(model.name)}",
        ("expected, and its number across", *(str(number) for number in range(1, len(names) + 1))),
        [
            (f"{number} {printable(name, _NAME)}", *(str(count) if count else "·" for count in row))
            for number, (name, row) in enumerate(zip(names, square, strict=True), start=1)
        ],
        note=f"Where {REST} meet themselves, right and wrong ones are together." if REST in names else "",
    )


def worst_table(model: ModelReport, most: int, examples: int) -> Table | None:
    """The most frequent confusions with cases of them; None where there are none."""
    if not model.worst:
        return None
    expected = {each.route: each.expected for each in model.by_route}
    rows = []
    for each in model.worst[:most]:
        one, two = printable(each.expected, _NAME), printable(each.decided, _NAME)
        for place, text in enumerate(_examples(model, each, examples)):
            of = f"{each.count} of {expected[each.expected]}"
            rows.append((one, two, of, text) if place == 0 else ("", "", "", text))
    return Table(
        f"Worst confusions: {printable(model.name)}",
        ("expected", "decided", "cases", "for example"),
        rows,
        text_columns=4,
    )


def reliability_table(model: ModelReport) -> Table:
    """Confidence and accuracy, bin by bin."""
    return Table(
        f"Confidence and accuracy: {printable(model.name)}",
        ("confidence", "cases", "mean confidence", "accuracy"),
        [
            (f"{each.low:.1f} to {each.high:.1f}", str(each.count), number(each.confidence), number(each.accuracy))
            for each in model.reliability
            if each.count
        ],
    )


def coverage_table(model: ModelReport) -> Table:
    """Accuracy where only the surest cases are answered."""
    points = {wanted: at_coverage(model.coverage, wanted) for wanted in COVERAGES}
    return Table(
        f"Answering only the surest: {printable(model.name)}",
        ("answered at least", "with a confidence of at least", "answered", "accuracy of these"),
        [
            (f"{100 * wanted:.0f} %", number(point.confidence), percent(point.coverage), percent(point.accuracy))
            for wanted, point in points.items()
            if point is not None
        ],
    )


def _examples(model: ModelReport, confusion: Confusion, most: int) -> list[str]:
    return [
        f"line {model.cases[place].line} ({model.results[place].confidence:.2f}): {last_message(model.cases[place])}"
        for place in confusion.cases[:most]
    ]


def _conversation_share(model: ModelReport, what: str) -> str:
    return NONE if model.conversations is None else share(getattr(model.conversations, what))


def _times(model: ModelReport) -> str:
    return NONE if model.milliseconds is None else "{:.0f} / {:.0f} ms".format(*model.milliseconds)


def _verdict(comparison: Comparison) -> str:
    test = comparison.test
    if test.only_first == test.only_second:
        return "Neither is right more often."
    better = comparison.names[test.only_second > test.only_first]
    if test.p_value < 0.05:
        return f"{printable(better)} is right more often, by more than chance would give (5 %)."
    return f"{printable(better)} is right more often, by no more than chance could give; more cases would tell."
