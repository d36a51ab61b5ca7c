"""The figures of an evaluation, each listed once: for tables, JSON and CSV."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from archroute_edge.deciders import LOW_CONFIDENCE, NO_PROMPT
from archroute_edge.evaluation import _metrics as metrics
from archroute_edge.evaluation._metrics import N_BINS, at_coverage, confusion_counts
from archroute_edge.evaluation._report import Comparison, EvaluationReport, ModelReport, last_message
from archroute_edge.report import NONE, Column, Table, number, percent, plain, printable, table, values, write_csv

_NAME: Final = 32
_COVERAGES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_RARE: Final = ("low_confidence", "trimmed")


def _name(text: str) -> str:
    return printable(text, _NAME)


def _group(name: str) -> Any:
    return lambda model: model.conversations and getattr(model.conversations, name)


ROUTE: Final = (
    Column("route", "route", lambda each: each.route, _name),
    Column("expected", "expected", lambda each: each.expected),
    Column("decided", "decided", lambda each: each.decided),
    Column("right", "right", lambda each: each.right),
    Column("precision", "precision", lambda each: each.precision, percent),
    Column("recall", "recall", lambda each: each.recall, percent),
    Column("f1", "F1", lambda each: each.f1, number),
)
_COVERAGE: Final = (
    Column("wanted", "answered at least", lambda point: point[0], lambda share: f"{100 * share:.0f} %"),
    Column("confidence", "with a confidence of at least", lambda point: point[1].confidence, number),
    Column("coverage", "answered", lambda point: point[1].coverage, percent),
    Column("accuracy", "accuracy of these", lambda point: point[1].accuracy, percent),
)
_BIN: Final = (
    Column("", "confidence", lambda each: f"{each.low:.1f} to {each.high:.1f}"),
    Column("count", "cases", lambda each: each.count),
    Column("confidence", "mean confidence", lambda each: each.confidence, number),
    Column("accuracy", "accuracy", lambda each: each.accuracy, percent),
)


def _surest(model: ModelReport) -> list[Any]:
    return [(wanted, point) for wanted in _COVERAGES if (point := at_coverage(model.coverage, wanted))]


MODEL: Final = (
    Column("model", "", lambda model: model.name),
    Column("prompt_format", "", lambda model: model.prompt_format),
    Column("decided", "", lambda model: len(model.results)),
    Column("accuracy", "accuracy (95 % interval)", lambda model: model.accuracy),
    Column("macro_f1", "macro F1 over routes", lambda model: metrics.macro_f1(model.by_route), number),
    Column("by_tag", "", lambda model: model.by_tag),
    Column("by_route", "", lambda model: [values(ROUTE, each) for each in model.by_route]),
    Column("confusions", "", lambda model: confusion_counts(model.expected, model.decided)),
    Column("worst_confusions", "", lambda model: [
        {**plain(each), "cases": [model.cases[place].line for place in each.cases]} for each in model.worst
    ]),
    Column("conversations.turns", "turns right", _group("turns")),
    Column("conversations.spans", "spans right", _group("spans")),
    Column("conversations.conversations", "conversations right", _group("conversations")),
    Column("coverage", "", lambda model: [values(_COVERAGE, point) for point in _surest(model)]),
    Column("calibration.ece", f"calibration error (ECE, {N_BINS} bins)",
           lambda model: metrics.expected_calibration_error(model.confidence, model.right), number),
    Column("calibration.bins", "", lambda _model: N_BINS),
    Column("calibration.nll", "negative log likelihood, nats",
           lambda model: metrics.negative_log_likelihood([each.scores for each in model.results], model.expected), number),
    Column("calibration.brier", "Brier score, 0 to 2",
           lambda model: metrics.brier_score([each.scores for each in model.results], model.expected), number),
    Column("calibration.reliability", "", lambda model: model.reliability),
    Column("greedy_is_not_most_probable", "most probable answer not the greedy one",
           lambda model: model.greedy_is_not_most_probable),
    Column("low_confidence", "other for low confidence, cases",
           lambda model: sum(each.reason == LOW_CONFIDENCE for each in model.results)),
    Column("trimmed", "trimmed conversations, cases", lambda model: sum(each.trimmed for each in model.results)),
    Column("milliseconds", "time with all scores, p50 / p95, ms",
           lambda model: model.milliseconds and dict(zip(("p50", "p95"), model.milliseconds, strict=True)),
           lambda times: " / ".join(NONE if each is None else f"{each:.0f}" for each in times.values())),
    Column("results", "", lambda model: model.results),
)  # fmt: skip
COMPARISON: Final = (
    Column("models", "", lambda found: found.names),
    Column("cases", "", lambda found: len(found.cases)),
    Column("agreement", "decided the same", lambda found: found.agreement),
    Column("mean_kl", "KL divergence from {0}, mean, nats", lambda found: found.mean_kl, lambda kl: number(kl, 4)),
    Column("", "largest on one case", lambda found: max(found.divergences, default=None), lambda kl: number(kl, 4)),
    Column("mcnemar.only_first", "only {0} right", lambda found: found.test.only_first),
    Column("mcnemar.only_second", "only {1} right", lambda found: found.test.only_second),
    Column("mcnemar.p_value", "McNemar's exact test, p", lambda found: found.test.p_value, lambda p: f"{p:.3g}"),
    Column("differing", "", lambda found: [found.cases[place].line for place in found.differing]),
)
_CASE: Final = (
    Column("line", "", lambda case: case.line),
    Column("conversation_id", "", lambda case: case.conversation_id),
    Column("turn", "", lambda case: case.turn),
    Column("span", "", lambda case: case.span),
    Column("tags", "", lambda case: " ".join(case.tags)),
    Column("message", "", lambda case: last_message(case, 200)),
    Column("expected", "", lambda case: case.route),
)
_DECISION: Final = (
    Column("decided", "", lambda result: result.decided),
    Column("right", "", lambda result: result.right),
    Column("confidence", "", lambda result: result.confidence),
    Column("p_expected", "", lambda result: result.scores[result.expected]),
    Column("most_probable", "", lambda result: result.most_probable),
    Column("reason", "", lambda result: result.reason),
    Column("milliseconds", "", lambda result: round(result.milliseconds, 3)),
    Column("tokens", "", lambda result: result.tokens),
    Column("reused", "", lambda result: result.reused),
    Column("evaluated", "", lambda result: result.evaluated),
    Column("trimmed", "", lambda result: result.trimmed),
)


def to_json(report: EvaluationReport) -> dict[str, Any]:
    """The report as plain values for ``json.dumps``; shares are from 0 to 1, times in milliseconds."""
    return {
        "source": report.source,
        "cases": report.n_cases,
        "partial": report.partial,
        "models": [values(MODEL, model) for model in report.models],
        "comparison": report.comparison and values(COMPARISON, report.comparison),
    }


def write_cases(report: EvaluationReport, path: Path) -> None:
    """Write CSV, a row a case, to ``path``; with two models the second's columns begin with ``compare_``.

    Raises:
        SettingsError: it cannot be written.
    """
    first, *others = report.models
    second = {each.line: each for model in others for each in model.results}
    compared = report.comparison
    divergences = {case.line: kl for case, kl in zip(compared.cases, compared.divergences, strict=True)} if compared else {}
    rows = []
    for case, result in zip(first.cases, first.results, strict=True):
        row = _csv(_CASE, case) | _csv(_DECISION, result)
        if others:
            # A case that the second model has not come to has empty columns.
            other = _csv(_DECISION, second.get(case.line, result))
            row |= {f"compare_{name}": value if case.line in second else "" for name, value in other.items()}
            row["kl"] = divergences.get(case.line, "")
        rows.append(row)
    write_csv(rows, path)


def _csv(columns: tuple[Column, ...], row: Any) -> dict[str, Any]:
    return {name: value for column in columns for name, value in column.csv_cells(row).items()}


def terminal_tables(report: EvaluationReport) -> Iterator[Table | None]:
    """The tables to show on a terminal, in their order."""
    yield summary_table(report)
    if report.comparison is not None:
        yield comparison_table(report.comparison)
        yield differing_table(report.comparison, 8)
    yield from tag_tables(report)
    for model in report.models:
        yield worst_table(model, 8, 1)
        yield from itertools.islice(confusion_tables(model), 3)
        yield route_table(model, 40)
        yield coverage_table(model)
        yield reliability_table(model)


def summary_table(report: EvaluationReport) -> Table:
    """A row a figure, a column a model; figures that no model has are left out."""
    heads = ["", *(_model_name(model) for model in report.models)]
    rows = []
    for column in MODEL:
        found = [column.get(model) for model in report.models]
        if column.title and any(each is not None and (each or column.key not in _RARE) for each in found):
            rows.append([column.title, *(column.cells(model)[0] for model in report.models)])
    return Table("Figures", heads, rows)


def _model_name(model: ModelReport) -> str:
    name = printable(model.name)
    return name if model.prompt_format == NO_PROMPT else f"{name} (prompt: {model.prompt_format})"


def comparison_table(compared: Comparison) -> Table:
    """Agreement, divergence and McNemar's test."""
    names = [_name(name) for name in compared.names]
    rows = [[column.title.format(*names), *column.cells(compared)] for column in COMPARISON if column.title]
    title = f"{names[0]} and {names[1]} on the same {len(compared.cases)} cases"
    return Table(title, ("", "value"), rows, note=compared.verdict())


