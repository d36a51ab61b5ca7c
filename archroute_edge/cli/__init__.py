"""The ``archroute`` command. A command parses, calls and prints; everything else is done by the library."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from archroute_edge import __version__
from archroute_edge.cli.check import check
from archroute_edge.cli.demo import demo
from archroute_edge.cli.doctor import doctor
from archroute_edge.cli.grammar import grammar
from archroute_edge.cli.prompt import prompt
from archroute_edge.cli.route import route
from archroute_edge.errors import ArchRouteError


class _OneLineErrors(click.Group):
    """Turns the library's errors into one line on stderr and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ArchRouteError as exc:
            # A name or path may hold line breaks; the message stays on one line all the same.
            click.echo(f"archroute: error: {' '.join(str(exc).split())}", err=True)
            ctx.exit(2)


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="archroute")
@click.option("-v", "--verbose", is_flag=True, help="Show the log of the router and of llama.cpp on stderr.")
def main(verbose: bool) -> None:
    """Decide on this machine which route a conversation belongs to, and so which model should answer it."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if verbose else logging.WARNING, format="archroute: %(levelname)s: %(message)s"
    )


for command in (route, prompt, grammar, check, doctor, demo):
    main.add_command(command)
