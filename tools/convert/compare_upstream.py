"""Compare our conversion with llama.cpp's ``convert_hf_to_gguf.py``, in the pinned version.

``python -m tools.convert.compare_upstream SCRIPT --python PYTHON --vocabulary VOCAB.gguf --encoder FOLDER``

SCRIPT: in ``vendor/llama.cpp`` of llama-cpp-python's source archive.
PYTHON: an interpreter with torch, transformers and sentencepiece.
VOCAB.gguf: a GGUF with Qwen2's vocabulary, among llama.cpp's ``models/ggml-vocab-*``. Upstream recognises pre-tokenizers by
their vocabulary, so a small one will not do.
FOLDER: a checkpoint of sentence-transformers with uncased BERT's vocabulary (``training/mini/published.py`` fetches one) or
XLM-RoBERTa's. It is compared, and so are random checkpoints with its vocabulary.

Without one of the last two options, its cases are left out.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import tokenizers

from archroute_edge.engine import GGUFHeader, MetadataArray, read_header
from archroute_edge.errors import ArchRouteError
from tools.convert.conversion import convert_checkpoint
from tools.convert.upstream_cases import Case, as_xlm_roberta, cases, encoder_cases, qwen2_tokenizer
from tools.fixtures.bert_checkpoints import BertShape, write_bert
from tools.fixtures.checkpoints import change_json, write_checkpoint

EXPECTED_KEYS = ("qwen2.", "qwen3.", "bert.", "tokenizer.")
EXPECTED_GENERAL = ("general.architecture", "general.file_type", "general.quantization_version")

# GGUF value types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_STRING = 8
_ELEMENT_BYTES = {0: 1, 1: 1, 4: 4, 5: 4, 6: 4, 7: 1}
_LARGEST_ARRAY = 64 << 20


@dataclass
class Comparison:
    """Of one pair of files. ``other_keys`` are general keys that differ, which they may."""

    n_tensors: int = 0
    n_keys: int = 0
    differences: list[str] = field(default_factory=list)
    other_keys: list[str] = field(default_factory=list)


def compare(ours: Path, theirs: Path) -> Comparison:
    """Every tensor bit for bit, every key of the architecture and of the tokenizer, and three general ones."""
    mine, other = read_header(ours), read_header(theirs)
    result = Comparison(n_tensors=len(other.tensors))
    for name in sorted(mine.tensors.keys() | other.tensors.keys()):
        one, two = mine.tensors.get(name), other.tensors.get(name)
        if one is None or two is None:
            result.differences.append(f"tensor {name} only {'upstream' if one is None else 'here'}")
        elif (one.type_number, one.shape) != (two.type_number, two.shape):
            result.differences.append(f"tensor {name}: other type or shape")
        elif _bytes_at(mine, mine.data_offset + one.offset, one.n_bytes) != _bytes_at(
            other, other.data_offset + two.offset, two.n_bytes
        ):
            result.differences.append(f"tensor {name}: other bits")
    for key in sorted(mine.metadata.keys() | other.metadata.keys()):
        binding = key.startswith(EXPECTED_KEYS) or key in EXPECTED_GENERAL
        result.n_keys += binding
        if _value(mine, key) != _value(other, key):
            (result.differences if binding else result.other_keys).append(key)
    return result


def _value(header: GGUFHeader, key: str) -> Any:
    """A value with its type; of an array its length and its bytes."""
    value = header.metadata.get(key)
    if not isinstance(value, MetadataArray):
        return type(value), value
    n_bytes = _LARGEST_ARRAY if value.element_type == _STRING else value.length * _ELEMENT_BYTES[value.element_type]
    data = _bytes_at(header, value.offset, n_bytes)
    if value.element_type == _STRING:
        end = 0
        for _ in range(value.length):
            end += 8 + struct.unpack_from("<Q", data, end)[0]
        data = data[:end]
    return value.element_type, value.length, data


def _bytes_at(header: GGUFHeader, offset: int, n_bytes: int) -> bytes:
    with header.path.open("rb") as file:
        file.seek(offset)
        return file.read(n_bytes)


@click.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--python", "interpreter", default=sys.executable, show_default=True, help="Interpreter that runs SCRIPT.")
@click.option("--vocabulary", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="With Qwen2's vocabulary.")
@click.option("--encoder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a sentence encoder.")
@click.option("--only", default="", help="Compare the cases whose name holds this text.")
def main(script: Path, interpreter: str, vocabulary: Path | None, encoder: Path | None, only: str) -> None:
    """Compare our conversion with upstream's: random checkpoints with published vocabularies, and a published encoder."""
    wanted = []
    if vocabulary is not None:
        qwen = qwen2_tokenizer(vocabulary)
        wanted += [(case, qwen) for case in cases()]
    if encoder is not None:
        own = tokenizers.Tokenizer.from_file(str(encoder / "tokenizer.json"))
        wanted += [(case, own) for case in encoder_cases(encoder)]
    if not wanted:
        raise click.UsageError("name a vocabulary, an encoder or both")
    failed = 0
    for case, tokenizer in wanted:
        if only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            result = _run_case(Path(scratch), case, tokenizer, script, interpreter)
        verdict = "equal" if not result.differences else "DIFFERENT: " + "; ".join(result.differences[:8])
        click.echo(f"{case.name} -> {case.outtype}: {result.n_tensors} tensors, {result.n_keys} keys, {verdict}")
        if result.other_keys:
            click.echo(f"    general keys that differ: {', '.join(result.other_keys)}"[:400])
        failed += bool(result.differences)
    click.echo("all equal" if not failed else f"{failed} comparisons differ")
    sys.exit(1 if failed else 0)


def _run_case(scratch: Path, case: Case, tokenizer: tokenizers.Tokenizer, script: Path, interpreter: str) -> Comparison:
    folder, ours, theirs = scratch / "checkpoint", scratch / "ours.gguf", scratch / "theirs.gguf"
    if isinstance(case.shape, Path):
        folder = case.shape
    elif isinstance(case.shape, BertShape):
        write_bert(folder, case.shape, tokenizer=tokenizer)
    else:
        write_checkpoint(folder, case.shape, tokenizer=tokenizer)
    if case.settings:
        change_json(folder / "tokenizer_config.json", **case.settings)
    try:
        convert_checkpoint(folder, ours, case.outtype, vocabulary_only=case.vocabulary_only)
    except ArchRouteError as exc:
        return Comparison(differences=[f"our conversion failed: {exc}"])
    if isinstance(tokenizer.model, tokenizers.models.Unigram):
        folder = as_xlm_roberta(folder, scratch / "twin")
    command = [interpreter, str(script), str(folder), "--outfile", str(theirs), "--outtype", case.outtype]
    command += ["--vocab-only"] if case.vocabulary_only else []
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        return Comparison(differences=[f"upstream failed: {done.stderr.strip().splitlines()[-1]}"])
    return compare(ours, theirs)


if __name__ == "__main__":
    main()
