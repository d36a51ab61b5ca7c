"""``python -m tools.convert convert``: from a checkpoint to quantized, checked and recorded files."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from archroute_edge.cli.process import one_line, shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import QuantizationError
from archroute_edge.models import LEVELS, level_named
from archroute_edge.quantize import EMBEDDING_TYPES, quantize, read_imatrix, refuse_without_imatrix
from tools.convert.conversion import OutType, convert_checkpoint
from tools.convert.distribution_comparison import Observation
from tools.convert.hub_checkpoint import CheckpointSource, find_checkpoint
from tools.convert.imatrix_command import collect_with_progress
from tools.convert.imatrix_file import write_imatrix
from tools.convert.record import describe_imatrix, describe_source, sha256_of, tool_versions, write_record
from tools.convert.verification import verify

PROMPT_FORMATS: Final = ("card", "gateway", "orchestrator")
COLLECT: Final = "auto"
_VOCABULARY: Final = "vocabulary"
"""Stands for the level of a file without weights."""


@dataclass(frozen=True)
class Wishes:
    """The options beyond the checkpoint and the targets."""

    outtype: OutType
    about: dict[str, str | None]
    imatrix: str | None
    embedding: str | None
    threads: int | None
    check: bool
    record: bool
    vocabulary_only: bool


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="The GGUF to write; {level} in it stands for the level.")  # fmt: skip
@click.option("--outtype", type=click.Choice(["auto", "f32", "f16", "bf16"]), default="auto", show_default=True,
              help="Number type of the matrices; auto is the checkpoint's own.")  # fmt: skip
@click.option("--quantize", "levels", multiple=True, metavar="LEVEL",
              help=f"Quantize and keep only that; several with {{level}} in FILE. {', '.join(LEVELS)}.")  # fmt: skip
@click.option("--token-embedding-type", "embedding", type=click.Choice(EMBEDDING_TYPES, case_sensitive=False),
              help="Type of the token embedding if not the level's; it is half of a multilingual encoder.")  # fmt: skip
@click.option("--imatrix", metavar="FILE|auto",
              help="Importance matrix to quantize with; auto collects one from the conversion.")  # fmt: skip
@click.option("--verify", "check", is_flag=True,
              help="Compare each quantized file with the conversion, and keep it only if it is sound.")  # fmt: skip
@click.option("--vocab-only", "vocabulary_only", is_flag=True,
              help="Write the vocabulary without weights, for a remote model; CHECKPOINT may lack them, too.")  # fmt: skip
@click.option("--record", is_flag=True, help="Write a JSON file beside each result that says how it was made.")
@click.option("--name", help="Name of the model (general.name). Default: the folder's or repository's.")
@click.option("--license", "licence", help="Licence (general.license). Default: the model card's.")
@click.option("--prompt-format", type=click.Choice(PROMPT_FORMATS),
              help="The router prompt the model was trained on (archroute.prompt_format).")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads. Default: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(
    checkpoint: str,
    output: Path,
    outtype: OutType,
    levels: tuple[str, ...],
    embedding: str | None,
    imatrix: str | None,
    check: bool,
    vocabulary_only: bool,
    record: bool,
    name: str | None,
    licence: str | None,
    prompt_format: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Convert a Hugging Face Qwen2, Qwen3 or BERT checkpoint to a GGUF.

    CHECKPOINT is a folder, or OWNER/NAME on the hub, which is pulled into the hub's cache; @REVISION may follow.
    """
    wanted = list(dict.fromkeys(level_named(level).name for level in levels))
    targets = {level: _target(output, level) for level in wanted}
    if len(set(targets.values())) < len(wanted):
        raise click.BadParameter("with several levels FILE needs {level} in its name", param_hint="-o")
    if not wanted and (check or imatrix or embedding):
        raise click.UsageError(
            "--imatrix, --token-embedding-type and --verify are about quantizing; name a level with --quantize"
        )
    if wanted and vocabulary_only:
        raise click.UsageError("--vocab-only writes no weights, so there is nothing to quantize; leave out one of them")
    folder = output.parent
    if not folder.is_dir():
        raise click.BadParameter(f"{folder}: no such folder", param_hint="-o")
    if imatrix is None:
        refuse_without_imatrix(map(level_named, wanted), "add --imatrix auto to collect one, or --imatrix FILE")
    elif imatrix != COLLECT:
        read_imatrix(Path(imatrix))
    made = _VOCABULARY if vocabulary_only else outtype.upper()
    for target in targets.values() or [_target(output, made)]:
        # A check moves the file there at the end, and a move replaces a device.
        if target.exists() and not target.is_file():
            raise click.BadParameter(f"{target}: is a folder or a device; name the file to write", param_hint="-o")
    source = find_checkpoint(checkpoint)
    if source.licence:
        click.echo(one_line(f"{checkpoint} at {source.revision}; licence: {source.licence}"), err=True)
    about = {"name": name or source.name, "licence": licence, "prompt_format": prompt_format}
    wishes = Wishes(outtype, about, imatrix, embedding, threads, check, record, vocabulary_only)
    results = _quantized(source, targets, wishes) if wanted else [_converted(source, _target(output, made), wishes)]
    if as_json:
        click.echo(json.dumps(results, indent=2))
        return
    for result in results:
        click.echo(shown(f"{result['path']}  {result['level']}  {result['n_bytes'] / 1e6:.1f} MB"))
        if "verification" in result:
            click.echo(shown(f"  {result['verification']['verdict']}"))


