"""One way to show figures: columns for tables, JSON and CSV; pages and plots. It knows no figure of any report.

Used by: ``evaluation``, ``bench``, ``record`` and ``cli``. Other rooms import only the names below; modules with an underscore
belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.report._figures import (
        FEWEST_FOR_P95,
        NONE,
        Column,
        Share,
        Table,
        counted,
        named,
        number,
        p95,
        percent,
        plain,
        printable,
        size,
        table,
        three_digits,
        values,
        write_csv,
    )
    from archroute_edge.report._page import COLOURS, Page, figure, require_matplotlib, write_svg
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_figures": (
                "Column FEWEST_FOR_P95 NONE Share Table counted named number p95 percent plain printable size table "
                "three_digits values write_csv"
            ),
            "_page": "COLOURS Page figure require_matplotlib write_svg",
        },
    )
