"""An evaluation of a predictor as one self-contained HTML page: the answer, plots and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from archroute_edge.quality import _figures as figures
from archroute_edge.quality._metrics import Estimate
from archroute_edge.quality._report import ORACLE, RANDOM, ModelReport, PairReport, PricedReport, QualityReport
from archroute_edge.quality._yardstick import NEW_WORDS, WORDS
from archroute_edge.report import COLOURS, Page, figure, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BARS: Final = 30
_MANY_ROWS: Final = 15
_OPEN_PAIRS: Final = 3
_LABEL: Final = 26
# Lines of what is no predictor have a colour of their own, whichever predictor stands beside them.
_LINES: Final[dict[str, dict[str, Any]]] = {
    WORDS: {"color": COLOURS[1]},
    NEW_WORDS: {"color": COLOURS[1], "linestyle": ":"},
    RANDOM: {"color": "black", "alpha": 0.5, "linestyle": "--", "linewidth": 1},
    ORACLE: {"color": COLOURS[2], "linewidth": 1},
}
_OWN: Final = {"color": COLOURS[0], "linewidth": 2}


def quality_page(report: QualityReport, made: str) -> Page:
    """The page of an evaluation; ``made`` says when and how it was run.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    page = Page(f"Quality: {printable(report.name)}", made)
    page.answer(report.answer())
    page.text(report.described())
    for warning in report.warnings:
        page.text(warning)
    for number, pair in enumerate(report.pairs):
        page.heading(figures.pair_title(pair))
        if not pair.whole.rows:
            page.text("The strong model scores no higher on these prompts: there is no gap to recover.")
            continue
        page.figure(
            _pair_plot(pair),
            "Share of the gap between the two models that is recovered, over the share of prompts that the strong model "
            "answers. The higher the line, the fewer calls of the strong model are needed. Random choice follows the dashed "
            "line; the oracle knows the outcomes.",
        )
        page.table(figures.pair_table(pair), heading=False)
        if pair.categories:
            page.figure(
                _category_plot(pair),
                "APGR by category, the largest first, with 95 % intervals; in brackets the number of prompts. Random choice "
                "has 0.5, the dashed line.",
            )
            page.table(
                figures.category_table(pair, len(pair.categories)),
                heading=False,
                folded=number >= _OPEN_PAIRS or len(pair.categories) > _MANY_ROWS,
            )
    if report.priced is not None:
        _add_priced(page, report.priced)
    page.heading("How true the expected scores are")
    page.figure(
        _calibration_plot(report.models),
        "Mean score over expected score in ten bins, a line a model; on the dashed line a model scores what is expected.",
    )
    page.table(figures.model_table(report.models), heading=False)
    return page


def _add_priced(page: Page, priced: PricedReport) -> None:
    page.heading("Cost and quality")
    page.figure(
        _priced_plot(priced),
        "Mean score over the mean cost of 1,000 requests. Points are single models; the dashed line is what random mixtures of "
        "two of them reach, and the oracle knows the outcomes.",
    )
    for table in figures.priced_tables(priced):
        page.table(table)
    page.table(figures.priced_category_table(priced, len(priced.categories)), folded=len(priced.categories) > _MANY_ROWS)


def _pair_plot(pair: PairReport) -> Figure:
    """Recovered share of the gap over the share of strong calls."""
    with figure(7.0, 4.6) as (drawn, axes):
        own = pair.whole.rows[0].name
        # The predictor's line is on top.
        for row in reversed(pair.whole.rows):
            axes.plot(
                100 * row.curve.shares,
                100 * row.curve.recovered,
                label=row.name,
                **(_OWN if row.name == own else _LINES[row.name]),
            )
        # The oracle recovers more than the gap: it knows where the weak model is the better one.
        highest = max(float(row.curve.recovered.max()) for row in pair.whole.rows if row.name != ORACLE)
        lowest = min(float(row.curve.recovered.min()) for row in pair.whole.rows)
        axes.set(xlabel="answered by the strong model, % of prompts", ylabel="recovered, % of the gap", xlim=(0, 100))
        axes.set_ylim(100 * min(0.0, max(lowest, -0.5)), 100 * min(max(1.2, highest + 0.05), 2.0))
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="lower right")
    return drawn


