"""``archroute quantize``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from archroute_edge.cli.help import examples, option
from archroute_edge.cli.options import json_option, shown_size
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import QuantizationError
from archroute_edge.models import Level, level_named
from archroute_edge.quantize import COLLECT_COMMAND, predict_size, quantize, refuse_without_imatrix

_TYPE_AT_THE_END: Final = re.compile(r"[-.](F32|F16|BF16)$", re.IGNORECASE)


@click.command(
    name="quantize",
    epilog=examples(
        "archroute quantize Arch-Router-1.5B-F16.gguf Q4_K_M Q8_0",
        "archroute quantize Arch-Router-1.5B-F16.gguf Q4_K_M --dry-run",
    ),
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("level", nargs=-1, required=True)
@option("--imatrix", type=click.Path(path_type=Path), metavar="FILE",
              help="Importance matrix of the model, in llama.cpp's GGUF format.")  # fmt: skip
@option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write to, created if missing.  [default: that of SOURCE]",
)
@option("--dry-run", is_flag=True, help="Write nothing; print the sizes of the files.")
@option("--threads", metavar="N", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
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
    """Quantize a GGUF to one or more levels.

    SOURCE is an F32, F16 or BF16 GGUF. Each LEVEL, such as Q4_K_M, makes one file, which appears once it is complete. The
    error for an unknown LEVEL lists all levels.
    """
    levels = list(dict.fromkeys(level_named(name) for name in level))
    folder = output or source.parent
    if not dry_run and imatrix is None:
        # Before the first level is made, which can take minutes.
        refuse_without_imatrix(levels, f"make one with: {COLLECT_COMMAND.format(source=source)}")
    if not dry_run and not folder.is_dir():
        # A source that cannot be quantized leaves no folder behind.
        predict_size(source, levels[0], imatrix=imatrix)
        _make_folder(folder)
    model = _TYPE_AT_THE_END.sub("", source.stem)
    for each in levels:
        target = folder / each.file_for(model)
        made = _predict(source, target, each, imatrix) if dry_run else _quantize(source, target, each, imatrix, threads)
        if as_json:
            click.echo(json.dumps(made))
            continue
        note = f"  {made['n_fallbacks']} tensors in a larger type" if made["n_fallbacks"] else ""
        share = made["n_bytes"] / made["source_bytes"]
        click.echo(f"{made['path']}  {made['level']}  {shown_size(made['n_bytes'])}  {share:.0%} of the source{note}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        reason = "a file, not a folder" if folder.exists() else f"the folder cannot be made ({exc.strerror or exc})"
        raise QuantizationError(f"{folder}: {reason}; name another with -o") from exc


def _predict(source: Path, target: Path, level: Level, imatrix: Path | None) -> dict[str, Any]:
    return {"path": str(target), **asdict(predict_size(source, level, imatrix=imatrix)), "dry_run": True}


def _quantize(source: Path, target: Path, level: Level, imatrix: Path | None, threads: int | None) -> dict[str, Any]:
    with ProgressLine() as line, line.step(f"quantizing to {level.name}") as progress:
        made = quantize(source, target, level, imatrix=imatrix, threads=threads, on_progress=progress)
    return {**asdict(made), "path": str(made.path), "dry_run": False}
