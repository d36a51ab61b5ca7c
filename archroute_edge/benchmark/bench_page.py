"""A benchmark as a page: the recommendation, plots, tables, the machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.benchmark.bench_report import BenchReport, LevelReport, SweepPoint, SweepReport
from archroute_edge.benchmark.bench_tables import (
    SWEEP_TITLES,
    conclusion,
    decision_table,
    machine_table,
    memory_table,
    process_table,
    quality_table,
    size,
    sweep_table,
    value_text,
)
from archroute_edge.benchmark.page import COLOURS, Page, figure
from archroute_edge.benchmark.tables import Table, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST_AREA: Final = 1400.0
_SMALLEST_AREA: Final = 40.0
_NAME: Final = 40


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
            "95 % interval of the time. Levels on the Pareto front of time, memory and quality are filled and joined.",
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


def level_plot(report: BenchReport, levels: Sequence[LevelReport], measured: bool) -> Figure:
    """Quality over time, the file's size as the area, the Pareto front joined."""
    front = report.recommendation.front if report.recommendation else ()
    largest = max(each.contender.n_bytes for each in levels)
    points = {}
    with figure(8.5, 5.0) as (drawn, axes):
        for number, each in enumerate(levels):
            assert each.first_turn is not None
            time_ms, interval = each.first_turn.p50, each.first_turn.p50_interval
            quality = _quality(each, measured)
            label = each.contender.label
            points[label] = (time_ms, quality)
            colour = COLOURS[number % len(COLOURS)]
            area = max(_SMALLEST_AREA, _LARGEST_AREA * each.contender.n_bytes / largest)
            face = colour if label in front else "none"
            axes.scatter([time_ms], [quality], s=area, facecolor=face, edgecolor=colour, alpha=0.55, linewidth=1.5, zorder=3)
            if interval.low is not None and interval.high is not None:
                axes.plot([interval.low, interval.high], [quality] * 2, color=colour, linewidth=2, zorder=4)
            axes.annotate(
                f"{printable(label, _NAME)}, {size(each.contender.n_bytes)}",
                (time_ms, quality),
                xytext=(0, math.sqrt(area / math.pi) + 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=9,
                zorder=5,
            )
        joined = sorted(points[label] for label in front if label in points)
        if len(joined) > 1:
            axes.plot(*zip(*joined, strict=True), color="black", alpha=0.4, linestyle="--", linewidth=1, zorder=2)
        axes.set(xlabel="median time of a decision, ms", ylabel="accuracy" if measured else "bits a weight")
        axes.margins(0.18, 0.22)
        axes.set_xlim(left=0)
    return drawn


def _quality(level: LevelReport, measured: bool) -> float:
    if measured and level.quality is not None and level.quality.accuracy.share is not None:
        return level.quality.accuracy.share
    return level.contender.bits_per_weight


def sweep_plot(sweep: SweepReport) -> Figure:
    """A curve a level: median times over the values, with their 95 % intervals."""
    values = list(dict.fromkeys(point.value for point in sweep.points))
    # Numbers are placed by their size, words one after the other.
    by_size = sweep.kind in ("threads", "n_ctx", "routes", "turns")
    places: dict[Any, float] = {value: float(value) if by_size else float(index) for index, value in enumerate(values)}
    labels = list(dict.fromkeys(point.label for point in sweep.points))
    with figure(8.0, 4.2) as (drawn, axes):
        for number, label in enumerate(labels):
            points = [point for point in sweep.points if point.label == label and point.times is not None]
            colour = COLOURS[number % len(COLOURS)]
            xs = [places[point.value] for point in points]
            name = printable(label, _NAME)
            axes.errorbar(
                xs,
                [point.times.p50 for point in points if point.times],
                yerr=_bars(points),
                color=colour,
                marker="o",
                capsize=3,
                label=name,
                linestyle="-" if by_size else "none",
            )
            unseen = [(places[point.value], point.unseen.p50) for point in points if point.unseen is not None]
            if unseen:
                axes.plot(*zip(*unseen, strict=True), color=colour, marker="o", fillstyle="none", linestyle=":",
                          label=f"{name}, nothing evaluated before")  # fmt: skip
        axes.set_xticks([places[value] for value in values], [value_text(sweep.kind, value) for value in values])
        axes.set(xlabel=SWEEP_TITLES[sweep.kind][1], ylabel="median time of a decision, ms")
        axes.set_ylim(bottom=0)
        if not by_size:
            axes.set_xlim(-0.5, len(values) - 0.5)
        axes.legend(loc="best")
    return drawn


def _bars(points: Sequence[SweepPoint]) -> list[list[float]]:
    below, above = [], []
    for point in points:
        assert point.times is not None
        middle, interval = point.times.p50, point.times.p50_interval
        below.append(middle - interval.low if interval.low is not None else 0.0)
        above.append(interval.high - middle if interval.high is not None else 0.0)
    return [below, above]
