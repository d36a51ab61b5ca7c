"""Labels beside the marks of a plot, where they cover neither each other nor another mark."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FONT_SIZE: Final = 9
# Of the font's size; a browser's font may be a little wider than matplotlib's.
_WIDTH: Final = 0.62
_HEIGHT: Final = 1.15
_DIRECTIONS: Final = (90, 270, 0, 180, 45, 135, 315, 225)
_DISTANCES: Final = (3, 14, 26, 40, 56)
_FAR: Final = 10


@dataclass(frozen=True)
class Mark:
    """A round mark: its label, where it is in the data, and its radius in points."""

    text: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Box:
    """A rectangle, in points from the figure's lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top


def write_beside(drawn: Figure, axes: Any, marks: Sequence[Mark]) -> None:
    """Write the label of each mark where there is room, with a line to it where that is not right beside it."""
    drawn.draw_without_rendering()
    to_points = 72 / drawn.dpi
    places = [tuple(to_points * value for value in axes.transData.transform((mark.x, mark.y))) for mark in marks]
    frame = Box(*(to_points * value for value in axes.bbox.extents))
    circles = [
        Box(x - mark.radius, y - mark.radius, x + mark.radius, y + mark.radius)
        for mark, (x, y) in zip(marks, places, strict=True)
    ]
    written: list[Box] = []
    for mark, (x, y), own in zip(marks, places, circles, strict=True):
        others = [*(each for each in circles if each is not own), *written]
        box, distance = find_room(mark, x, y, frame, others)
        written.append(box)
        offset = ((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y)
        line = {"arrowstyle": "-", "color": "black", "alpha": 0.35, "linewidth": 0.7} if distance > _FAR else None
        axes.annotate(
            mark.text,
            (mark.x, mark.y),
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_FONT_SIZE,
            zorder=5,
            arrowprops=line,
        )


def find_room(mark: Mark, x: float, y: float, frame: Box, others: Iterable[Box]) -> tuple[Box, float]:
    """The nearest place for the label of the mark at (x, y) inside ``frame``, and how far it is from the mark, in points.

    Where there is no room at all it is right above the mark.
    """
    taken = list(others)
    half_width, half_height = _WIDTH * _FONT_SIZE * len(mark.text) / 2, _HEIGHT * _FONT_SIZE / 2
    fallback = None
    for distance, degrees in itertools.product(_DISTANCES, _DIRECTIONS):
        across, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        middle_x = x + across * (mark.radius + distance + half_width)
        middle_y = y + up * (mark.radius + distance + half_height)
        box = Box(middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height)
        fallback = fallback or box
        inside = frame.left <= box.left and box.right <= frame.right and frame.bottom <= box.bottom and box.top <= frame.top
        if inside and not any(box.meets(other) for other in taken):
            return box, distance
    assert fallback is not None
    return fallback, 0.0
