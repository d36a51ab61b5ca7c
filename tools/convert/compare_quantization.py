"""Compare importance matrices and quantized files with those of llama.cpp's own tools, in the pinned version.

``python -m tools.convert.compare_quantization MODEL.gguf --text FILE --tools DIR``

DIR holds ``llama-imatrix`` and ``llama-quantize``, built from ``vendor/llama.cpp`` of llama-cpp-python's source archive.
MODEL is an F32, F16 or BF16 GGUF. FILE is a text of two chunks (1,024 tokens) or more.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from archroute_edge.engine import GGUFHeader, read_header
from archroute_edge.models import LEVELS, Level, level_named
from archroute_edge.quantize import Imatrix, quantize, read_imatrix
from tools.convert.imatrix_command import collect_with_progress
from tools.convert.imatrix_file import write_imatrix


def differing_tensors(ours: Path, theirs: Path) -> list[str]:
    """Names of tensors that only one file has, or whose type, shape or bytes differ."""
    one, two = read_header(ours), read_header(theirs)
    found = sorted(one.tensors.keys() ^ two.tensors.keys())
    for name in sorted(one.tensors.keys() & two.tensors.keys()):
        left, right = one.tensors[name], two.tensors[name]
        if (left.type_number, left.shape) != (right.type_number, right.shape) or _data(one, name) != _data(two, name):
            found.append(name)
    return found


def _data(header: GGUFHeader, name: str) -> bytes:
    tensor = header.tensors[name]
    with header.path.open("rb") as file:
        file.seek(header.data_offset + tensor.offset)
        return file.read(tensor.n_bytes)


def largest_difference(ours: Imatrix, theirs: Imatrix) -> float:
    """The largest difference of a channel's mean square, relative to its matrix's largest; infinite if names differ."""
    if ours.entries.keys() != theirs.entries.keys():
        return float("inf")
    return max(
        float(np.abs(entry.values - theirs.entries[name].values).max() / theirs.entries[name].values.max())
        for name, entry in ours.entries.items()
    )


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Calibration text.")
@click.option(
    "--tools", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path), help="llama.cpp's tools."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--level", "levels", multiple=True, default=tuple(LEVELS), help="Levels to compare.  [default: all]")
def main(model: Path, text: Path, tools: Path, threads: int, levels: tuple[str, ...]) -> None:
    """Collect an importance matrix both ways, and quantize MODEL to each level both ways, without one and with one."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
        write_imatrix(ours, collect_with_progress(model, text, threads=threads))
        command: list[object] = [
            tools / "llama-imatrix",
            "-m",
            model,
            "-f",
            text,
            "-o",
            theirs,
            "-c",
            512,
            "-ngl",
            0,
            "--no-ppl",
        ]
        _run([*command, "-t", threads])
        one, two = read_imatrix(ours), read_imatrix(theirs)
        same_counts = all(
            entry.counts.tolist() == two.entries[name].counts.tolist()
            for name, entry in one.entries.items()
            if name in two.entries
        )
        difference = largest_difference(one, two)
        failed += not (same_counts and difference < 1e-3)
        click.echo(
            f"importance matrix: {len(one.entries)} matrices here, {len(two.entries)} there, {two.chunk_count} chunks, "
            f"counts {'equal' if same_counts else 'DIFFERENT'}, largest difference {difference:.2g} of a matrix's largest"
        )
        for level in map(level_named, levels):
            for imatrix in (None, ours, theirs):
                if imatrix is None and level.needs_imatrix:
                    continue
                differing = _both_ways(scratch, model, level, imatrix, tools, threads)
                which = "without a matrix" if imatrix is None else f"with {'our' if imatrix == ours else 'their'} matrix"
                click.echo(f"{level.name} {which}: {'equal' if not differing else 'DIFFERENT: ' + ', '.join(differing[:6])}")
                failed += bool(differing)
    click.echo("all equal" if not failed else f"{failed} comparisons differ")
    sys.exit(1 if failed else 0)


def _both_ways(scratch: Path, model: Path, level: Level, imatrix: Path | None, tools: Path, threads: int) -> list[str]:
    ours, theirs = scratch / "our-model.gguf", scratch / "their-model.gguf"
    quantize(model, ours, level, imatrix=imatrix, threads=threads)
    option = ["--imatrix", imatrix] if imatrix else []
    _run([tools / "llama-quantize", *option, model, theirs, level.name, threads])
    return differing_tensors(ours, theirs)


def _run(command: list[object]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise click.ClickException(f"{command[0]} failed ({done.returncode}): {' '.join(last)}")


if __name__ == "__main__":
    main()
