"""``python -m training.cases load``: files of cases from public data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import CaseError
from archroute_edge.routes import MAX_ROUTES
from training.cases.data_sets import BANKING77, CLINC150, SCHEMA_GUIDED, DataSet, fetch
from training.cases.drawing import Drawing, draw_cases
from training.cases.output import write_whole
from training.cases.published_intents import read_banking77, read_clinc150
from training.cases.schema_guided import conversation_cases, read_schema_guided

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def load() -> None:
    """Turn a public data set into a file of cases.

    It is fetched once, from its publisher, unless --from names a folder that has it.
    """


def _options(data_set: DataSet, count: int, what: str) -> Callable[[Command], Command]:
    """The options that all data sets have; ``what`` names the counted items."""
    options = [
        click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE",
                     help="The file to write."),
        click.option("--from", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
                     help="The data set as it is published.  [default: fetch it into the cache]"),
        click.option("--split", type=click.Choice(list(data_set.files)), default="test", show_default=True,
                     help="Which part of the data set."),
        click.option("--count", type=click.IntRange(1, 1_000_000), default=count, show_default=True, help=what),
        click.option("--routes", type=click.IntRange(1, MAX_ROUTES), default=10, show_default=True,
                     help="Routes of each table."),
        click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same cases."),
    ]  # fmt: skip

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_tables_option = click.option(
    "--tables", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Route tables to spread the cases over."
)


@load.command()
@_options(CLINC150, 500, "Cases.")
@_tables_option
@click.option("--other", type=click.FloatRange(0, 1), default=0.15, show_default=True, help="Share of out-of-scope messages.")
@click.option("--across-domains", is_flag=True, help="Draw a table's routes from all domains.  [default: from one]")
def clinc150(
    output: Path, folder: Path | None, split: str, count: int, routes: int, seed: int, tables: int, other: float,
    across_domains: bool,
) -> None:  # fmt: skip
    """CLINC150: requests of 150 intents in 10 domains, and out-of-scope ones."""
    drawing = Drawing(count, min(tables, count), routes, other, across_domains, seed)
    labelled = read_clinc150(_folder(CLINC150, split, folder, output), split)
    _write(output, draw_cases("clinc150", labelled, drawing), CLINC150)


@load.command()
@_options(BANKING77, 500, "Cases.")
@_tables_option
def banking77(output: Path, folder: Path | None, split: str, count: int, routes: int, seed: int, tables: int) -> None:
    """BANKING77: questions of a bank's customers, 77 intents; none of them is other."""
    labelled = read_banking77(_folder(BANKING77, split, folder, output), split)
    _write(output, draw_cases("banking77", labelled, Drawing(count, min(tables, count), routes, seed=seed)), BANKING77)


@load.command()
@_options(SCHEMA_GUIDED, 100, "Conversations; each of their user turns is a case.")
def sgd(output: Path, folder: Path | None, split: str, count: int, routes: int, seed: int) -> None:
    """Schema-Guided Dialogue: conversations with several services; a table has all intents of theirs."""
    data = read_schema_guided(_folder(SCHEMA_GUIDED, split, folder, output), split)
    _write(output, conversation_cases(data, split, count=count, routes=routes, seed=seed), SCHEMA_GUIDED)


def _folder(data_set: DataSet, split: str, folder: Path | None, output: Path) -> Path:
    # Asked before anything is fetched.
    if not output.parent.is_dir():
        raise CaseError(f"{output.parent}: no such folder, so {output.name} cannot be written there")
    click.echo(data_set.attribution, err=True)
    if folder is not None:
        return folder
    with ProgressLine() as line:
        return fetch(data_set, split, line)


def _write(output: Path, cases: Iterable[dict[str, Any]], data_set: DataSet) -> None:
    lines = [json.dumps(case, ensure_ascii=False) + "\n" for case in cases]
    write_whole(output, "".join(lines))
    click.echo(f"{output}: {len(lines)} cases of {data_set.name}; its licence holds for them, too", err=True)
