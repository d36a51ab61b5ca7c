"""``archroute label``."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.labelled import Candidate, candidate
from archroute_edge.cli.options import (
    calibration_option,
    config_option,
    engine_options,
    json_option,
    model_option,
    open_router,
    prompt_format_option,
    read_config,
    switch_over_option,
)
from archroute_edge.cli.process import one_line
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.config import RoutingConfig
from archroute_edge.errors import SettingsError
from archroute_edge.report import counted

if TYPE_CHECKING:
    from archroute_edge.label import Fields, InputFile, LabelFolder, Summary


@click.command(
    cls=Command,
    epilog=examples(
        "archroute label logs/ -o labels/ --config routes.yaml",
        "archroute label 'logs/2026-*/*.parquet' -o labels/ --field chat --scores",
        "archroute label logs/ -o labels/ --ray=auto",
    ),
)
@click.argument("inputs", nargs=-1, required=True)
@option("--output", "-o", metavar="FOLDER", required=True, help="Folder of the labels; a file for each input file.")
@option("--field", metavar="NAME", default="messages", help="Field or column of the conversation; A.B is B inside A.")
@option("--id", "id_field", metavar="NAME", default="id", help="Field or column that names a row; copied to its label.")
@option("--scores", is_flag=True, help="Also give the probability of every route.")
@option(
    "--takeover",
    metavar="SECONDS",
    type=click.FloatRange(1, 86_400),
    help="Take over a file if its process on another machine gives no sign of life for SECONDS.  [default: 120]",
)
@option(
    "--ray",
    "address",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="auto",
    help="Label on a running Ray cluster; auto is the one that this machine belongs to. Labels are Parquet.",
)
@config_option
@model_option
@prompt_format_option
@engine_options
@switch_over_option
@calibration_option
@json_option
@click.pass_context
def label(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    output: str,
    field: str,
    id_field: str,
    scores: bool,
    takeover: float | None,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Label files of conversations with their routes.

    INPUTS are files of JSON lines (.jsonl, .ndjson) or Parquet (.parquet), folders of them, or patterns. The labels of a
    file appear whole or not at all: a stopped run goes on where it was, and several machines share the files if they share
    the folder. The exit status is 1 if a row could not be decided or a file not be read.
    """
    from archroute_edge.label import (
        TAKEOVER_S,
        Claims,
        Fields,
        Labeller,
        LabelRun,
        RouterRecipe,
        find_inputs,
        label_on_ray,
        need_ray,
    )

    if address is not None and takeover is not None:
        raise SettingsError("--takeover is about files that machines share without --ray; leave out one of them")
    if address is not None:
        # Before the folder is said to be of a run on Ray.
        need_ray()
    found = find_inputs(inputs, Path(output))
    fields = Fields(field, id_field)
    # Before a model is loaded for nothing.
    chosen, model = read_config(options["config"]), candidate(options)
    folder = _open_folder(Path(output), chosen.config, model, found, fields, scores=scores, on_ray=address is not None)
    if address is not None:
        recipe = RouterRecipe(chosen.config, model.settings, scores)
        # Ray prints what fails on its nodes to stdout.
        with contextlib.redirect_stdout(sys.stderr):
            summary = label_on_ray(address, recipe, found, folder, fields, shows_progress=sys.stderr.isatty())
    else:
        with open_router(options, chosen, model.settings) as router, ProgressLine() as progress:

            def waits(n_files: int) -> None:
                progress.clear()
                click.echo(f"waiting for {counted(n_files, 'file')} that other processes are labelling", err=True)

            summary = LabelRun(
                Labeller(router, scores=scores),
                found,
                folder,
                fields=fields,
                claims=Claims(TAKEOVER_S if takeover is None else takeover),
                on_progress=lambda done, total: progress("labelling", done, total),
                on_wait=waits,
            ).label_all()
    for problem in summary.unreadable:
        click.echo(f"archroute: {one_line(problem)}", err=True)
    click.echo(json.dumps(summary.to_dict()) if as_json else summarise(summary))
    ctx.exit(1 if summary.errors or summary.unreadable else 0)


def _open_folder(
    folder: Path,
    config: RoutingConfig,
    model: Candidate,
    found: list[InputFile],
    fields: Fields,
    *,
    scores: bool,
    on_ray: bool,
) -> LabelFolder:
    """The folder, with what decides about its labels."""
    from archroute_edge.label import LabelFolder, config_digest

    run = {
        **model.deciding(),
        "routes": config_digest(config),
        "fields": asdict(fields),
        "scores": scores,
        "ray": on_ray,
    }
    return LabelFolder(folder, run, found, scores=scores)


def summarise(summary: Summary) -> str:
    """One line on a run."""
    parts = [f"labelled {counted(summary.rows, 'row')} of {counted(summary.files, 'file')}"]
    if summary.seconds:
        parts[0] += f" in {summary.seconds:.1f} s: {summary.rows_per_second:,.0f} rows a second"
    if summary.files_before:
        parts.append(f"{counted(summary.files_before, 'file')} labelled before")
    if summary.files_by_others:
        parts.append(f"{counted(summary.files_by_others, 'file')} labelled by other processes")
    if summary.errors:
        parts.append(f"{counted(summary.errors, 'row')} with an error")
    if summary.unreadable:
        parts.append(f"{counted(len(summary.unreadable), 'file')} that cannot be read")
    return "; ".join(parts)