def _target(output: Path, level: str) -> Path:
    return output.parent / output.name.replace("{level}", level)


def _convert(source: CheckpointSource, target: Path, wishes: Wishes) -> dict[str, Any]:
    with ProgressLine() as line, line.step(f"converting {source.name}") as progress:
        made = convert_checkpoint(
            source.folder,
            target,
            wishes.outtype,
            **wishes.about,
            vocabulary_only=wishes.vocabulary_only,
            on_progress=progress,
        )
    level = _VOCABULARY if wishes.vocabulary_only else made.outtype.upper()
    return {"level": level, **asdict(made), "path": str(made.path)}


def _converted(source: CheckpointSource, target: Path, wishes: Wishes) -> dict[str, Any]:
    result = _convert(source, target, wishes)
    if wishes.record:
        result["record"] = _record(target, describe_source(source), result)
    return result


def _quantized(source: CheckpointSource, targets: dict[str, Path], wishes: Wishes) -> list[dict[str, Any]]:
    """Convert once into a folder beside the results, which vanishes with the conversion, and quantize from there."""
    results = []
    about_source = describe_source(source) if wishes.record else {}
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=next(iter(targets.values())).parent) as scratch:
        base = _convert(source, Path(scratch) / "base.gguf", wishes)
        imatrix = _imatrix(Path(base["path"]), Path(scratch), wishes)
        asked_before: dict[str, list[Observation]] = {}
        for level, target in targets.items():
            result = {
                **base,
                "quantized_from": base["outtype"],
                **_quantize(base, level, target, imatrix, wishes, asked_before),
            }
            if wishes.record:
                made_with = {"imatrix": describe_imatrix(imatrix), "verification": result.get("verification")}
                result["record"] = _record(target, about_source, result, **made_with)
            results.append(result)
    return results


def _imatrix(base: Path, scratch: Path, wishes: Wishes) -> Path | None:
    if wishes.imatrix != COLLECT:
        return Path(wishes.imatrix) if wishes.imatrix else None
    target = scratch / "imatrix.gguf"
    write_imatrix(target, collect_with_progress(base, None, threads=wishes.threads))
    return target


def _quantize(
    base: dict[str, Any],
    level: str,
    target: Path,
    imatrix: Path | None,
    wishes: Wishes,
    asked_before: dict[str, list[Observation]],
) -> dict[str, Any]:
    """Quantize; with a check first into the folder of the conversion, so that nothing unsound gets the final name."""
    source = Path(base["path"])
    place = source.with_name(target.name) if wishes.check else target
    with ProgressLine() as line, line.step(f"quantizing to {level}") as progress:
        made = quantize(
            source,
            place,
            level,
            imatrix=imatrix,
            token_embedding_type=wishes.embedding,
            threads=wishes.threads,
            on_progress=progress,
        )
    result: dict[str, Any] = {**asdict(made), "path": str(target)}
    if wishes.check:
        with ProgressLine() as line:
            found = verify(
                place, source, name="the conversion", threads=wishes.threads, asked_before=asked_before, on_progress=line
            )
        if not found.passed:
            raise QuantizationError(f"{target}: {found.verdict}; it was not kept")
        place.replace(target)
        result["verification"] = found.to_dict()
    return result


def _record(target: Path, source: dict[str, Any], result: dict[str, Any], **made_with: Any) -> str:
    content = {
        "file": target.name,
        "sha256": sha256_of(target),
        "size": result["n_bytes"],
        "level": result["level"],
        "converted_to": result["outtype"],
        "source": source,
        "tools": tool_versions(),
        **made_with,
    }
    return str(write_record(target, content))