def differing_table(compared: Comparison, most: int) -> Table | None:
    """Cases that the two decide differently, and which is right; None where there are none."""
    if not compared.differing:
        return None
    names = [_name(name) for name in compared.names]
    columns = (
        Column("", "line", lambda row: row[0].line),
        Column("", "expected", lambda row: row[0].route, _name),
        Column("", names[0], lambda row: row[1].decided, _name),
        Column("", names[1], lambda row: row[2].decided, _name),
        Column("", "right", lambda row: names[0] if row[1].right else names[1] if row[2].right else "neither"),
        Column("", "message", lambda row: last_message(row[0])),
    )
    ones, twos = compared.results
    shown = [(compared.cases[place], ones[place], twos[place]) for place in compared.differing[:most]]
    note = f"{len(shown)} of {len(compared.differing)}"
    return table("Decided differently", columns, shown, text_columns=len(columns), note=note)


def tag_tables(report: EvaluationReport) -> Iterator[Table]:
    """Accuracy by kind of message and by domain, as :meth:`EvaluationReport.domains` tells them apart; worst first."""
    first, domains = report.models[0], report.domains()
    tags = sorted(first.by_tag, key=lambda tag: (first.by_tag[tag].share, -first.by_tag[tag].total))
    columns = [
        Column("", "tag", lambda tag: tag, _name),
        *(Column("", printable(model.name), model.by_tag.get) for model in report.models),
    ]
    if kinds := [tag for tag in tags if tag not in domains]:
        title = "Accuracy by kind of message" if domains else "Accuracy by tag"
        yield table(title, columns, kinds, note="Worst first.")
    if domains:
        note = "Worst first. A domain is a tag that every case of a route table has."
        yield table("Accuracy by domain", columns, [tag for tag in tags if tag in domains], note=note)


