"""What cannot be converted is refused in one line, and leaves no file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archroute_edge.errors import CheckpointError
from tools.convert import safetensors_files
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.checkpoints import QWEN2, QWEN3, WrittenCheckpoint, change_json, sharded, write_checkpoint, write_tensors

Damage = Callable[[WrittenCheckpoint], object]


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def set_header(path: Path, header: object, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def change_header(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(checkpoint: WrittenCheckpoint) -> None:
        path = checkpoint.folder / "model.safetensors"
        header, data = header_of(path)
        change(header)
        set_header(path, header, data)

    return damage


def write_raw(raw: bytes) -> Damage:
    return lambda checkpoint: (checkpoint.folder / "model.safetensors").write_bytes(raw)


def cut(n_bytes: int) -> Damage:
    def damage(checkpoint: WrittenCheckpoint) -> None:
        path = checkpoint.folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-n_bytes])

    return damage


def change_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def set_config(**changes: Any) -> Damage:
    return lambda checkpoint: change_json(checkpoint.folder / "config.json", **changes)


def end_of_text(token_id: int | None) -> Damage:
    def damage(checkpoint: WrittenCheckpoint) -> None:
        change_json(checkpoint.folder / "tokenizer_config.json", eos_token=None)
        change_json(checkpoint.folder / "config.json", eos_token_id=token_id)

    return damage


def remove(name: str) -> Damage:
    return lambda checkpoint: (checkpoint.folder / name).unlink()


def rewrite(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(checkpoint: WrittenCheckpoint) -> None:
        tensors: dict[str, Any] = {name: values.view(np.uint32) for name, values in checkpoint.weights.items()}
        change(tensors)
        write_tensors(checkpoint.folder, tensors, "float32")

    return damage


def change_tokenizer(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(checkpoint: WrittenCheckpoint) -> None:
        path = checkpoint.folder / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return damage


NORM = "model.norm.weight"
FIRST = "model.embed_tokens.weight"


def put(name: str, value: float) -> Callable[[dict[str, Any]], object]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].reshape(-1)[3] = np.float32(value).view(np.uint32)

    return change


REFUSED: dict[str, tuple[Damage, str]] = {
    "truncated data": (cut(5), "truncated or damaged"),
    "empty file": (write_raw(b""), "too few"),
    "header longer than the file": (write_raw(struct.pack("<Q", 1 << 62) + b"{}"), "claims a header of"),
    "header is no JSON": (write_raw(struct.pack("<Q", 4) + b"\xff\xfe{}"), "not valid JSON"),
    "header nested without end": (write_raw(struct.pack("<Q", 200_000) + b"[" * 200_000), "not valid JSON"),
    "header is a list": (write_raw(struct.pack("<Q", 2) + b"[]"), "not a JSON object"),
    "a size that does not fit": (change_header(lambda h: h[NORM].update(shape=[65])), "takes 260 bytes"),
    "a negative size": (change_header(lambda h: h[NORM].update(shape=[-64])), "malformed"),
    "a size that is true": (change_header(lambda h: h[NORM].update(shape=[True])), "malformed"),
    "an unknown dtype": (change_header(lambda h: h[NORM].update(dtype="F13")), "unknown dtype 'F13'"),
    "an entry that is no object": (change_header(lambda h: h.update({NORM: 3})), "malformed"),
    "overlapping tensors": (
        change_header(lambda h: h["model.layers.0.input_layernorm.weight"].update(data_offsets=h[NORM]["data_offsets"])),
        "overlaps or leaves a gap",
    ),
    "a tensor of integers": (change_header(lambda h: h[NORM].update(dtype="I32")), "is I32"),
    "a missing tensor": (rewrite(lambda t: t.pop("model.layers.1.mlp.up_proj.weight")), "up_proj.weight' is missing"),
    "a tensor too many": (rewrite(lambda t: t.update(surplus=t[NORM])), "'surplus' is none that qwen2 has"),
    "a tensor of another shape": (rewrite(lambda t: t.update({NORM: t[NORM][:-1]})), "config.json implies [64]"),
    "a transposed tensor": (rewrite(lambda t: t.update({FIRST: t[FIRST].T})), "has shape [64,"),
    "NaN": (rewrite(put(NORM, float("nan"))), "NaN or infinity"),
    "infinity": (rewrite(put(FIRST, float("-inf"))), "NaN or infinity"),
    "too large for f16": (rewrite(put(FIRST, 7e4)), "too large for f16"),
    "pickled weights": (
        lambda c: (c.folder / "model.safetensors").rename(c.folder / "pytorch_model.bin"),
        "pickled weights only",
    ),
    "no weights": (remove("model.safetensors"), "neither model.safetensors nor"),
    "no config.json": (remove("config.json"), "config.json: no such file"),
    "config.json is no JSON": (
        lambda c: (c.folder / "config.json").write_text("{,}"),
        "config.json:1: not valid JSON",
    ),
    "another architecture": (
        set_config(architectures=["LlamaForCausalLM"]),
        "Qwen3ForCausalLM, BertModel can",
    ),
    "no architecture": (set_config(architectures=None), "architecture None"),
    "no hidden_size": (set_config(hidden_size=None), "has no hidden_size"),
    "layers as a text": (set_config(num_hidden_layers="2"), "positive whole number"),
    "layers without end": (set_config(num_hidden_layers=10**9), "512 at most"),
    "heads that cannot be shared": (set_config(num_key_value_heads=3), "cannot share"),
    "a sliding window": (set_config(use_sliding_window=True), "use_sliding_window is True"),
    "another activation": (set_config(hidden_act="gelu"), "computes 'silu' only"),
    "weights quantized already": (set_config(quantization_config={"bits": 4}), "quantized already"),
    "a negative epsilon": (set_config(rms_norm_eps=-1.0), "positive number"),
    "an epsilon beyond all floats": (set_config(rms_norm_eps=10**400), "positive number"),
    "an epsilon beyond 32 bits": (set_config(rms_norm_eps=1e300), "rms_norm_eps is 1e+300, a positive number"),
    "a context beyond 32 bits": (set_config(max_position_embeddings=1 << 32), "a positive whole number below 2^32"),
    "a context of a thousand digits": (set_config(max_position_embeddings=10**1000), "a positive whole number below 2^32"),
    "an unknown rotary scaling": (set_config(rope_scaling={"rope_type": "longrope", "factor": 2.0}), "'longrope'"),
    "an untied head that is not there": (set_config(tie_word_embeddings=False), "is tie_word_embeddings missing"),
    "a tied head that differs": (
        rewrite(lambda t: t.update({"lm_head.weight": t[FIRST] ^ np.uint32(1)})),
        "differs from the embedding",
    ),
    "a vocabulary larger than the embedding": (
        change_tokenizer(lambda t: t["added_tokens"].append({**t["added_tokens"][0], "id": 9999, "content": "<new>"})),
        "has the token '<new>' at 9999",
    ),
    "no tokenizer": (
        lambda c: [remove(name)(c) for name in ("tokenizer.json", "vocab.json")],
        "the tokenizer is needed",
    ),
    "a tokenizer of an unknown kind": (
        change_tokenizer(lambda t: t["model"].update(type="WordLevel")),
        "its tokenizer is none of BPE, WordPiece, Unigram",
    ),
    "a unigram tokenizer": (
        change_tokenizer(lambda t: t.update(model={"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]})),
        "a Unigram tokenizer, which qwen2 is not converted with",
    ),
    "merges of unknown tokens": (
        change_tokenizer(lambda t: t["model"]["merges"].append(["zq", "qz"])),
        "not a usable tokenizer",
    ),
    "merges of three": (change_tokenizer(lambda t: t["model"]["merges"].append(["a", "b", "c"])), "no pair of tokens"),
    "two tokens of one id": (change_tokenizer(lambda t: t["model"]["vocab"].update({"zz~": 5})), "share the id 5"),
    "merges ignored for whole words": (change_tokenizer(lambda t: t["model"].update(ignore_merges=True)), "ignore_merges"),
    "another pre-tokenizer": (
        change_tokenizer(lambda t: t.update(pre_tokenizer={"type": "Whitespace"})),
        "cuts text in none of the ways known",
    ),
    "another normaliser": (change_tokenizer(lambda t: t.update(normalizer={"type": "Lowercase"})), "normaliser changes text"),
    "a post-processor that adds tokens": (
        change_tokenizer(lambda t: t.update(post_processor={"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]})),
        "'BertProcessing' cannot be converted",
    ),
    "an end-of-text token past the vocabulary": (end_of_text(10**6), "none of the"),
    "no end-of-text token": (end_of_text(None), "end-of-text token"),
    "a chat template of another kind": (
        lambda c: change_json(c.folder / "tokenizer_config.json", chat_template=7),
        "neither a text nor",
    ),
    "a chat template with half a character": (
        lambda c: change_text(c.folder / "tokenizer_config.json", '"chat_template": "', '"chat_template": "{{ x }}\\ud800'),
        r"not valid Unicode ('{{ x }}\ud800')",
    ),
    "a licence with half a character": (
        lambda c: (c.folder / "README.md").write_text('---\nlicense: "\\uD800"\n---\n'),
        r"not valid Unicode ('\ud800')",
    ),
    "added tokens that disagree": (
        lambda c: change_json(c.folder / "tokenizer_config.json", added_tokens_decoder={"553": {"content": "<other>"}}),
        "'<other>' in tokenizer_config.json",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_and_no_file(tmp_path: Path, name: str) -> None:
    """The message names a file of the checkpoint; neither the target nor anything partial is left."""
    damage, message = REFUSED[name]
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    damage(checkpoint)
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(checkpoint.folder, output / "model.gguf", "f16")
    assert message in str(caught.value)
    assert str(checkpoint.folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(output.iterdir()) == []


SHARD_DAMAGE: dict[str, tuple[Damage, str]] = {
    "a missing shard": (remove("model-00002-of-00003.safetensors"), "model-00002-of-00003.safetensors: no such file"),
    "no index": (remove("model.safetensors.index.json"), "has shards but no"),
    "an empty index": (lambda c: change_json(c.folder / "model.safetensors.index.json", weight_map={}), "no weight_map"),
    "an index that leads out of the folder": (
        lambda c: change_json(c.folder / "model.safetensors.index.json", weight_map={"a": "../secret.safetensors"}),
        "no safetensors file of this folder",
    ),
    "a shard of another model": (
        lambda c: change_json(c.folder / "model.safetensors.index.json", weight_map={"a": "model-00001-of-00003.safetensors"}),
        "does not place there",
    ),
}


@pytest.mark.parametrize("name", SHARD_DAMAGE)
def test_incomplete_shards(tmp_path: Path, name: str) -> None:
    """The index and the shards have to agree before anything is read."""
    damage, message = SHARD_DAMAGE[name]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", sharded(QWEN2))
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_bias_that_qwen3_does_not_have(tmp_path: Path) -> None:
    """llama.cpp's graph would leave it out."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", replace(QWEN3, extra_config={"attention_bias": True}))
    with pytest.raises(CheckpointError, match="attention_bias is True"):
        convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf")


def test_a_checkpoint_that_is_no_folder(tmp_path: Path) -> None:
    """A file, or nothing."""
    (tmp_path / "file").touch()
    for name, message in (("file", "is a file"), ("nothing", "no such folder")):
        with pytest.raises(CheckpointError, match=message):
            convert_checkpoint(tmp_path / name, tmp_path / "model.gguf")


def test_source_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """Another process truncates the file after its header was checked."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    source = checkpoint.folder / "model.safetensors"
    tensor = safetensors_files.read_index(source)[NORM]
    source.write_bytes(source.read_bytes()[: tensor.offset + 8])
    with pytest.raises(CheckpointError, match="ends inside tensor"):
        list(tensor.read())
