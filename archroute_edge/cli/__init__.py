"""The ``archroute`` command. A command parses, calls and prints; everything else is done by the library."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from archroute_edge import __version__
from archroute_edge.cli.help import CommandPlace, LazyGroup, examples
from archroute_edge.cli.process import drop_unwritten, one_line, set_process_up
from archroute_edge.errors import ArchRouteError

_COMMANDS = {
    name: CommandPlace(f"archroute_edge.cli.{module}", attribute, short_help)
    for name, module, attribute, short_help in (
        ("bench", "bench", "bench", "Measure models or levels on this machine and recommend one."),
        ("calibrate", "calibrate", "calibrate", "Fit a model's calibration to labelled cases."),
        ("check", "check", "check", "Validate a configuration and warn about unwise routes."),
        ("demo", "demo", "demo", "Route example messages with the bundled models."),
        ("doctor", "doctor", "doctor", "Show the build, try each model, and report problems."),
        ("eval", "evaluate", "eval_command", "Measure how well a model routes labelled cases."),
        ("grammar", "prompt", "grammar", "Print the GBNF grammar of the model's answer."),
        ("label", "label", "label", "Label files of conversations with their routes."),
        ("log", "log", "log", "List the requests that archroute serve --record has kept."),
        ("models", "models", "models", "List, pull, check and remove models."),
        ("prompt", "prompt", "prompt", "Print the exact prompt for the model."),
        ("quality", "quality", "quality", "Train, measure and use predictors of answers' quality."),
        ("quantize", "quantize", "quantize_command", "Quantize a GGUF to one or more levels."),
        ("report", "record_report", "report", "Report on the requests that archroute serve --record has kept."),
        ("route", "route", "route", "Find the route of a conversation and the model for it."),
        ("serve", "serve", "serve", "Serve decisions to other programs, over HTTP or pipes."),
    )
}


class _OneLineErrors(LazyGroup):
    """Turns errors into one line on stderr: exit status 2 for errors that a caller can correct, 130 for an interruption.

    A group without a command is such an error, and its help the message.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ArchRouteError as exc:
            _complain(str(exc))
            ctx.exit(2)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        set_process_up()
        try:
            code = super().main(args, prog_name, complete_var, False, **extra)
        except click.exceptions.NoArgsIsHelpError as exc:
            exc.show()
            sys.exit(exc.exit_code)
        except click.UsageError as exc:
            command = exc.ctx.command_path if exc.ctx else "archroute"
            said = exc.format_message().rstrip(".")
            _complain(f"{said} See {command} --help" if said.endswith("?") else f"{said}; see {command} --help")
            sys.exit(exc.exit_code)
        except click.Abort:
            click.echo("archroute: interrupted", err=True)
            sys.exit(130)
        except OSError as exc:
            _complain(str(exc))
            drop_unwritten()
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    click.echo(f"archroute: error: {one_line(message)}", err=True)


@click.group(
    cls=_OneLineErrors,
    places=_COMMANDS,
    invoke_without_command=True,
    epilog=examples('archroute route "my test fails with an IndexError"', "archroute serve --config routes.yaml"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="archroute")
@click.option("-v", "--verbose", is_flag=True, help="Log the router and llama.cpp to stderr.")
@click.pass_context
def main(ctx: click.Context, verbose: bool) -> None:
    """Decide on this machine which route a conversation belongs to, and so which model should answer it."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if verbose else logging.WARNING, format="archroute: %(levelname)s: %(message)s"
    )
    if not verbose:
        # The first time takes seconds, which is said.
        logging.getLogger("archroute_edge.engine._engine_choice").setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a route's name shows its code points.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
