"""A table of a report, ready to be shown on a terminal or a page, and how figures are written in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archroute_edge.evaluation._metrics import Share

NONE = "–"
"""What stands where there is no figure."""


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first ``text_columns`` columns are words, the others numbers. ``note`` says how to read it."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    note: str = ""


def percent(share: float | None) -> str:
    """``93.2 %``."""
    return NONE if share is None else f"{100 * share:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """``0.123``, to ``digits`` places."""
    return NONE if value is None else f"{value:.{digits}f}"


def share(value: Share | None) -> str:
    """``93.2 % (89.1 to 95.9), 220 of 236``: the share, its 95 % interval, and the counts."""
    if value is None or not value.total:
        return NONE
    low, high = value.interval
    return f"{percent(value.share)} ({100 * low:.1f} to {100 * high:.1f}), {value.right} of {value.total}"


def printable(text: str, most: int = 90) -> str:
    """``text`` on one line of at most ``most`` characters, without characters that move a terminal's cursor."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return line if len(line) <= most else line[: most - 1] + "…"
