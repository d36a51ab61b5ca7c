"""The command ``python -m training.cases`` and its subcommands."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

import archroute_edge
from archroute_edge.errors import ArchRouteError
from training.cases.load_command import load
from training.cases.output import write_whole
from training.cases.sources import build as build_cases

SHIPPED = Path(archroute_edge.__file__).parent / "data" / "cases.jsonl"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Make files of labelled cases."""


@commands.command()
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), default=SHIPPED, help="Another file than the shipped."
)
def build(output: Path) -> None:
    """Write the cases that the package ships, from their sources in training/cases/shipped."""
    text = build_cases()
    write_whole(output, text)
    click.echo(f"{output}: {text.count(chr(10))} cases", err=True)


commands.add_command(load)


def main() -> None:
    """Run the command; a failure is one line on stderr and exit status 2, an interrupt is status 130."""
    # SIGTERM cleans up too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        commands(prog_name="python -m training.cases", standalone_mode=False)
    except click.ClickException as exc:
        click.echo(f"error: {exc.format_message()}", err=True)
        sys.exit(2)
    except ArchRouteError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; no unfinished file was left", err=True)
        sys.exit(130)
