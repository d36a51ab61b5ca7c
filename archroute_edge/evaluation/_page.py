"""An evaluation as one self-contained HTML page."""

from __future__ import annotations

from typing import Final

from archroute_edge.evaluation import _plots as plots
from archroute_edge.evaluation import _tables as tables
from archroute_edge.evaluation._cells import Table, printable
from archroute_edge.evaluation._report import EvaluationReport
from archroute_edge.report import Page

_MOST_ROWS: Final = 200
_MOST_CONFUSIONS: Final = 20
_EXAMPLES: Final = 3


def evaluation_page(report: EvaluationReport, described: str) -> Page:
    """The page of an evaluation.

    Args:
        report: what was found, on one case at least.
        described: a sentence that says what was run, in words.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    page = Page(f"Evaluation: {', '.join(printable(model.name) for model in report.models)}")
    page.text(described)
    models = report.models
    _add(page, tables.summary_table(report))
    if report.comparison is not None:
        _add(page, tables.comparison_table(report.comparison))
        _add(page, tables.differing_table(report.comparison, _MOST_CONFUSIONS))
    if any(model.by_tag for model in models):
        page.heading("Accuracy by tag")
        page.figure(plots.tag_plot(models), "Accuracy by tag with 95 % intervals; in brackets the number of cases.")
        _add(page, tables.tag_table(report), heading=False)
    page.heading("How true the confidence is")
    page.figure(
        plots.reliability_plot(models),
        "Accuracy of decisions over their confidence in ten bins; on the dashed line a model is as sure as it is right, "
        "below it surer than right.",
    )
    page.figure(plots.coverage_plot(models), "Accuracy of the surest decisions, from few of the cases to all of them.")
    for model in models:
        _add(page, tables.reliability_table(model))
        _add(page, tables.coverage_table(model))
    for model in models:
        page.heading(f"Confusions: {printable(model.name)}")
        page.figure(
            plots.confusion_plot(model),
            "Expected routes down, decided ones across, most frequent first; blue is right, orange wrong, "
            "deeper is a larger share of the expected route"
            + (
                "; in grey, where rare routes are taken together, are right ones and wrong ones."
                if plots.is_folded(model)
                else "."
            ),
        )
        _add(page, tables.worst_table(model, _MOST_CONFUSIONS, _EXAMPLES))
        _add(page, tables.route_table(model, _MOST_ROWS))
    return page


def _add(page: Page, table: Table | None, *, heading: bool = True) -> None:
    if table is None:
        return
    if heading:
        page.heading(table.title)
    page.table(table.headers, table.rows, text_columns=table.text_columns)
    if table.note:
        page.text(table.note, note=True)
