"""Every tensor of the checkpoint arrives under its GGUF name with exactly the right bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from tests.convert import gguf_contents
from tools.convert.conversion import OutType, convert_checkpoint
from tools.fixtures.checkpoints import QWEN2, QWEN3, Shape, sharded, write_checkpoint, write_tensors

GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    stem, suffix = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{suffix}"


def words_of(values: npt.NDArray[np.float32], outtype: str) -> npt.NDArray[np.unsignedinteger]:
    """``values`` in ``outtype``, rounded to nearest with ties to even, one number at a time for bf16."""
    if outtype == "f32":
        return values.view(np.uint32)
    if outtype == "f16":
        return values.astype(np.float16).view(np.uint16)
    below = (values.view(np.uint32) >> 16).astype(np.uint32)
    neighbours = np.stack([below << 16, (below + 1) << 16]).view(np.float32).astype(np.float64)
    distance = np.abs(neighbours - values.astype(np.float64))
    up = (distance[1] < distance[0]) | ((distance[1] == distance[0]) & (below % 2 == 1))
    rounded: npt.NDArray[np.uint16] = (below + up).astype(np.uint16)
    return rounded


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(QWEN2, id="qwen2"),
        pytest.param(sharded(replace(QWEN2, tie_word_embeddings=False)), id="qwen2, untied, shards"),
        pytest.param(sharded(QWEN3), id="qwen3, shards"),
        pytest.param(replace(QWEN3, tie_word_embeddings=False), id="qwen3, untied"),
    ],
)
def test_tensors_bit_for_bit(tmp_path: Path, layout: Shape, dtype: str, outtype: OutType) -> None:
    """Names, shapes, types and bits; norms and biases stay f32 whatever is asked for."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", replace(layout, dtype=dtype))
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", outtype)
    contents = gguf_contents.read(tmp_path / "model.gguf")
    assert contents.tensors.keys() == {gguf_name(name) for name in checkpoint.weights}
    for name, values in checkpoint.weights.items():
        kept = "f32" if values.ndim == 1 else outtype
        assert contents.types[gguf_name(name)] == kept.upper(), name
        np.testing.assert_array_equal(contents.tensors[gguf_name(name)], words_of(values, kept), err_msg=name)


def test_shards_give_the_same_file_as_one(tmp_path: Path) -> None:
    """How a checkpoint is cut into files is no property of the model."""
    for name, shape in (("whole", QWEN2), ("cut", sharded(QWEN2, 5))):
        write_checkpoint(tmp_path / name, shape)
        convert_checkpoint(tmp_path / name, tmp_path / f"{name}.gguf", "f16", name="same")
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "cut.gguf").read_bytes()


@pytest.mark.parametrize(("dtype", "outtype"), [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16")])
def test_auto_keeps_the_type_of_the_checkpoint(tmp_path: Path, dtype: str, outtype: str) -> None:
    """Nothing is lost where no type is asked for."""
    write_checkpoint(tmp_path / "checkpoint", replace(QWEN2, dtype=dtype))
    made = convert_checkpoint(tmp_path / "checkpoint", tmp_path / "model.gguf")
    assert made.outtype.upper() == gguf_contents.read(tmp_path / "model.gguf").types["token_embd.weight"] == outtype
    assert set(get_args(OutType)) == {"auto", "f32", "f16", "bf16"}


def test_a_stored_head_of_a_tied_model_is_kept(tmp_path: Path) -> None:
    """Some checkpoints store the tied head once more; as upstream, the GGUF then has it, too."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    words: dict[str, npt.NDArray[np.unsignedinteger]] = {
        name: values.view(np.uint32) for name, values in checkpoint.weights.items()
    }
    words["lm_head.weight"] = words["model.embed_tokens.weight"]
    write_tensors(checkpoint.folder, words, "float32")
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf")
    tensors = gguf_contents.read(tmp_path / "model.gguf").tensors
    np.testing.assert_array_equal(tensors["output.weight"], tensors["token_embd.weight"])


def test_files_of_the_safetensors_package_are_read(tmp_path: Path) -> None:
    """Our reader against another's writer."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    convert_checkpoint(checkpoint.folder, tmp_path / "ours.gguf", "f16")
    safetensors.numpy.save_file(dict(reversed(checkpoint.weights.items())), checkpoint.folder / "model.safetensors")
    convert_checkpoint(checkpoint.folder, tmp_path / "theirs.gguf", "f16")
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()
