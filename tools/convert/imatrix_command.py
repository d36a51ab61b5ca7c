"""``python -m tools.convert imatrix``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from archroute_edge.cli.process import shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.engine import LoadedModel
from archroute_edge.errors import ImatrixError
from archroute_edge.models import AUTO
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.quantize import Imatrix
from tools.convert.imatrix_collection import calibration_sequences, collect
from tools.convert.imatrix_file import write_imatrix


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The file to write.")
@click.option("--calibration", type=click.Path(path_type=Path), metavar="FILE",
              help='What to read: JSON lines with "routes" and "messages" (.jsonl), or plain text. '
              "Default: the routing prompts that come with this command.")  # fmt: skip
@click.option("--prompt-format", type=click.Choice([AUTO, *PROMPT_FORMATS]), default=AUTO, show_default=True,
              help="How routing prompts are written; auto is what the model was trained on.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads for evaluation. Default: physical cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def imatrix(
    model: Path, output: Path, calibration: Path | None, prompt_format: str, threads: int | None, as_json: bool
) -> None:
    """Collect an importance matrix from a model.

    MODEL is a GGUF, best of all the F16 or BF16 one that is to be quantized. The result is in llama.cpp's own format.
    """
    if not output.parent.is_dir():
        raise ImatrixError(f"{output.parent}: no such folder, so {output.name} cannot be written there")
    if output.is_dir():
        raise ImatrixError(f"{output}: is a folder; name the file to write")
    found = collect_with_progress(model, calibration, prompt_format=prompt_format, threads=threads)
    write_imatrix(output, found)
    n_tokens = int(max(entry.counts.max() for entry in found.entries.values()))
    report = {"path": str(output), "n_matrices": len(found.entries), "n_tokens": n_tokens, "datasets": list(found.datasets)}
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(shown(f"{output}  {len(found.entries)} matrices over {n_tokens} tokens of {', '.join(found.datasets)}"))


def collect_with_progress(
    model: Path, calibration: Path | None, *, prompt_format: str = AUTO, threads: int | None = None
) -> Imatrix:
    """Collect from the GGUF ``model``, with a line on stderr."""
    with LoadedModel(model) as loaded, ProgressLine() as line, line.step("collecting the importance matrix") as progress:
        dataset, sequences = calibration_sequences(loaded, calibration, prompt_format)
        return collect(loaded, sequences, dataset, threads=threads, on_progress=progress)
