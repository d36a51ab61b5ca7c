"""A benchmark as a page: the recommendation, plots, tables, the machine."""

from __future__ import annotations

from archroute_edge.bench._plots import level_plot, sweep_plot
from archroute_edge.bench._report import BenchReport
from archroute_edge.bench._tables import (
    SWEEP_TITLES,
    conclusion,
    decision_table,
    machine_table,
    memory_table,
    process_table,
    quality_table,
    sweep_table,
)
from archroute_edge.evaluation import Table
from archroute_edge.report import Page


def bench_page(report: BenchReport) -> Page:
    """The page of a benchmark.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    page = Page("Benchmark" + (" (partial)" if report.partial else ""))
    for line in conclusion(report):
        page.text(line)
    shown = [each for each in report.levels if each.first_turn is not None and each.peak_memory is not None]
    if shown:
        measured = report.recommendation is not None and report.recommendation.quality_measured
        quality = "accuracy on the cases" if measured else "bits a weight (quality was not measured)"
        page.heading("Time, size and quality")
        page.figure(
            level_plot(report, shown, measured),
            f"Median time of a warm first-turn decision against {quality}. A circle's area is the file's size; the bar is the "
            "95 % interval of the time. Levels on the Pareto front of time, memory and quality are filled; a line joins "
            "those, if there are several, that no other beats in time and quality alone.",
        )
    for table in (decision_table(report), process_table(report), memory_table(report), quality_table(report)):
        _add(page, table)
    for sweep in report.sweeps:
        if sweep.points:
            table = sweep_table(report, sweep)
            page.heading(table.title)
            if any(point.times for point in sweep.points):
                page.figure(sweep_plot(sweep), f"Median time of a warm decision over {SWEEP_TITLES[sweep.kind][1]}.")
            page.table(table.headers, table.rows, text_columns=table.text_columns)
            page.text(table.note, note=True)
    _add(page, machine_table(report))
    return page


def _add(page: Page, table: Table | None) -> None:
    if table is not None:
        page.heading(table.title)
        page.table(table.headers, table.rows, text_columns=table.text_columns)
        if table.note:
            page.text(table.note, note=True)
