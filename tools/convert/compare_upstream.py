"""Compare our conversion with llama.cpp's ``convert_hf_to_gguf.py`` of the pinned version (a developer's command).

``python -m tools.convert.compare_upstream SCRIPT --python PYTHON --vocabulary VOCAB.gguf``

SCRIPT lies in ``vendor/llama.cpp`` of llama-cpp-python's source archive; PYTHON is an interpreter with torch,
transformers and sentencepiece; VOCAB.gguf is a GGUF with Qwen2's vocabulary, which llama.cpp keeps among its
``models/ggml-vocab-*``: upstream knows pre-tokenizers by vocabulary, so a small one will not do.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import gguf
import tokenizers

from archroute_edge.engine.gguf_header import GGUFHeader, MetadataArray, read_header
from archroute_edge.errors import ArchRouteError
from tests.convert.checkpoints import Shape, change_json, write_checkpoint
from tests.convert.qwen_tokenizer import add_qwen_tokens, qwen_tokenizer
from tools.convert.conversion import OutType, convert_checkpoint

EXPECTED_KEYS = ("qwen2.", "qwen3.", "tokenizer.")
EXPECTED_GENERAL = ("general.architecture", "general.file_type", "general.quantization_version")
FIRST_ADDED = "<|endoftext|>"

# GGUF value types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_STRING = 8
_ELEMENT_BYTES = {4: 4, 5: 4, 6: 4, 7: 1}
_LARGEST_ARRAY = 64 << 20


@dataclass
class Comparison:
    """Of one pair of files. ``other_keys`` are general keys that differ, which they may."""

    n_tensors: int = 0
    n_keys: int = 0
    differences: list[str] = field(default_factory=list)
    other_keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A checkpoint to convert both ways; ``settings`` are changes to its tokenizer_config.json."""

    name: str
    shape: Shape
    outtype: OutType
    settings: dict[str, Any] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    """Checkpoints with every combination that takes another path: architecture, head, files, source and target type."""
    types = ("float16", "bfloat16", "float32")
    outtypes: tuple[OutType, ...] = ("f32", "f16", "bf16")
    for model_type, head_dim in (("qwen2", None), ("qwen3", 64)):
        for tied, n_shards in ((True, 1), (True, 3), (False, 1), (False, 3)):
            for dtype, outtype in product(types, outtypes):
                if dtype != types[n_shards % 3] and model_type != "qwen2":
                    continue
                shape = Shape(
                    model_type=model_type, hidden_size=64, intermediate_size=128, head_dim=head_dim,
                    tie_word_embeddings=tied, n_shards=n_shards, dtype=dtype, vocab_padding=271,
                )  # fmt: skip
                yield Case(f"{model_type}, {'tied' if tied else 'untied'}, {n_shards} file(s), {dtype}", shape, outtype)
    plain = Shape(dtype="float16", vocab_padding=271)
    yarn = {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "beta_slow": 2.0}}
    linear = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    new_style = {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}
    for name, shape in (
        ("no tokenizer.json", replace(plain, tokenizer_files="vocab.json")),
        ("chat_template.jinja", replace(plain, chat_template_in="chat_template.jinja")),
        ("chat_template.json", replace(plain, chat_template_in="chat_template.json")),
        ("no vocabulary padding", replace(plain, vocab_padding=0)),
        ("yarn", replace(plain, extra_config=yarn)),
        ("linear rotary scaling", replace(plain, extra_config=linear)),
        ("rope_parameters", replace(plain, extra_config=new_style)),
        ("head_dim in Qwen2", replace(plain, head_dim=32)),
    ):
        yield Case(name, shape, "f16")
    templates = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    for name, settings in (
        ("several templates", {"chat_template": templates}),
        ("no template", {"chat_template": None}),
        ("an ordinary token as the end of text", {"eos_token": "<tool_call>"}),
        ("more special tokens", {"additional_special_tokens": ["<tool_call>"]}),
        ("end of text in config.json only", {"eos_token": None}),
        ("bos to be added", {"bos_token": "<|endoftext|>", "add_bos_token": True}),
        ("an unknown token", {"unk_token": "<|endoftext|>"}),
        ("no list of added tokens", {"added_tokens_decoder": None}),
    ):
        yield Case(name, plain, "f16", settings)


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


def qwen2_tokenizer(vocabulary: Path) -> tokenizers.Tokenizer:
    """Rebuild Qwen2.5's tokenizer from a GGUF: its ordinary tokens and merges, and the 22 added ones."""
    fields = gguf.GGUFReader(vocabulary).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    ordinary = {token: token_id for token_id, token in enumerate(tokens[: tokens.index(FIRST_ADDED)])}
    return add_qwen_tokens(qwen_tokenizer(tokenizers.models.BPE(ordinary, merges)))


@click.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--python", "interpreter", default=sys.executable, show_default=True, help="Interpreter that runs SCRIPT.")
@click.option("--vocabulary", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--only", default="", help="Compare the cases whose name holds this text.")
def main(script: Path, interpreter: str, vocabulary: Path, only: str) -> None:
    """Compare our conversion with upstream's on random checkpoints with Qwen2's vocabulary."""
    tokenizer = qwen2_tokenizer(vocabulary)
    failed = 0
    for case in cases():
        if only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            result = _run_case(Path(scratch), case, tokenizer, script, interpreter)
        verdict = "equal" if not result.differences else "DIFFERENT: " + "; ".join(result.differences[:8])
        click.echo(f"{case.name} -> {case.outtype}: {result.n_tensors} tensors, {result.n_keys} keys, {verdict}")
        if result.other_keys:
            click.echo(f"    general keys that differ: {', '.join(result.other_keys)}")
        failed += bool(result.differences)
    click.echo("all equal" if not failed else f"{failed} comparisons differ")
    sys.exit(1 if failed else 0)


def _run_case(scratch: Path, case: Case, tokenizer: tokenizers.Tokenizer, script: Path, interpreter: str) -> Comparison:
    folder, ours, theirs = scratch / "checkpoint", scratch / "ours.gguf", scratch / "theirs.gguf"
    write_checkpoint(folder, case.shape, tokenizer=tokenizer)
    change_json(folder / "tokenizer_config.json", **case.settings)
    try:
        convert_checkpoint(folder, ours, case.outtype)
    except ArchRouteError as exc:
        return Comparison(differences=[f"our conversion failed: {exc}"])
    command = [interpreter, str(script), str(folder), "--outfile", str(theirs), "--outtype", case.outtype]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        return Comparison(differences=[f"upstream failed: {done.stderr.strip().splitlines()[-1]}"])
    return compare(ours, theirs)


if __name__ == "__main__":
    main()
