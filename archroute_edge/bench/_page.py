"""A benchmark as a page: the recommendation in a box, plots, tables, the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.bench._figures import SWEEP_TITLES, conclusion, level_tables, machine_table, sweep_table
from archroute_edge.bench._report import BenchReport, LevelReport, SweepReport, value_text
from archroute_edge.bench._timing import Times
from archroute_edge.report import COLOURS, Page, figure, printable, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST_AREA: Final = 900.0
_SMALLEST_AREA: Final = 40.0
_MARKERS: Final = "os^D"
_NAME: Final = 40


def bench_page(report: BenchReport, made: str) -> Page:
    """The page of a benchmark; ``made`` says when and how it was run.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    levels = ", ".join(printable(each.contender.label, _NAME) for each in report.levels)
    page = Page(f"Benchmark{' (partial)' * report.partial}: {levels}", made)
    page.answer(conclusion(report))
    shown = [each for each in report.levels if each.first_turn is not None and each.most("peak_memory") is not None]
    if shown:
        measured = report.recommendation is not None and report.recommendation.quality_measured
        page.heading("Time, size and quality")
        page.figure(_level_plot(report, shown, measured), _caption(shown, measured))
    for table in level_tables(report):
        page.table(table)
    for sweep in report.sweeps:
        if sweep.points:
            table = sweep_table(sweep)
            page.heading(table.title)
            if any(point.times for point in sweep.points):
                axis = SWEEP_TITLES[sweep.kind][1]
                page.figure(_sweep_plot(sweep), f"Median time of a warm decision over {axis}, with 95 % intervals.")
            page.table(table, heading=False)
    page.table(machine_table(report))
    return page


def _caption(levels: Sequence[LevelReport], measured: bool) -> str:
    quality = "accuracy on the cases" if measured else "bits a weight (quality was not measured)"
    text = f"Median time of a warm first-turn decision against {quality}; a mark's area is the file's size."
    bounded = any(each.first_turn and each.first_turn.p50_interval.low is not None for each in levels)
    bars = ["of the time"] * bounded + ["of the accuracy"] * measured
    if bars:
        text += f" Bars: 95 % intervals {' and '.join(bars)}."
    if len(levels) > 1:
        text += (
            " Levels on the Pareto front of time, memory and quality are filled; a line joins those that no other beats in "
            "time and quality alone."
        )
    return text


def _level_plot(report: BenchReport, levels: Sequence[LevelReport], measured: bool) -> Figure:
    """Quality over time, the file's size as the area, the Pareto front filled and joined."""
    front = report.recommendation.front if report.recommendation else ()
    largest = max(each.contender.n_bytes for each in levels)
    joined = []
    with figure(8.5, 4.8) as (drawn, axes):
        for number, each in enumerate(levels):
            assert each.first_turn is not None
            time_ms, contender, share = each.first_turn.p50, each.contender, each.quality and each.quality.accuracy
            quality = 100 * (share.share or 0) if measured and share else contender.bits_per_weight
            colour, is_front = COLOURS[number % len(COLOURS)], contender.label in front
            axes.scatter(
                [time_ms],
                [quality],
                s=max(_SMALLEST_AREA, _LARGEST_AREA * contender.n_bytes / largest),
                marker=_MARKERS[number // len(COLOURS) % len(_MARKERS)],
                facecolor=colour if is_front else "none",
                edgecolor=colour,
                alpha=0.55,
                linewidth=1.5,
                zorder=3,
            )
            heights = [[quality - 100 * share.interval[0]], [100 * share.interval[1] - quality]] if measured and share else None
            axes.errorbar(
                [time_ms], [quality], xerr=_whiskers([each.first_turn]), yerr=heights, color=colour, linewidth=1.5, zorder=4
            )
            # Areas differ too much to stand in a legend.
            axes.plot(
                [],
                [],
                linestyle="",
                marker=_MARKERS[number // len(COLOURS) % len(_MARKERS)],
                color=colour,
                fillstyle="full" if is_front else "none",
                label=f"{printable(contender.label, _NAME)}, {size(contender.n_bytes)}",
            )
            joined += [(time_ms, quality)] * is_front
        line = front_line(joined)
        if len(line) > 1:
            axes.plot(*zip(*line, strict=True), color="black", alpha=0.4, linestyle="--", linewidth=1, zorder=2)
        axes.set(xlabel="median time of a decision, ms", ylabel="accuracy, %" if measured else "bits a weight")
        axes.margins(0.12, 0.15)
        _legend(axes)
    return drawn


def front_line(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (time, quality) points those that no other beats in these two, fastest first."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def _sweep_plot(sweep: SweepReport) -> Figure:
    """Median times over the values: a curve a level over numbers, points beside each other over words."""
    values = list(dict.fromkeys(point.value for point in sweep.points))
    labels = list(dict.fromkeys(point.label for point in sweep.points))
    is_curve = sweep.kind in ("threads", "n_ctx", "routes", "turns")
    places = {value: float(value) if is_curve else float(index) for index, value in enumerate(values)}
    with figure(8.5, 4.4) as (drawn, axes):
        for number, label in enumerate(labels):
            style: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "marker": _MARKERS[number // len(COLOURS) % len(_MARKERS)],
            }
            shift = 0 if is_curve else 0.5 * (number + 0.5) / len(labels) - 0.25
            own = [(places[point.value] + shift, point) for point in sweep.points if point.label == label]
            timed = [(place, point.times) for place, point in own if point.times is not None]
            if timed:
                axes.errorbar(
                    [place for place, _ in timed],
                    [times.p50 for _, times in timed],
                    yerr=_whiskers([times for _, times in timed]),
                    linestyle="-" if is_curve else "",
                    capsize=3,
                    label=printable(label, _NAME),
                    **style,
                )
            unseen = [(place, point.unseen.p50) for place, point in own if point.unseen is not None]
            if unseen:
                name = f"{printable(label, _NAME)}, unseen"
                axes.plot(*zip(*unseen, strict=True), fillstyle="none", linestyle=":", label=name, **style)
        axes.set_xticks([places[value] for value in values], [value_text(sweep.kind, value) for value in values])
        axes.set(xlabel=SWEEP_TITLES[sweep.kind][1], ylabel="median time of a decision, ms")
        if not is_curve:
            axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_ylim(bottom=0)
        _legend(axes)
    return drawn


def _legend(axes: Any) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _whiskers(times: Sequence[Times]) -> list[list[float]]:
    intervals = [(each.p50, each.p50_interval) for each in times]
    return [
        [middle - interval.low if interval.low is not None else 0.0 for middle, interval in intervals],
        [interval.high - middle if interval.high is not None else 0.0 for middle, interval in intervals],
    ]