def route_table(model: ModelReport, most: int) -> Table:
    """Precision, recall and F1 of the ``most`` most frequent routes."""
    more = f"; {len(model.by_route) - most} rarer ones are not shown" if len(model.by_route) > most else ""
    note = f"Routes of different tables that have one name count as one{more}."
    return table(f"By route: {printable(model.name)}", ROUTE, model.by_route[:most], note=note)


def confusion_tables(model: ModelReport) -> Iterator[Table]:
    """For each route table with wrong decisions, the worst first: its routes, and where their cases went instead."""
    for routes, places in model.places_by_table.items():
        sent: dict[str, Counter[str]] = {}
        for place in places:
            sent.setdefault(model.expected[place], Counter())[model.decided[place]] += 1
        wrong = {name: found.total() - found[name] for name, found in sent.items() if found.total() > found[name]}
        rows = [
            (
                _name(name),
                ", ".join(f"{_name(other)} {count}" for other, count in sent[name].most_common() if other != name),
                f"{sent[name][name]} of {sent[name].total()}",
            )
            for name in sorted(wrong, key=lambda name: -wrong[name])
        ]
        if rows:
            first = printable(", ".join(routes.names[:3]) + ", …" * (len(routes.names) > 3), 80)
            title = f"{first}: {len(places) - sum(wrong.values())} of {len(places)} right"
            yield Table(title, ("expected", "decided instead", "right"), rows, text_columns=2)


def worst_table(model: ModelReport, most: int, examples: int) -> Table | None:
    """The most frequent confusions with ``examples`` of their cases, a line each; None where there are none."""
    expected = {each.route: each.expected for each in model.by_route}

    def lines(confusion: Any) -> str:
        places = confusion.cases[:examples]
        return "\n".join(
            f"line {model.cases[place].line} ({model.confidence[place]:.2f}): {last_message(model.cases[place])}"
            for place in places
        )

    columns = (
        Column("", "expected", lambda each: each.expected, _name),
        Column("", "decided", lambda each: each.decided, _name),
        Column("", "cases", lambda each: f"{each.count} of {expected[each.expected]}"),
        Column("", "for example: line (confidence): message", lines),
    )
    title = f"Worst confusions: {printable(model.name)}"
    return table(title, columns, model.worst[:most], text_columns=len(columns)) if model.worst else None


def reliability_table(model: ModelReport) -> Table:
    """Confidence and accuracy, bin by bin."""
    filled = [each for each in model.reliability if each.count]
    return table(f"Confidence and accuracy: {printable(model.name)}", _BIN, filled)


def coverage_table(model: ModelReport) -> Table:
    """Accuracy where only the surest cases are answered."""
    return table(f"Answering only the surest: {printable(model.name)}", _COVERAGE, _surest(model))
