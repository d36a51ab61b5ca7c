"""Columns: a figure is listed once, and shown in a table, in JSON and in CSV from that."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Final

from archroute_edge.errors import SettingsError
from archroute_edge.system import replaced_when_whole

NONE: Final = "–"
"""Stands where there is no figure."""

FEWEST_FOR_P95: Final = 20
"""Of fewer samples, the 95th percentile is hardly more than the largest."""

_Z_95: Final = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Share:
    """``right`` of ``total``, with Wilson's 95 % interval."""

    right: int
    total: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.right / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval without correction for continuity; 0 to 1 of nothing.

        Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927):
        (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).
        """
        if self.share is None:
            return 0.0, 1.0
        z2 = _Z_95**2
        middle = self.share + z2 / (2 * self.total)
        half = _Z_95 * math.sqrt(self.share * (1 - self.share) / self.total + z2 / (4 * self.total**2))
        scale = 1 + z2 / self.total
        # At none and at all the bound is 0 and 1 exactly, which rounding may miss.
        low = 0.0 if self.right == 0 else (middle - half) / scale
        return low, 1.0 if self.right == self.total else (middle + half) / scale

    @property
    def figure(self) -> float | None:
        """The share, which stands for all in one column of CSV."""
        return self.share

    def to_dict(self) -> dict[str, Any]:
        """The share as JSON."""
        return {"right": self.right, "total": self.total, "share": self.share, "interval": list(self.interval)}

    def __str__(self) -> str:
        """``93.2 % (89.1 to 95.9), 220 of 236``."""
        return f"{percent(self.share)} ({self.interval_text}), {self.right} of {self.total}" if self.total else NONE

    @property
    def interval_text(self) -> str:
        """The interval in %: ``89.1 to 95.9``."""
        return "{:.1f} to {:.1f}".format(*(100 * bound for bound in self.interval))


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first ``text_columns`` columns are words, the others numbers. ``note`` says how to read it."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A figure of a row's object.

    Attributes:
        key: name in JSON; ``group.name`` makes an object of the group, or null if all its figures are None; "" keeps it out.
        title: head in a table, with the unit.
        get: the value; None is no figure.
        show: how a table writes it.
        csv: name in CSV if it is not ``key``; "" keeps it out.
    """

    key: str
    title: str
    get: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    csv: str | None = None

    def heads(self) -> list[str]:
        """Heads of its columns in a table."""
        return [self.title]

    def cells(self, row: Any) -> list[str]:
        """A text for each of :meth:`heads`."""
        value = self.get(row)
        return [NONE if value is None else self.show(value)]

    def csv_cells(self, row: Any) -> dict[str, Any]:
        """Columns in CSV: the ``figure`` of a value that has one, 0 or 1 for a flag."""
        value = self.get(row)
        value = int(value) if isinstance(value, bool) else getattr(value, "figure", value)
        return {} if self.csv == "" else {self.csv or self.key: value}


def values(columns: Iterable[Column], row: Any) -> dict[str, Any]:
    """The figures of ``row`` as plain values for ``json.dumps``."""
    found: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for column in columns:
        group, _, name = column.key.rpartition(".")
        if group:
            found[group] = groups.setdefault(group, {})
            groups[group][name] = plain(column.get(row))
        elif name:
            found[name] = plain(column.get(row))
    return found | {name: None for name, members in groups.items() if all(each is None for each in members.values())}


def plain(value: Any) -> Any:
    """``value`` as JSON has it."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def table(title: str, columns: Sequence[Column], rows: Iterable[Any], *, text_columns: int = 1, note: str = "") -> Table:
    """A row for each of ``rows``."""
    heads = [head for column in columns for head in column.heads()]
    cells = [[cell for column in columns for cell in column.cells(row)] for row in rows]
    return Table(title, heads, cells, text_columns, note)


def named(columns: Iterable[Column], keys: str) -> list[Column]:
    """Those of ``columns`` that ``keys``, with spaces between them, name, in that order."""
    found = {column.key: column for column in columns}
    return [found[key] for key in keys.split()]


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write ``rows``, which may have different columns, to ``path``, whole or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        with replaced_when_whole(path) as partial, partial.open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), restval="")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written ({exc.strerror or exc})") from exc


def percent(share: float | None) -> str:
    """``93.2 %``."""
    return NONE if share is None else f"{100 * share:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """``0.123``, to ``digits`` places."""
    return NONE if value is None else f"{value:.{digits}f}"


def counted(count: int, what: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(n_bytes: int | None) -> str:
    """Bytes as people read them, in powers of ten as files are sold."""
    if n_bytes is None:
        return NONE
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def p95(samples: Sequence[float], digits: int | None = None) -> float | None:
    """The 95th percentile, interpolated linearly and rounded to so many digits; None of too few samples to have one."""
    if len(samples) < FEWEST_FOR_P95:
        return None
    place = 0.95 * (len(samples) - 1)
    below, above = sorted(samples)[int(place) : int(place) + 2]
    value = float(below + (above - below) * (place - int(place)))
    return value if digits is None else round(value, digits)


def three_digits(value: float | None) -> str:
    """Three digits that count: 1.23, 12.3, 123, 1,234."""
    return NONE if value is None else f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def printable(text: str, most: int = 90) -> str:
    """``text`` on one line of at most ``most`` characters, without characters that move a terminal's cursor."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return line if len(line) <= most else line[: most - 1] + "…"
