"""docs/commands.md: the help of every command, as ``--help`` prints it on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from archroute_edge.cli import main

_WIDTH: Final = 78
"""What click leaves of 80 columns."""

_HEAD: Final = """\
# Commands

The output of `--help`. `python -m tools.docs write` makes this page.

Results go to stdout, everything else to stderr. An error is one line on stderr and exit status 2; an interrupted command ends
with 130.

| variable | effect |
|---|---|
| `ARCHROUTE_API_KEY` | API key of `archroute serve` |
| `ARCHROUTE_CACHE_DIR` | folder for what can be made again (prefixes, vectors, verdicts), instead of the user's cache folder |
| `ARCHROUTE_CATALOGUE` | a catalogue of your own models ([models.md](models.md#the-catalogue)) |
| `ARCHROUTE_CPU_KERNELS` | which kernels llama.cpp may use on the CPU ([install.md](install.md#which-kernels-a-cpu-gets)) |
| `ARCHROUTE_DATA_DIR` | folder of the [record](record.md), instead of the user's data folder |
| `ARCHROUTE_MODELS_DIR` | the first folder searched for models |
| `ARCHROUTE_REMOTE_KEY` | key of the server with a [remote model](remote.md#the-address) |

Variables of other programs count, too: `HF_*` for [downloads](models.md#pull), `OTEL_*` for [spans](record.md#opentelemetry),
`GOMP_SPINCOUNT` and `OMP_WAIT_POLICY` for [waiting threads](performance.md#busy-cores), and those of the
[build](install.md#environment-variables).

"""


def commands_page() -> str:
    """The page."""
    return _HEAD + "\n".join(_sections(main, "archroute", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, parent, info_name=name, terminal_width=_WIDTH, **command.context_settings)
    yield f"## {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from _sections(found, inner, context)
