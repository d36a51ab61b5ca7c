"""What the commands of all trainings share: failures in one line, and a checkpoint's folder that replaces nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from archroute_edge.cli.process import one_line
from archroute_edge.errors import ArchRouteError
from training.wheels import WheelError

_EXTRA: Final = ("torch", "transformers", "tokenizers", "safetensors", "sentencepiece")
_SHAPE: Final = "config.json"


class _Failure(click.ClickException):
    """One that a caller can correct."""

    exit_code = 2


class TrainingCommands(click.Group):
    """Commands whose failures are one line on stderr and exit status 2: wrong data, missing files, a missing extra."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ArchRouteError, OSError, WheelError) as exc:
            raise _Failure(one_line(str(exc))) from exc
        except click.ClickException as exc:
            if exc.exit_code == _Failure.exit_code:
                raise
            raise _Failure(exc.message) from exc
        except ModuleNotFoundError as exc:
            if exc.name not in _EXTRA:
                raise
            raise _Failure(f"needs {exc.name}; install it with: pip install -e '.[tiny]'") from exc


def _replaceable(_ctx: click.Context, _param: click.Parameter, folder: Path) -> Path:
    """The folder's whole path; refused if it holds something that is no checkpoint."""
    whole = folder.resolve()
    if whole.is_dir() and any(whole.iterdir()) and not (whole / _SHAPE).is_file():
        raise click.BadParameter(f"{folder} holds something that is no checkpoint, and would be replaced; name another folder")
    return whole


checkpoint_out = click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    callback=_replaceable,
    required=True,
    help="Checkpoint folder; one that is there is replaced.",
)
"""Where a command writes a checkpoint."""
