"""The plots of an evaluation's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.evaluation._cells import printable
from archroute_edge.evaluation._confidence_metrics import N_BINS
from archroute_edge.evaluation._metrics import folded_confusions
from archroute_edge.evaluation._report import ModelReport
from archroute_edge.evaluation._tables import REST
from archroute_edge.report import COLOURS, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROUTES: Final = 40
"""Most routes in the plot of confusions; rarer ones are one row and column."""

_MOST_TAGS: Final = 30
_NAME: Final = 26


def reliability_plot(models: Sequence[ModelReport]) -> Figure:
    """Accuracy over confidence, with the share of the cases in each bin as bars below."""
    with figure(6.5, 5.0) as (drawn, axes):
        axes.plot([0, 1], [0, 1], color="black", alpha=0.5, linestyle="--", linewidth=1, label="as sure as right")
        width = 1 / N_BINS / len(models)
        for number, model in enumerate(models):
            filled = [each for each in model.reliability if each.count]
            colour = COLOURS[number % len(COLOURS)]
            axes.bar(
                [each.low + width * (number + 0.5) for each in model.reliability],
                [each.count / max(len(model.results), 1) for each in model.reliability],
                width * 0.9,
                color=colour,
                alpha=0.3,
            )
            axes.plot(
                [each.confidence for each in filled],
                [each.accuracy for each in filled],
                marker="o",
                clip_on=False,
                color=colour,
                label=_label(model),
            )
        axes.set(xlabel="confidence", ylabel="accuracy (bars: share of cases)", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left")
    return drawn


def coverage_plot(models: Sequence[ModelReport]) -> Figure:
    """Accuracy of the surest cases over the share of all cases that they are."""
    with figure(6.5, 4.2) as (drawn, axes):
        lowest = 1.0
        for model in models:
            # The first few cases are right or wrong by chance, and would stretch the axis.
            curve = [point for point in model.coverage if point.coverage >= 0.05] or list(model.coverage)
            axes.plot(
                [100 * point.coverage for point in curve],
                [point.accuracy for point in curve],
                clip_on=False,
                label=_label(model),
            )
            lowest = min([lowest, *(point.accuracy for point in curve)])
        axes.set(xlabel="answered, % of cases, the surest first", ylabel="accuracy of these", xlim=(0, 100))
        axes.set_ylim(max(0.0, lowest - 0.05), 1.01)
        axes.legend(loc="lower left")
    return drawn


def tag_plot(models: Sequence[ModelReport]) -> Figure:
    """Accuracy by tag with 95 % intervals, the tags with the most cases."""
    counts = {tag: share.total for model in models for tag, share in model.by_tag.items()}
    tags = sorted(sorted(counts, key=lambda tag: -counts[tag])[:_MOST_TAGS], reverse=True)
    height = 0.8 / len(models)
    with figure(8.0, 1.0 + len(tags) * (0.16 + 0.16 * len(models))) as (drawn, axes):
        for number, model in enumerate(models):
            places, shares, below, above = [], [], [], []
            for place, tag in enumerate(tags):
                if tag in model.by_tag and (value := model.by_tag[tag].share) is not None:
                    low, high = model.by_tag[tag].interval
                    places.append(place + 0.4 - height * (number + 0.5))
                    shares.append(value)
                    below.append(max(0.0, value - low))
                    above.append(max(0.0, high - value))
            axes.barh(
                places,
                shares,
                height * 0.85,
                color=COLOURS[number % len(COLOURS)],
                alpha=0.75,
                label=_label(model),
                xerr=(below, above),
                error_kw={"ecolor": "black", "elinewidth": 1, "alpha": 0.6},
            )
        axes.set_yticks(range(len(tags)), [f"{printable(tag, _NAME)} ({counts[tag]})" for tag in tags])
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="accuracy", xlim=(0, 1), ylim=(-0.6, len(tags) - 0.4))
        if len(models) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models))
    return drawn


def confusion_plot(model: ModelReport) -> Figure:
    """Counts as a square: expected routes down, decided ones across; the deeper, the larger its share of the row."""
    names, square = folded_confusions(model.confusions, MOST_ROUTES, REST)
    n_names = len(names)
    # As large as the page at the most names, so that the browser does not make the writing smaller.
    is_large = n_names > 24
    side, size = (2.0 + 0.22 * n_names, 7) if is_large else (2.4 + 0.3 * n_names, 9)
    with figure(side, side) as (drawn, axes):
        axes.grid(visible=False)
        for row, counts in enumerate(square):
            total = sum(counts)
            for column, count in enumerate(counts):
                if not count:
                    continue
                # Right ones are blue, wrong ones orange; deep enough to be seen, light enough to write on.
                colour, depth = COLOURS[row != column], 0.2 + 0.5 * count / total
                if row == column and names[row] == REST:
                    colour, depth = "black", 0.2
                _cell(axes, row, column, count, colour, depth, size)
        labels = [printable(name, _NAME) for name in names]
        axes.set_xticks(range(n_names), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(n_names), labels, fontsize=size)
        axes.set(xlabel="decided", ylabel="expected", xlim=(-0.5, n_names - 0.5), ylim=(n_names - 0.5, -0.5))
        axes.set_aspect("equal")
        for edge in range(1, n_names):
            axes.axhline(edge - 0.5, color="black", alpha=0.08, linewidth=0.6)
            axes.axvline(edge - 0.5, color="black", alpha=0.08, linewidth=0.6)
    return drawn


def is_folded(model: ModelReport) -> bool:
    """Whether :func:`confusion_plot` takes rare routes together."""
    return len(model.by_route) > MOST_ROUTES


def _cell(axes: Any, row: int, column: int, count: int, colour: str, depth: float, size: int) -> None:
    axes.fill(
        [column - 0.5, column + 0.5, column + 0.5, column - 0.5],
        [row - 0.5, row - 0.5, row + 0.5, row + 0.5],
        color=colour,
        alpha=depth,
        linewidth=0,
    )
    axes.text(column, row, str(count), ha="center", va="center", fontsize=size if count < 100 else size - 2)


def _label(model: ModelReport) -> str:
    return printable(model.name, 40)
