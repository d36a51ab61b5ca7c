"""The gain of an importance matrix: mean KL divergence of quantized models from their source, without one and with one.

    python -m tools.measure.imatrix_gain models/tiny-Q8_0.gguf

SOURCE is an F16, BF16 or F32 GGUF, or a quantized one, which is taken as its F16 (the bundled model exists only as Q8_0). The
matrix is collected over the shipped calibration prompts. The divergences are taken over the shipped verification conversations,
each with every verification table (a conversation of another table belongs on no route); they share neither tables nor
conversations with the calibration. A level that cannot be made without a matrix is made with one in which every channel weighs
the same. `gain` is the decrease of the mean divergence with the matrix; its standard error, computed over prompts, tells a gain
from chance.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
import llama_cpp
import numpy as np
import numpy.typing as npt

from archroute_edge.engine import read_header
from archroute_edge.models import level_named
from archroute_edge.quantize import Imatrix, Importance, quantize, quantized_types
from archroute_edge.routes import OTHER
from tools.convert.distribution_comparison import Observation, compare_distributions, divergences, observe
from tools.convert.imatrix_command import collect_with_progress
from tools.convert.imatrix_file import write_imatrix
from tools.convert.routing_prompts import VERIFICATION, RoutingCase, shipped_cases


def flattened(imatrix: Imatrix) -> Imatrix:
    """The same matrices with every channel as important as any other."""
    entries = {
        name: Importance(np.ones_like(entry.sums), np.ones_like(entry.counts)) for name, entry in imatrix.entries.items()
    }
    return Imatrix(entries, ("flat",), imatrix.chunk_count, imatrix.chunk_size)


def crossed(cases: list[RoutingCase]) -> list[RoutingCase]:
    """Each conversation with each table, so that there are enough positions for a mean."""
    tables = list(dict.fromkeys(case.table for case in cases))
    return [RoutingCase(table, case.turns, case.route if table == case.table else OTHER) for table in tables for case in cases]


def wide_source(source: Path, scratch: Path) -> Path:
    """`source` itself, or its F16 in the folder `scratch` if it is quantized."""
    if not quantized_types(read_header(source)):
        return source
    params = llama_cpp.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype = True, level_named("F16").ftype
    target = scratch / "source-F16.gguf"
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params):
        raise click.ClickException(f"{source}: llama.cpp could not make F16 of it")
    return target


def prompt_sums(model: list[Observation], reference: list[Observation]) -> npt.NDArray[np.float64]:
    """Each prompt's KL divergences added up, as a part of a prompt's mean number of positions: their mean is mean_kl."""
    found = [divergences(two.log_probabilities, one.log_probabilities) for one, two in zip(model, reference, strict=True)]
    n_positions = np.mean([len(each) for each in found])
    sums: npt.NDArray[np.float64] = np.array([each.sum() for each in found]) / n_positions
    return sums


def gain(without: npt.NDArray[np.float64], with_it: npt.NDArray[np.float64]) -> dict[str, float]:
    """The decrease of the mean divergence from one array of prompts' sums to another, and its standard error."""
    found = without - with_it
    return {"gain": float(found.mean()), "standard_error": float(found.std(ddof=1) / np.sqrt(len(found)))}


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--level", "levels", multiple=True, default=("Q2_K", "Q3_K_S", "IQ3_XXS"), show_default=True)
@click.option("--prompt-format", default="auto", show_default=True, help="How routing prompts are written.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(source: Path, levels: tuple[str, ...], prompt_format: str, threads: int) -> None:
    """Quantize SOURCE to each level without and with an importance matrix, and print the divergences, a JSON line each."""
    cases = crossed(shipped_cases(VERIFICATION))
    with tempfile.TemporaryDirectory() as scratch:
        source = wide_source(source, Path(scratch))
        reference = observe(source, cases, prompt_format=prompt_format, threads=threads)
        matrix, flat, model = (Path(scratch) / f"{name}.gguf" for name in ("imatrix", "flat", "model"))
        collected = collect_with_progress(source, None, prompt_format=prompt_format, threads=threads)
        write_imatrix(matrix, collected)
        write_imatrix(flat, flattened(collected))
        for level in map(level_named, levels):
            found = {}
            for name, imatrix in (("flat" if level.needs_imatrix else "none", flat if level.needs_imatrix else None),
                                  ("collected", matrix)):  # fmt: skip
                made = quantize(source, model, level, imatrix=imatrix, threads=threads)
                found[name] = observe(model, cases, prompt_format=prompt_format, threads=threads)
                figures = asdict(compare_distributions(found[name], reference, cases))
                click.echo(json.dumps({"level": level.name, "imatrix": name, "n_bytes": made.n_bytes, **figures}))
            without, with_matrix = (prompt_sums(each, reference) for each in found.values())
            click.echo(json.dumps({"level": level.name, **gain(without, with_matrix)}))


if __name__ == "__main__":
    main()
