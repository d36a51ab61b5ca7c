"""Report tables on the terminal, drawn by rich."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

from archroute_edge.benchmark.tables import Table
from archroute_edge.errors import SettingsError

_WIDTH_ELSEWHERE = 140


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


def print_tables(tables: Iterable[Table | None]) -> None:
    """Print tables to stdout, as wide as the terminal, or 140 columns where there is none; what is None is left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_ELSEWHERE)
    for table in tables:
        if table is None:
            continue
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, header in enumerate(table.headers):
            is_text = index < table.text_columns
            drawn.add_column(Text(header), justify="left" if is_text else "right", overflow="fold" if is_text else "ellipsis")
        for row in table.rows:
            # Text, so that square brackets in a name are no markup.
            drawn.add_row(*(Text(cell) for cell in row))
        console.print(Text(table.title, style="bold"))
        console.print(drawn)
        if table.note:
            console.print(Text(table.note, style="dim"))
        console.print()
