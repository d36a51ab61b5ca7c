"""A report as one self-contained HTML page: text, tables and plots (SVG), readable in light and dark.

Plots are matplotlib figures. Their black and white are the page's text and background colours, whichever these are; other
colours have to be readable on both (:data:`COLOURS`).
"""

from __future__ import annotations

import html
import importlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.errors import SettingsError
from archroute_edge.system import replaced_when_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#3b82c4", "#d9772b", "#3d9a50", "#b5568f", "#8a74c9", "#a1812f", "#2f9a96", "#c45252")
"""Colours for the lines and points of plots: told apart on white and on near-black (contrast of 3 or more)."""

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1c1f23; --faint: #626a73; --line: #d5d9de; --back: #ffffff; --head: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --faint: #9aa3ad; --line: #3a4048; --back: #14171a; --head: #1e2328; }
}
body { margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.4rem; font-size: 1.2rem; }
p.note, figcaption { color: var(--faint); font-size: .9rem; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th { background: var(--head); } td.n, th.n { text-align: right; }
figure { margin: 1rem 0; color: var(--text); } svg { max-width: 100%; height: auto; }
"""


@contextmanager
def figure(width: float = 8.0, height: float = 4.5) -> Iterator[tuple[Figure, Any]]:
    """A matplotlib figure and its axes, width and height in inches, in the style of the page.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure as MatplotlibFigure

    with _plot_style():
        made = MatplotlibFigure(figsize=(width, height), layout="constrained")
        yield made, made.add_subplot()


def require_matplotlib() -> None:
    """Make sure before a long run that its plots can be drawn.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as exc:
        raise SettingsError("plots need matplotlib; install it with: pip install 'archroute-edge[bench]'") from exc


@contextmanager
def _plot_style() -> Iterator[None]:
    import matplotlib as mpl
    from cycler import cycler

    style: Any = {
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "grid.color": "black",
        "axes.prop_cycle": cycler(color=COLOURS),
        "legend.frameon": False,
        # A dollar sign in the name of a route begins no formula.
        "text.parse_math": False,
        # Text stays text, and the same figure gives the same bytes.
        "svg.fonttype": "none",
        "svg.hashsalt": "archroute",
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font has not; only their widths are guessed.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
        yield


class Page:
    """Collects a report and writes it.

    Args:
        title: heading and window title.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, *, note: bool = False) -> None:
        """A paragraph; a note is smaller."""
        self._parts.append(f'<p class="note">{html.escape(text)}</p>' if note else f"<p>{html.escape(text)}</p>")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> None:
        """A table of texts, the first ``text_columns`` columns flush left and the others, numbers, flush right."""

        def line(cells: Sequence[str], tag: str) -> str:
            number = f'<{tag} class="n">'
            parts = (
                f"{f'<{tag}>' if index < text_columns else number}{html.escape(cell)}</{tag}>"
                for index, cell in enumerate(cells)
            )
            return f"<tr>{''.join(parts)}</tr>"

        body = "".join(line(row, "td") for row in rows)
        self._parts.append(f'<div class="wide"><table><thead>{line(headers, "th")}</thead><tbody>{body}</tbody></table></div>')

    def figure(self, drawn: Figure, caption: str) -> None:
        """A plot, with a sentence that says what is to be seen (also the text for those who cannot see it)."""
        self._parts.append(f"<figure>{_svg(drawn, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def render(self) -> str:
        """The page."""
        title = html.escape(self._title)
        body = "\n".join(self._parts)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
            f"<body><h1>{title}</h1>\n{body}\n</body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page to ``path``, whole or not at all.

        Raises:
            SettingsError: it cannot be written.
        """
        try:
            with replaced_when_whole(path) as partial:
                # A lone surrogate in a case's text becomes a question mark.
                partial.write_text(self.render(), encoding="utf-8", errors="replace")
        except OSError as exc:
            raise SettingsError(f"{path}: cannot be written ({exc.strerror or exc})") from exc


def _svg(drawn: Figure, label: str) -> str:
    buffer = io.StringIO()
    with _plot_style():
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    # Black is whatever the page's text is, white whatever is behind it; matplotlib leaves black fills unnamed.
    text = re.sub(r"#000000\b", "currentColor", text)
    text = re.sub(r"#ffffff\b", "var(--back)", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" fill="currentColor" ', 1)
