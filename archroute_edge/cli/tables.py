"""Reports on the terminal, drawn by rich."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archroute_edge.errors import SettingsError
from archroute_edge.report import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_WIDTH_ELSEWHERE = 140
_ANY_WIDTH = 10_000
_HEAD = 10


def require_rich() -> None:
    """Make sure before a long run that its tables can be shown.

    Raises:
        SettingsError: rich is not installed.
    """
    try:
        importlib.import_module("rich")
    except ImportError as exc:
        raise SettingsError(
            "the report's tables need rich; install it with: pip install 'archroute-edge[bench]', or use --json"
        ) from exc


def shows_tables(as_json: bool, csv: Path | None) -> bool:
    """Whether a command shows its report as tables; if they cannot be drawn, ``csv`` is report enough, which is said.

    Raises:
        SettingsError: rich is not installed, and the tables are all that is asked for.
    """
    if as_json:
        return False
    try:
        require_rich()
    except SettingsError:
        if csv is None:
            raise
        click.echo("no tables: they need rich (pip install 'archroute-edge[bench]')", err=True)
        return False
    return True


def print_answer(lines: Sequence[str]) -> None:
    """Print to stdout, in a box, what the reader came for; the first line stands out."""
    from rich.panel import Panel
    from rich.text import Text

    first, *others = lines
    _console().print(Panel(Text("\n".join([first, *others])), expand=False))


def print_tables(tables: Iterable[Table | None]) -> None:
    """Print tables to stdout, as wide as the terminal, or 140 columns where there is none; what is None is left out.

    A table that is wider has its heads folded, and is drawn in parts, each with its names, if that is not enough.
    """
    from rich.text import Text

    console = _console()
    for table in tables:
        if table is None:
            continue
        console.print(Text(table.title, style="bold"))
        every = range(len(table.headers))
        if _width(table, every, console, _ANY_WIDTH) <= console.width:
            console.print(_drawn(table, every, _ANY_WIDTH))
        else:
            for columns in _parts(table, console):
                console.print(_drawn(table, columns, _HEAD))
        if table.note:
            console.print(Text(table.note, style="dim"))
        console.print()


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_ELSEWHERE)


def _parts(table: Table, console: Console) -> Iterator[Sequence[int]]:
    """The columns to draw side by side: all, or as many numbers beside the words as fit into the width, then the next ones."""
    words, numbers = range(table.text_columns), range(table.text_columns, len(table.headers))
    part = [*words]
    for column in numbers:
        if len(part) > len(words) and _width(table, [*part, column], console, _HEAD) > console.width:
            yield part
            part = [*words]
        part.append(column)
    yield part


def _width(table: Table, columns: Sequence[int], console: Console, head: int) -> int:
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=_ANY_WIDTH), _drawn(table, columns, head)).maximum


def _drawn(table: Table, columns: Sequence[int], head: int) -> RichTable:
    """The table; a head over numbers is folded if it is longer than ``head`` characters and wider than the numbers."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_text = column < table.text_columns
        header = Text(table.headers[column])
        # Only words are folded, if they are wider than the terminal; a number is as wide as it is, under a head of lines.
        words = [*table.headers[column].split(), table.headers[column][:head], *(row[column] for row in table.rows)]
        width = max(map(len, words))
        drawn.add_column(header, justify="left" if is_text else "right", overflow="fold", width=None if is_text else width)
    for row in table.rows:
        # Text, so that square brackets in a name are no markup.
        drawn.add_row(*(Text(row[column]) for column in columns))
    return drawn
