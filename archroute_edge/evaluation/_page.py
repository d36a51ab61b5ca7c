"""An evaluation as one self-contained HTML page: the answer, plots and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from archroute_edge.evaluation import _figures as figures
from archroute_edge.evaluation._metrics import N_BINS
from archroute_edge.evaluation._report import EvaluationReport, ModelReport
from archroute_edge.report import COLOURS, Page, figure, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CONFUSIONS: Final = 20
_EXAMPLES: Final = 3
_OPEN_TABLES: Final = 3
_MOST_ROUTES: Final = 200
_MANY_TAGS: Final = 15
_NAME: Final = 26
_FEW_POINTS: Final = 20


def evaluation_page(report: EvaluationReport, made: str) -> Page:
    """The page of an evaluation of one case at least; ``made`` says when and how it was run.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    models = report.models
    page = Page(f"Evaluation: {' and '.join(printable(model.name) for model in models)}", made)
    page.answer(report.answer())
    page.text(report.described())
    page.table(figures.summary_table(report))
    if report.comparison is not None:
        page.table(figures.comparison_table(report.comparison))
        page.table(figures.differing_table(report.comparison, _MOST_CONFUSIONS))
    for table in figures.tag_tables(report):
        page.heading(table.title)
        tags = [row[0] for row in table.rows]
        page.figure(_tag_plot(models, tags), f"{table.title}, with 95 % intervals; in brackets the number of cases.")
        page.table(table, heading=False, folded=len(tags) > _MANY_TAGS)
    page.heading("How true the confidence is")
    page.figure(
        _reliability_plot(models),
        "Accuracy of decisions over their confidence in ten bins, and how many of the cases each bin has. On the dashed line a "
        "model is as sure as it is right, below it surer than right.",
    )
    page.figure(_coverage_plot(models), "Accuracy of the surest decisions, from few of the cases to all of them.")
    for model in models:
        page.table(figures.reliability_table(model))
        page.table(figures.coverage_table(model))
    for model in models:
        page.table(figures.worst_table(model, _MOST_CONFUSIONS, _EXAMPLES))
        tables = list(figures.confusion_tables(model))
        if tables:
            page.heading(f"Confusions by route table, worst first: {printable(model.name)}")
        for number, table in enumerate(tables):
            page.text(table.title if number < _OPEN_TABLES else "")
            page.table(table, heading=False, folded=number >= _OPEN_TABLES)
        page.table(figures.route_table(model, _MOST_ROUTES), folded=True)
    return page


def _tag_plot(models: Sequence[ModelReport], tags: Sequence[str]) -> Figure:
    """Accuracy by tag with 95 % intervals, the first on top."""
    height = 0.8 / len(models)
    with figure(8.0, 1.0 + len(tags) * (0.16 + 0.16 * len(models))) as (drawn, axes):
        for number, model in enumerate(models):
            shares = [(place, model.by_tag[tag]) for place, tag in enumerate(tags) if tag in model.by_tag]
            middles = [100 * (each.share or 0) for _, each in shares]
            ends = [(100 * low, 100 * high) for low, high in (each.interval for _, each in shares)]
            axes.barh(
                [place - 0.4 + height * (number + 0.5) for place, _ in shares],
                middles,
                height * 0.85,
                color=COLOURS[number],
                alpha=0.75,
                label=_label(model),
                xerr=[
                    [max(0.0, middle - low) for middle, (low, _) in zip(middles, ends, strict=True)],
                    [max(0.0, high - middle) for middle, (_, high) in zip(middles, ends, strict=True)],
                ],
                error_kw={"ecolor": "black", "elinewidth": 1, "alpha": 0.6},
            )
        counts = {tag: share.total for model in models for tag, share in model.by_tag.items()}
        axes.set_yticks(range(len(tags)), [f"{printable(tag, _NAME)} ({counts[tag]})" for tag in tags])
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="accuracy, %", xlim=(0, 100), ylim=(len(tags) - 0.4, -0.6))
        if len(models) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models))
    return drawn


def _reliability_plot(models: Sequence[ModelReport]) -> Figure:
    """Accuracy over confidence, and below it the share of the cases in each bin."""
    with figure(7.0, 6.0, panels=(3, 1)) as (drawn, (above, below)):
        above.plot([0, 1], [0, 100], color="black", alpha=0.5, linestyle="--", linewidth=1, label="as sure as right")
        width = 1 / N_BINS / len(models)
        for number, model in enumerate(models):
            filled = [each for each in model.reliability if each.count]
            above.plot(
                [each.confidence for each in filled],
                [100 * (each.accuracy or 0) for each in filled],
                marker="o",
                clip_on=False,
                color=COLOURS[number],
                label=_label(model),
            )
            below.bar(
                [each.low + width * (number + 0.5) for each in model.reliability],
                [100 * each.count / len(model.results) for each in model.reliability],
                width * 0.9,
                color=COLOURS[number],
                alpha=0.75,
            )
        above.set(ylabel="accuracy, %", xlim=(0, 1), ylim=(0, 102))
        above.legend(loc="upper left")
        below.set(xlabel="confidence", ylabel="cases, %")
    return drawn


def _coverage_plot(models: Sequence[ModelReport]) -> Figure:
    """Accuracy of the surest cases over the share of all cases that they are."""
    with figure(7.0, 4.2) as (drawn, axes):
        lowest = 100.0
        for model in models:
            # The first few cases are right or wrong by chance, and would stretch the axis.
            curve = [point for point in model.coverage if point.coverage >= 0.05]
            accuracy = [100 * point.accuracy for point in curve]
            # Equal confidences leave few points, or a single one, of which no line would be seen.
            marker = "o" if len(curve) <= _FEW_POINTS else ""
            axes.plot([100 * point.coverage for point in curve], accuracy, marker=marker, clip_on=False, label=_label(model))
            lowest = min([lowest, *accuracy])
        axes.set(xlabel="answered, % of cases, the surest first", ylabel="accuracy of these, %", xlim=(0, 100))
        axes.set_ylim(max(0.0, lowest - 5), 101)
        axes.legend(loc="lower left")
    return drawn


def _label(model: ModelReport) -> str:
    return printable(model.name, 40)
