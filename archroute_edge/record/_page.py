"""A report on traffic as one self-contained HTML page: the answer, plots and tables."""

from __future__ import annotations

import datetime
import importlib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.record import _figures as figures
from archroute_edge.record._report import NOTHING, Group, TrafficReport
from archroute_edge.report import COLOURS, Page, figure, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME: Final = 34
_MOST_NAMES: Final = 7


def traffic_page(report: TrafficReport, made: str) -> Page:
    """The page of a report; ``made`` says when and how it was made.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    page = Page(f"Traffic from {figures.moment(report.first)} to {figures.moment(report.last)}", made)
    page.answer(figures.conclusion(report))
    over_time = report.over_time
    several = len(over_time.starts) > 1
    page.heading("Models")
    if several:
        caption = f"Requests per {figures.unit_name(over_time.unit)} by the model that answered."
        page.figure(_stacked(report, over_time.models), caption)
    page.table(figures.group_table("Models", report.models), heading=False)
    page.heading("Routes")
    if several:
        page.figure(_stacked(report, over_time.routes), f"Requests per {figures.unit_name(over_time.unit)} by route.")
    page.table(figures.group_table("Routes", report.routes), heading=False)
    if several and report.money.priced and report.money.default:
        page.heading("Money")
        page.figure(_money(report), "What was spent, and what the default model alone would have cost, summed up over time.")
    page.table(figures.money_table("Tokens and money, by model", report.models))
    page.table(figures.money_table("Tokens and money, by route", report.routes))
    if any(group.first_byte_ms for group in report.models):
        page.heading("Time to the first byte")
        page.figure(_latencies(report.models), "From the median (dot) to the 95th percentile, by the model that answered.")
        if several:
            caption = f"The median per {figures.unit_name(over_time.unit)}, and how many requests failed."
            page.figure(_median_over_time(report), caption)
    page.heading("Confidence")
    page.figure(_confidence(report), "Decisions by the confidence in their route.")
    if report.sides:
        page.heading("Models that shared traffic")
        for name, caption in _COMPARED.items():
            if any(each.figure == name for sides in report.sides for each in sides.figures):
                page.figure(_differences(report, name), caption)
    for sides in report.sides:
        table = figures.sides_table(sides)
        page.text(table.title)
        page.table(table, heading=False)
    for pairs in report.shadows:
        page.table(figures.shadow_table(pairs))
    page.table(figures.target_table(report))
    page.table(figures.summary_table(report))
    for title, counts in (("Models over time", over_time.models), ("Routes over time", over_time.routes)):
        page.table(figures.time_table(title, over_time, counts), folded=True)
    return page


_COMPARED: Final = {
    "failed": "How much more often the model's first try fails than the incumbent's, with 95 % intervals.",
    "first_byte_ms": "How much later the model's first byte comes than the incumbent's, medians, with 95 % intervals.",
}


def _dates(report: TrafficReport) -> list[datetime.datetime]:
    return [datetime.datetime.fromtimestamp(start) for start in report.over_time.starts]


def _stacked(report: TrafficReport, counts: dict[str, list[int]]) -> Figure:
    """Requests over time, those of each name on top of the others; rare names together."""
    names = [name for name in counts if name != NOTHING][:_MOST_NAMES]
    layers = {printable(name, _NAME): counts[name] for name in names}
    others = [values for name, values in counts.items() if name not in names and name != NOTHING]
    if others:
        layers["others"] = [sum(each) for each in zip(*others, strict=True)]
    if NOTHING in counts:
        layers[NOTHING] = counts[NOTHING]
    dates = _dates(report)
    with figure(8.5, 3.8) as (drawn, axes):
        bottom = [0] * len(dates)
        for place, (name, values) in enumerate(layers.items()):
            colour = "#8a8f96" if name in (NOTHING, "others") else COLOURS[place % len(COLOURS)]
            axes.bar(dates, values, _widths(report), bottom, align="edge", color=colour, label=name)
            bottom = [low + value for low, value in zip(bottom, values, strict=True)]
        axes.set(ylabel=f"requests per {figures.unit_name(report.over_time.unit)}")
        _over_time(axes, report)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return drawn


def _widths(report: TrafficReport) -> list[float]:
    """Of the bars of several buckets, in days; the last one is as wide as the one before."""
    starts = report.over_time.starts
    widths = [0.9 * (end - begin) / 86_400 for begin, end in itertools.pairwise(starts)]
    return [*widths, widths[-1]]


def _money(report: TrafficReport) -> Figure:
    """Sums over time, and between them what was saved."""
    over_time, dates = report.over_time, _dates(report)
    spent, default = (_summed(values) for values in (over_time.spent, over_time.default))
    with figure(8.5, 3.6) as (drawn, axes):
        axes.fill_between(dates, spent, default, color=COLOURS[2], alpha=0.18, linewidth=0)
        axes.plot(dates, default, color=COLOURS[1], label="all to the default model")
        axes.plot(dates, spent, color=COLOURS[0], label="spent")
        axes.set(ylabel="US dollars")
        axes.set_ylim(bottom=0)
        _over_time(axes, report)
        axes.legend(loc="upper left")
    return drawn


def _summed(values: Sequence[float]) -> list[float]:
    total, sums = 0.0, []
    for value in values:
        total += value
        sums.append(total)
    return sums


def _latencies(groups: Sequence[Group]) -> Figure:
    """From the median to the 95th percentile, a line a model."""
    timed = [group for group in groups if group.first_byte_ms is not None][: 2 * _MOST_NAMES]
    with figure(8.5, 0.9 + 0.36 * len(timed)) as (drawn, axes):
        for place, group in enumerate(timed):
            assert group.first_byte_ms is not None
            colour = COLOURS[place % len(COLOURS)]
            if group.first_byte_ms.p95 is not None:
                axes.plot([group.first_byte_ms.p50, group.first_byte_ms.p95], [place, place], color=colour, linewidth=5,
                          alpha=0.35, solid_capstyle="round")  # fmt: skip
            axes.plot([group.first_byte_ms.p50], [place], color=colour, marker="o", markersize=8)
        axes.set_yticks(range(len(timed)), [printable(group.name, _NAME) for group in timed])
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="ms", ylim=(len(timed) - 0.5, -0.5))
        axes.set_xlim(left=0)
    return drawn


def _median_over_time(report: TrafficReport) -> Figure:
    over_time, dates = report.over_time, _dates(report)
    medians = [float("nan") if each is None else each for each in over_time.first_byte_ms]
    with figure(8.5, 4.2, panels=(3, 1)) as (drawn, (above, below)):
        above.plot(dates, medians, color=COLOURS[0], marker="o" if len(dates) < 20 else "")
        above.set(ylabel="first byte, median, ms")
        above.set_ylim(bottom=0)
        below.bar(dates, over_time.failed, _widths(report), align="edge", color=COLOURS[7])
        below.set(ylabel="failed")
        _over_time(below, report)
    return drawn


def _confidence(report: TrafficReport) -> Figure:
    n_bins = len(report.confidence)
    with figure(8.5, 2.8) as (drawn, axes):
        axes.bar([place / n_bins for place in range(n_bins)], report.confidence, 0.92 / n_bins, align="edge", color=COLOURS[0])
        axes.set(xlabel="confidence", ylabel="decisions", xlim=(0, 1))
    return drawn


def _differences(report: TrafficReport, name: str) -> Figure:
    """The difference of each pair of models with its interval, and the line of none."""
    found = [(sides, each) for sides in report.sides for each in sides.figures if each.figure == name]
    scale = 100 if name == "failed" else 1
    with figure(8.5, 1.1 + 0.36 * len(found)) as (drawn, axes):
        axes.axvline(0, color="black", alpha=0.5, linestyle="--", linewidth=1)
        for place, (_, each) in enumerate(found):
            difference = each.difference
            colour = COLOURS[1] if difference.is_one and difference.value > 0 else COLOURS[2] if difference.is_one else "black"
            if difference.low is not None and difference.high is not None:
                axes.plot([scale * difference.low, scale * difference.high], [place, place], color=colour, linewidth=2)
            axes.plot([scale * difference.value], [place], color=colour, marker="o")
        labels = [f"{printable(sides.place, 18)}: {printable(sides.model, 26)}" for sides, _ in found]
        axes.set_yticks(range(len(found)), labels)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="percentage points" if name == "failed" else "ms", ylim=(len(found) - 0.5, -0.5))
    return drawn


def _over_time(axes: Any, report: TrafficReport) -> None:
    """Dates below; the axis is as long as the buckets are, since few of them have no length of their own."""
    dates = _dates(report)
    axes.set_xlim(dates[0], dates[-1] + datetime.timedelta(days=_widths(report)[-1] / 0.9))
    # Without types of its own, unlike the rest of matplotlib.
    module: Any = importlib.import_module("matplotlib.dates")
    locator = module.AutoDateLocator(maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(module.ConciseDateFormatter(locator))
