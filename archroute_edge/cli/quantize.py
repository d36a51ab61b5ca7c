"""``archroute quantize``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from archroute_edge.cli.options import json_option
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import QuantizationError
from archroute_edge.quantization import COLLECT_COMMAND, predict_size, quantize, refuse_without_imatrix
from archroute_edge.quantization_levels import Level, level_named

_TYPE_AT_THE_END: Final = re.compile(r"[-.](F32|F16|BF16)$", re.IGNORECASE)


@click.command(name="quantize")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("level", nargs=-1, required=True)
@click.option("--imatrix", type=click.Path(path_type=Path), metavar="FILE",
              help="Importance matrix of the same model, in llama.cpp's GGUF format.")  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where to write.  [default: beside SOURCE]"
)
@click.option("--dry-run", is_flag=True, help="Write nothing; show how large the files would be.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads for quantizing.  [default: all cores]")
@json_option
def quantize_command(
    source: Path,
    level: tuple[str, ...],
    imatrix: Path | None,
    output: Path | None,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Make smaller files of a model.

    SOURCE is its F32, F16 or BF16 GGUF. Each LEVEL gives a file of its own, named after it; they are made one after the
    other, and each appears when it is whole. An unknown LEVEL is answered with a list of all.
    """
    levels = list(dict.fromkeys(level_named(name) for name in level))
    folder = output or source.parent
    if not dry_run and not folder.is_dir():
        raise QuantizationError(f"{folder}: no such folder")
    if not dry_run and imatrix is None:
        # Before the first level is made, which can take minutes.
        refuse_without_imatrix(levels, f"make one with: {COLLECT_COMMAND.format(source=source)}")
    model = _TYPE_AT_THE_END.sub("", source.stem)
    for each in levels:
        target = folder / each.file_for(model)
        made = _predict(source, target, each, imatrix) if dry_run else _quantize(source, target, each, imatrix, threads)
        if as_json:
            click.echo(json.dumps(made))
            continue
        note = f"  {made['n_fallbacks']} tensors in a larger type" if made["n_fallbacks"] else ""
        share = made["n_bytes"] / made["source_bytes"]
        click.echo(f"{made['path']}  {made['level']}  {made['n_bytes'] / 1e6:.1f} MB  {share:.0%} of the source{note}")


def _predict(source: Path, target: Path, level: Level, imatrix: Path | None) -> dict[str, Any]:
    return {"path": str(target), **asdict(predict_size(source, level, imatrix=imatrix)), "dry_run": True}


def _quantize(source: Path, target: Path, level: Level, imatrix: Path | None, threads: int | None) -> dict[str, Any]:
    with ProgressLine() as line, line.step(f"quantizing to {level.name}") as progress:
        made = quantize(source, target, level, imatrix=imatrix, threads=threads, on_progress=progress)
    return {**asdict(made), "path": str(made.path), "dry_run": False}
