"""A pull as a terminal shows it."""

from __future__ import annotations

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.models import Licence, PullListener


class PullView(PullListener):
    """Shows a pull on stderr: the licence, the progress, and that another process is at it."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def licence(self, licence: Licence) -> None:
        """Say whose terms hold before anything is downloaded."""
        self._line.clear()
        click.echo(f"licence of the model: {licence.name} ({licence.link})", err=True)
        if licence.path is not None:
            click.echo(f"its full text: {licence.path}", err=True)

    def progress(self, step: str, done: int, total: int) -> None:
        """Redraw the line."""
        self._line(step, done, total)

    def waiting(self, name: str) -> None:
        """Say why nothing moves."""
        self._line.clear()
        click.echo(f"{name} is being downloaded by another process; waiting for it", err=True)
