"""One way to show figures: pages and plots.

It knows nothing about the figures of any benchmark.

Used by: ``evaluation`` and ``bench``. Other rooms import only the names below; modules with an underscore belong to this
room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.report._page import COLOURS, Page, figure, require_matplotlib
    from archroute_edge.report._plot_labels import Mark, write_beside
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_page": "COLOURS Page figure require_matplotlib",
            "_plot_labels": "Mark write_beside",
        },
    )
