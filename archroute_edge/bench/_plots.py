"""The plots of a benchmark's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.bench._report import BenchReport, LevelReport, SweepPoint, SweepReport
from archroute_edge.bench._tables import SWEEP_TITLES, size, value_text
from archroute_edge.bench._timing import Times
from archroute_edge.evaluation import printable
from archroute_edge.report import COLOURS, Mark, figure, write_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST_AREA: Final = 1400.0
_SMALLEST_AREA: Final = 40.0
_MARKERS: Final = "os^D"
_NAME: Final = 40


def level_plot(report: BenchReport, levels: Sequence[LevelReport], measured: bool) -> Figure:
    """Quality over time, the file's size as the area, the Pareto front filled and joined."""
    front = report.recommendation.front if report.recommendation else ()
    largest = max(each.contender.n_bytes for each in levels)
    points = []
    with figure(8.5, 5.2) as (drawn, axes):
        for number, each in enumerate(levels):
            assert each.first_turn is not None
            time_ms, interval = each.first_turn.p50, each.first_turn.p50_interval
            quality, label = _quality(each, measured), each.contender.label
            colour = COLOURS[number % len(COLOURS)]
            area = max(_SMALLEST_AREA, _LARGEST_AREA * each.contender.n_bytes / largest)
            face = colour if label in front else "none"
            axes.scatter([time_ms], [quality], s=area, facecolor=face, edgecolor=colour, alpha=0.55, linewidth=1.5, zorder=3)
            if interval.low is not None and interval.high is not None:
                axes.plot([interval.low, interval.high], [quality] * 2, color=colour, linewidth=2, zorder=4)
            text = f"{printable(label, _NAME)}, {size(each.contender.n_bytes)}"
            points.append(Mark(text, time_ms, quality, math.sqrt(area / math.pi)))
        joined = front_line(
            [(mark.x, mark.y) for mark, each in zip(points, levels, strict=True) if each.contender.label in front]
        )
        if len(joined) > 1:
            axes.plot(*zip(*joined, strict=True), color="black", alpha=0.4, linestyle="--", linewidth=1, zorder=2)
        axes.set(xlabel="median time of a decision, ms", ylabel="accuracy" if measured else "bits a weight")
        axes.margins(0.16, 0.18)
        write_beside(drawn, axes, points)
    return drawn


def front_line(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (time, quality) points those that no other beats in these two, fastest first."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def _quality(level: LevelReport, measured: bool) -> float:
    if measured and level.quality is not None and level.quality.accuracy.share is not None:
        return level.quality.accuracy.share
    return level.contender.bits_per_weight


def sweep_plot(sweep: SweepReport) -> Figure:
    """Median times over the values with their 95 % intervals: a curve a level over numbers, bars over words."""
    values = list(dict.fromkeys(point.value for point in sweep.points))
    labels = list(dict.fromkeys(point.label for point in sweep.points))
    is_curve = sweep.kind in ("threads", "n_ctx", "routes", "turns")
    places: dict[Any, float] = {value: float(value) if is_curve else float(index) for index, value in enumerate(values)}
    with figure(8.5, 4.4) as (drawn, axes):
        for number, label in enumerate(labels):
            points = [point for point in sweep.points if point.label == label]
            style = {"color": COLOURS[number % len(COLOURS)], "label": printable(label, _NAME)}
            if is_curve:
                _draw_curve(axes, points, places, _MARKERS[number // len(COLOURS) % len(_MARKERS)], style)
            else:
                _draw_bars(axes, points, places, (number, len(labels)), style)
        axes.set_xticks([places[value] for value in values], [value_text(sweep.kind, value) for value in values])
        axes.set(xlabel=SWEEP_TITLES[sweep.kind][1], ylabel="median time of a decision, ms")
        axes.set_ylim(bottom=0)
        if not is_curve:
            axes.grid(axis="x", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5)
    return drawn


def _draw_curve(axes: Any, points: Sequence[SweepPoint], places: dict[Any, float], marker: str, style: dict[str, Any]) -> None:
    timed = [(places[point.value], point.times) for point in points if point.times is not None]
    if timed:
        xs, times = zip(*timed, strict=True)
        axes.errorbar(xs, [each.p50 for each in times], yerr=_whiskers(times), marker=marker, capsize=3, **style)
    unseen = [(places[point.value], point.unseen.p50) for point in points if point.unseen is not None]
    if unseen:
        style = {**style, "label": f"{style['label']}, unseen"}
        axes.plot(*zip(*unseen, strict=True), marker=marker, fillstyle="none", linestyle=":", **style)


def _draw_bars(
    axes: Any, points: Sequence[SweepPoint], places: dict[Any, float], place: tuple[int, int], style: dict[str, Any]
) -> None:
    number, n_levels = place
    width = 0.8 / n_levels
    timed = [(places[point.value] - 0.4 + width * (number + 0.5), point.times) for point in points if point.times is not None]
    if timed:
        xs, times = zip(*timed, strict=True)
        whiskers = {"ecolor": "black", "elinewidth": 1, "alpha": 0.7, "capsize": 2}
        heights = [each.p50 for each in times]
        axes.bar(xs, heights, width * 0.85, yerr=_whiskers(times), error_kw=whiskers, alpha=0.8, **style)


def _whiskers(times: Sequence[Times]) -> list[list[float]]:
    intervals = [(each.p50, each.p50_interval) for each in times]
    return [
        [middle - interval.low if interval.low is not None else 0.0 for middle, interval in intervals],
        [interval.high - middle if interval.high is not None else 0.0 for middle, interval in intervals],
    ]