def _category_plot(pair: PairReport) -> Figure:
    """APGR by category, with intervals."""
    parts = [part for part in pair.categories if part.rows][:_MOST_BARS]
    own = pair.whole.rows[0].name
    names = [name for name in (own, WORDS, NEW_WORDS) if any(part.row(name) for part in parts)]
    height = 0.8 / max(1, len(names))
    with figure(8.0, 1.2 + len(parts) * (0.16 + 0.14 * len(names))) as (drawn, axes):
        for number, name in enumerate(names):
            found = [(place, row.figures["apgr"]) for place, part in enumerate(parts) if (row := part.row(name)) is not None]
            style: dict[str, Any] = _OWN if name == own else _LINES[name]
            _bars(axes, found, height * (number + 0.5) - 0.4, height * 0.85, style["color"], name, faint=name == NEW_WORDS)
        axes.axvline(0.5, color="black", alpha=0.7, linestyle="--", linewidth=1, zorder=3)
        axes.set_yticks(range(len(parts)), [f"{printable(part.name, _LABEL)} ({part.n})" for part in parts])
        axes.grid(axis="y", visible=False)
        # A small category may have any APGR, and would stretch the axis.
        axes.set(xlabel="APGR", xlim=(0, 1), ylim=(len(parts) - 0.4, -0.6))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names))
    return drawn


def _bars(
    axes: Any, found: Sequence[tuple[int, Estimate]], shift: float, height: float, colour: str, name: str, *, faint: bool
) -> None:
    known = [(place, each, each.value) for place, each in found if each.value is not None]
    low = [max(0.0, value - (value if each.low is None else each.low)) for _, each, value in known]
    high = [max(0.0, (value if each.high is None else each.high) - value) for _, each, value in known]
    axes.barh(
        [place + shift for place, _, _ in known],
        [value for _, _, value in known],
        height,
        color=colour,
        alpha=0.4 if faint else 0.75,
        label=name,
        xerr=[low, high],
        error_kw={"ecolor": "black", "elinewidth": 1, "alpha": 0.6},
    )


def _priced_plot(priced: PricedReport) -> Figure:
    """Mean score over cost."""
    with figure(8.0, 5.0) as (drawn, axes):
        for name, frontier in reversed([*priced.frontiers.items()]):
            thinned = figures.thinned(frontier)
            axes.plot(1000 * frontier.costs[thinned], frontier.qualities[thinned], label=name, **(_LINES.get(name, _OWN)))
        axes.plot(1000 * priced.mixtures.costs, priced.mixtures.qualities, label="best mixtures of two", **_LINES[RANDOM])
        costs = [1000 * each.cost for each in priced.singles]
        axes.plot(costs, [each.quality for each in priced.singles], "o", color="black", alpha=0.7, markersize=4)
        for each in priced.singles:
            if each.is_corner:
                axes.annotate(
                    printable(each.model, _LABEL),
                    (1000 * each.cost, each.quality),
                    xytext=(5, -11),
                    textcoords="offset points",
                    fontsize=8,
                )
        axes.set(xlabel="US dollars for 1,000 requests", ylabel="mean score")
        if min(costs) > 0 and max(costs) > 20 * min(costs):
            axes.set_xscale("log")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="lower right")
    return drawn


def _calibration_plot(models: Sequence[ModelReport]) -> Figure:
    """Mean score over expected score."""
    with figure(7.0, 4.6) as (drawn, axes):
        axes.plot([0, 1], [0, 1], color="black", alpha=0.5, linestyle="--", linewidth=1)
        for number, model in enumerate(models):
            filled = [each for each in model.predictor.bins if each.count]
            axes.plot(
                np.asarray([each.expected for each in filled]),
                np.asarray([each.score for each in filled]),
                marker="o",
                markersize=4,
                clip_on=False,
                color=COLOURS[number % len(COLOURS)],
                linestyle=("-", "--", ":", "-.")[number // len(COLOURS) % 4],
                label=printable(model.model, _LABEL),
            )
        axes.set(xlabel="expected score", ylabel="mean score", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn
