"""The command ``python -m tools.convert`` and its subcommands."""

from __future__ import annotations

import signal
import sys

import click

from archroute_edge.cli.process import one_line
from archroute_edge.errors import ArchRouteError
from tools.convert.convert_command import convert
from tools.convert.imatrix_command import imatrix
from tools.convert.verify_command import verify_command


class _ConvertByDefault(click.Group):
    """``CHECKPOINT ...`` without a subcommand's name in front means ``convert CHECKPOINT ...``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["convert", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ConvertByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Make GGUF model files of Hugging Face checkpoints, and check them.

    The name of the convert command may be left out: python -m tools.convert CHECKPOINT -o FILE.
    """


for command in (convert, imatrix, verify_command):
    commands.add_command(command)


def main() -> None:
    """Run the command; a failure is one line on stderr and exit status 2, an interrupt is status 130."""
    # SIGTERM cleans up too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = commands(prog_name="python -m tools.convert", standalone_mode=False)
    except click.ClickException as exc:
        click.echo(f"error: {one_line(exc.format_message())}", err=True)
        sys.exit(2)
    except (ArchRouteError, OSError) as exc:
        click.echo(f"error: {one_line(str(exc))}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; no unfinished file was left", err=True)
        sys.exit(130)
    if isinstance(status, int) and status:
        sys.exit(status)
