"""Importance matrices as files: llama.cpp's format, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from archroute_edge.errors import ImatrixError
from archroute_edge.quantize import Imatrix, Importance, read_imatrix
from tools.convert.imatrix_file import write_imatrix

Floats = npt.NDArray[np.float32]


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    """Numbers, names, and the number of channels, also of several experts."""
    draw = np.random.default_rng(0)
    entries = {
        "blk.1.ffn_up.weight": Importance(draw.random((1, 7), np.float32), np.array([12], np.float32)),
        "blk.0.ffn_up_exps.weight": Importance(draw.random((3, 5), np.float32), np.array([4, 0, 2], np.float32)),
    }
    write_imatrix(tmp_path / "imatrix.gguf", Imatrix(entries, ("a.txt", "größer.jsonl"), 3, 512))
    found = read_imatrix(tmp_path / "imatrix.gguf")
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("a.txt", "größer.jsonl"), 3, 512)
    assert found.entries.keys() == entries.keys()
    for name, entry in entries.items():
        np.testing.assert_array_equal(found.entries[name].sums, entry.sums)
        np.testing.assert_array_equal(found.entries[name].counts, entry.counts)
    stacked = entries["blk.0.ffn_up_exps.weight"]
    expected = np.concatenate([stacked.sums[0] / np.float32(4), np.ones(5, np.float32), stacked.sums[2] / np.float32(2)])
    np.testing.assert_array_equal(found.entries["blk.0.ffn_up_exps.weight"].values, expected)


def test_the_file_is_laid_out_as_llama_cpp_writes_it(tmp_path: Path) -> None:
    """Read with the gguf package: keys with their types, tensors sorted by name, sums before counts."""
    entries = {name: Importance(np.ones((1, 64), np.float32), np.array([5], np.float32)) for name in ("b", "a")}
    write_imatrix(tmp_path / "imatrix.gguf", Imatrix(entries, ("text.txt",), 1, 512))
    reader = gguf.GGUFReader(tmp_path / "imatrix.gguf")
    assert [(tensor.name, tensor.shape.tolist(), tensor.tensor_type.name) for tensor in reader.tensors] == [
        ("a.in_sum2", [64, 1], "F32"), ("a.counts", [1, 1], "F32"), ("b.in_sum2", [64, 1], "F32"), ("b.counts", [1, 1], "F32"),
    ]  # fmt: skip
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert {key: (field.types, field.contents()) for key, field in fields.items()} == {
        "general.type": ([gguf.GGUFValueType.STRING], "imatrix"),
        "imatrix.datasets": ([gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING], ["text.txt"]),
        "imatrix.chunk_count": ([gguf.GGUFValueType.UINT32], 1),
        "imatrix.chunk_size": ([gguf.GGUFValueType.UINT32], 512),
    }


def write_other(path: Path, change: Callable[[dict[str, Floats]], None], leave_out: str = "", kind: str = "imatrix") -> Path:
    """An importance matrix of one entry as the gguf package writes it, with something changed."""
    writer = gguf.GGUFWriter(None, "none")
    writer.kv_data[0].clear()
    writer.add_type(kind)
    if leave_out != "imatrix.datasets":
        writer.add_array("imatrix.datasets", ["x"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    tensors = {"a.in_sum2": np.ones((1, 8), np.float32), "a.counts": np.full((1, 1), 3, np.float32)}
    change(tensors)
    for name, numbers in tensors.items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_of_another_writer_is_read(tmp_path: Path) -> None:
    """Guards the refusals below: unchanged, the file is good."""
    found = read_imatrix(write_other(tmp_path / "other.gguf", lambda tensors: None))
    np.testing.assert_array_equal(found.entries["a"].values, np.full(8, 1 / np.float32(3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("a.counts"), "only one of sums and counts"),
        (lambda tensors: tensors.pop("a.in_sum2"), "only one of sums and counts"),
        (lambda tensors: tensors.update({"a.in_sum2": np.ones((1, 8), np.float16)}), "F16 instead of F32"),
        (lambda tensors: tensors.update({"a.counts": np.ones((3, 1), np.float32)}), "8 sums for 3 counts"),
        (lambda tensors: tensors["a.in_sum2"].fill(np.nan), "negative or no numbers"),
        (lambda tensors: tensors["a.in_sum2"].fill(-1), "negative or no numbers"),
        (lambda tensors: tensors["a.counts"].fill(np.inf), "negative or no numbers"),
    ],
)
def test_damaged_matrices_are_refused(tmp_path: Path, change: Callable[[dict[str, Floats]], None], message: str) -> None:
    """Each for what is wrong with it."""
    with pytest.raises(ImatrixError, match=message):
        read_imatrix(write_other(tmp_path / "other.gguf", change))


def test_other_files_are_refused(tmp_path: Path, wide_source: Path) -> None:
    """A model, an old importance matrix, half a file, one without metadata."""
    with pytest.raises(ImatrixError, match=r"no importance matrix \(general.type is 'model'\)"):
        read_imatrix(wide_source)
    old = tmp_path / "old.dat"
    old.write_bytes(struct.pack("<ii4sii4f", 1, 4, b"blk.", 1, 4, *[1.0] * 4))
    with pytest.raises(ImatrixError, match=r"llama-imatrix --in-file old.dat -o old.gguf"):
        read_imatrix(old)
    whole = write_other(tmp_path / "whole.gguf", lambda tensors: None).read_bytes()
    (tmp_path / "half.gguf").write_bytes(whole[:-40])
    with pytest.raises(ImatrixError, match="truncated"):
        read_imatrix(tmp_path / "half.gguf")
    with pytest.raises(ImatrixError, match=r"lacks imatrix\.datasets"):
        read_imatrix(write_other(tmp_path / "bare.gguf", lambda tensors: None, leave_out="imatrix.datasets"))
