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
from archroute_edge.report._figures import Table
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
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { margin-top: 2.4rem; font-size: 1.2rem; }
p.note, figcaption { color: var(--faint); font-size: .9rem; }
div.answer { border: 1px solid var(--line); border-left: .3rem solid #3b82c4; border-radius: .3rem; background: var(--head);
  padding: .2rem 1rem; margin: 1.2rem 0; }
div.answer p { margin: .5rem 0; } div.answer p:first-child { font-size: 1.15rem; font-weight: 600; }
div.wide, figure { overflow-x: auto; } figure { margin: 1rem 0; color: var(--text); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--head); vertical-align: bottom; } td.n, th.n { text-align: right; } td.n { white-space: nowrap; }
td:not(.n):last-child { min-width: 14rem; } @media (min-width: 40rem) { td:first-child { white-space: nowrap; } }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
svg { max-width: 100%; min-width: 36rem; height: auto; }
"""


@contextmanager
def figure(width: float = 8.0, height: float = 4.5, panels: Sequence[float] = (1,)) -> Iterator[tuple[Figure, Any]]:
    """A matplotlib figure and its axes, width and height in inches, in the style of the page.

    Several ``panels`` stand below each other, as high as these numbers say, on one x axis; then the axes are a sequence.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure as MatplotlibFigure

    with _plot_style():
        made = MatplotlibFigure(figsize=(width, height), layout="constrained")
        axes = made.subplots(len(panels), sharex=True, squeeze=False, height_ratios=panels)[:, 0]
        yield made, axes if len(panels) > 1 else axes[0]


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
        made: when and how it was made, a line under the heading.
    """

    def __init__(self, title: str, made: str = "") -> None:
        self._title = title
        self._parts: list[str] = []
        if made:
            self.text(made, note=True)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, *, note: bool = False) -> None:
        """A paragraph; a note is smaller."""
        if text:
            self._parts.append(f'<p class="note">{html.escape(text)}</p>' if note else f"<p>{html.escape(text)}</p>")

    def answer(self, lines: Sequence[str]) -> None:
        """What the reader came for, in a box; the first line is the largest."""
        self._parts.append(f'<div class="answer">{"".join(f"<p>{html.escape(line)}</p>" for line in lines)}</div>')

    def table(self, table: Table | None, *, heading: bool = True, folded: bool = False) -> None:
        """A table under its title, or folded away behind it; words flush left, numbers flush right. None is left out."""
        if table is None:
            return
        n_words = table.text_columns

        def line(cells: Sequence[str], tag: str) -> str:
            escaped = (html.escape(cell).replace("\n", "<br>") for cell in cells)
            words = (f"<{tag}>" if index < n_words else f'<{tag} class="n">' for index in range(len(cells)))
            return f"<tr>{''.join(f'{word}{cell}</{tag}>' for word, cell in zip(words, escaped, strict=True))}</tr>"

        body = "".join(line(row, "td") for row in table.rows)
        if folded:
            self._parts.append(f"<details><summary>{html.escape(table.title)}</summary>")
        elif heading:
            self.heading(table.title)
        self._parts.append(
            f'<div class="wide"><table><thead>{line(table.headers, "th")}</thead><tbody>{body}</tbody></table></div>'
        )
        self.text(table.note, note=True)
        if folded:
            self._parts.append("</details>")

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
        _write(self.render(), path)


def write_svg(drawn: Figure, label: str, path: Path) -> None:
    """Write a plot that a page shows as a picture: transparent, its text dark on light and light on dark.

    Raises:
        SettingsError: it cannot be written.
    """
    colours = "svg{color:#1c1f23;--back:#fff}@media(prefers-color-scheme:dark){svg{color:#e6e8ea;--back:#14171a}}"
    style = f"<style>{colours} text{{font-family:system-ui,sans-serif}}</style>"
    _write(_svg(drawn, label).replace("<defs>", f"{style}<defs>", 1), path)


def _write(text: str, path: Path) -> None:
    try:
        with replaced_when_whole(path) as partial:
            # A lone surrogate in a case's text becomes a question mark.
            partial.write_text(text, encoding="utf-8", errors="replace")
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
