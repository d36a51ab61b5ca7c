"""The types of an encoder's matrices: no larger than they need be, and llama.cpp's own numbers in each."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from archroute_edge.quantize import quantize
from training.mini.tensor_types import write_small

PUBLISHED, TRAINED, HALF, NORM, ADDED = (
    f"{name}.weight" for name in ("token_embd", "blk.0.ffn_up", "blk.0.ffn_down", "token_embd_norm", "position_embd")
)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An F32 file with a matrix that Q4_0 holds exactly."""
    rng = np.random.default_rng(3)
    drawn = {name: rng.normal(0, 0.3, (64, 32)).astype(np.float32) for name in (PUBLISHED, TRAINED, HALF, ADDED)}
    small = gguf.GGMLQuantizationType.Q4_0
    drawn[PUBLISHED] = gguf.dequantize(gguf.quantize(drawn[PUBLISHED], small), small)
    writer = gguf.GGUFWriter(tmp_path / "f32.gguf", "bert")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("archroute.told", "the same")
    writer.add_key_value("archroute.numbers", [1, -2, 3], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT8)
    for name, values in {**drawn, NORM: np.ones(32, np.float32)}.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "f32.gguf"


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_what_is_as_published_costs_least_and_loses_nothing(whole: Path, tmp_path: Path) -> None:
    write_small(whole, tmp_path / "small.gguf", [HALF])
    assert types(tmp_path / "small.gguf") == {PUBLISHED: "Q4_0", TRAINED: "Q8_0", HALF: "F16", NORM: "F32", ADDED: "F32"}
    first, second = (
        {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(file).tensors}
        for file in (whole, tmp_path / "small.gguf")
    )
    for name in (PUBLISHED, NORM, ADDED):
        assert np.array_equal(first[name], second[name]), name
    assert np.abs(first[HALF] - second[HALF]).max() < 1e-3


def test_the_numbers_are_those_of_llama_cpp(whole: Path, tmp_path: Path) -> None:
    write_small(whole, tmp_path / "small.gguf", [])
    quantize(whole, tmp_path / "theirs.gguf", "Q8_0", token_embedding_type="Q4_0")
    ours, theirs = (
        {tensor.name: (tensor.tensor_type, tensor.data.tobytes()) for tensor in gguf.GGUFReader(tmp_path / name).tensors}
        for name in ("small.gguf", "theirs.gguf")
    )
    assert ours == theirs


def test_the_metadata_stay(whole: Path, tmp_path: Path) -> None:
    write_small(whole, tmp_path / "small.gguf", [])
    fields = gguf.GGUFReader(tmp_path / "small.gguf").fields
    assert fields["archroute.told"].contents() == "the same"
    assert fields["archroute.numbers"].contents() == [1, -2, 3]
    assert fields["archroute.numbers"].types[-1] == gguf.GGUFValueType.INT8
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0


def test_what_was_made_smaller_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    """`recalibrate` reads a bundled file back and writes it again."""
    write_small(whole, tmp_path / "small.gguf", [])
    again = gguf.GGUFWriter(tmp_path / "again.gguf", "bert")
    for tensor in gguf.GGUFReader(tmp_path / "small.gguf").tensors:
        again.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    again.write_header_to_file()
    again.write_kv_data_to_file()
    again.write_tensors_to_file()
    again.close()
    write_small(tmp_path / "again.gguf", tmp_path / "second.gguf", [TRAINED, HALF])
    first, second = (
        {tensor.name: (tensor.tensor_type, tensor.data.tobytes()) for tensor in gguf.GGUFReader(file).tensors}
        for file in (tmp_path / "small.gguf", tmp_path / "second.gguf")
    )
    assert first == second
