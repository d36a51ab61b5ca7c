"""The command ``python -m tools.convert``."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from archroute_edge.errors import ArchRouteError
from archroute_edge.quantization import LEVELS, level_named, quantize
from tools.convert.conversion import OutType, convert_checkpoint
from tools.convert.progress import ProgressLine

PROMPT_FORMATS = ("card", "gateway", "orchestrator")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT_DIR")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="The GGUF to write; {level} in it stands for the level.")  # fmt: skip
@click.option("--outtype", type=click.Choice(["auto", "f32", "f16", "bf16"]), default="auto", show_default=True,
              help="Number type of the matrices; auto is the checkpoint's own.")  # fmt: skip
@click.option("--quantize", "levels", multiple=True, metavar="LEVEL",
              help=f"Quantize and keep only that; several with {{level}} in FILE. {', '.join(LEVELS)}.")  # fmt: skip
@click.option("--name", help="Name of the model (general.name). Default: the folder's.")
@click.option("--license", "licence", help="Licence (general.license). Default: the model card's.")
@click.option("--prompt-format", type=click.Choice(PROMPT_FORMATS),
              help="The router prompt the model was trained on (archroute.prompt_format).")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads for quantizing. Default: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(
    checkpoint: Path,
    output: Path,
    outtype: OutType,
    levels: tuple[str, ...],
    name: str | None,
    licence: str | None,
    prompt_format: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Convert a Hugging Face Qwen2 or Qwen3 checkpoint to a GGUF."""
    wanted = list(dict.fromkeys(level_named(level).name for level in levels))
    targets = {level: _target(output, level) for level in wanted}
    if len(set(targets.values())) < len(wanted):
        raise click.BadParameter("with several levels FILE needs {level} in its name", param_hint="-o")
    about = {"name": name, "licence": licence, "prompt_format": prompt_format}
    if not wanted:
        results = [_convert(checkpoint, _target(output, outtype.upper()), outtype, about)]
    else:
        results = _convert_and_quantize(checkpoint, targets, outtype, about, threads)
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            click.echo(f"{result['path']}  {result['level']}  {result['n_bytes'] / 1e6:.1f} MB")


def main() -> None:
    """Run the command; a failure is one line on stderr and exit status 2, an interrupt is status 130."""
    # Ended politely, too, it clears up behind itself.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        convert(prog_name="python -m tools.convert", standalone_mode=False)
    except click.ClickException as exc:
        click.echo(f"error: {exc.format_message()}", err=True)
        sys.exit(2)
    except ArchRouteError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; no unfinished file was left", err=True)
        sys.exit(130)


def _target(output: Path, level: str) -> Path:
    return output.with_name(output.name.replace("{level}", level))


def _convert(checkpoint: Path, target: Path, outtype: OutType, about: dict[str, str | None]) -> dict[str, Any]:
    with ProgressLine(f"converting {checkpoint.name}") as progress:
        made = convert_checkpoint(checkpoint, target, outtype, **about, on_progress=progress)
    return {"level": made.outtype.upper(), **asdict(made), "path": str(made.path)}


def _convert_and_quantize(
    checkpoint: Path, targets: dict[str, Path], outtype: OutType, about: dict[str, str | None], threads: int | None
) -> list[dict[str, Any]]:
    """Convert once into a folder beside the results, which vanishes with the conversion, and quantize from there."""
    folder = next(iter(targets.values())).parent
    if not folder.is_dir():
        raise click.BadParameter(f"{folder}: no such folder", param_hint="-o")
    results = []
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as scratch:
        base = _convert(checkpoint, Path(scratch) / "base.gguf", outtype, about)
        for level, target in targets.items():
            with ProgressLine(f"quantizing to {level}") as progress:
                made = quantize(Path(base["path"]), target, level, threads=threads, on_progress=progress)
            results.append({**base, **asdict(made), "path": str(made.path), "quantized_from": base["outtype"]})
    return results
