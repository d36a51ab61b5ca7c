"""Quantizing with importance matrices."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from archroute_edge.errors import ImatrixError, QuantizationError
from archroute_edge.quantize import Imatrix, Importance, predict_size, quantize
from tests.convert import gguf_contents
from tools.convert.imatrix_file import write_imatrix
from tools.fixtures.checkpoints import WrittenCheckpoint


def flat(value: float, source: Path) -> dict[str, Importance]:
    """The same importance for every channel of every matrix."""
    tensors = gguf_contents.read(source).tensors
    return {
        name: Importance(np.full((1, words.shape[1]), value, np.float32), np.ones(1, np.float32))
        for name, words in tensors.items()
        if name.startswith("blk.") and words.ndim == 2
    }


def test_quantizing_with_a_matrix_differs(wide_source: Path, wide_imatrix: Path, tmp_path: Path) -> None:
    """Other weights, the same shape, and the file says what was used."""
    quantize(wide_source, tmp_path / "without.gguf", "Q4_0", threads=1)
    quantize(wide_source, tmp_path / "with.gguf", "Q4_0", imatrix=wide_imatrix, threads=1)
    without, weighed = (gguf_contents.read(tmp_path / f"{name}.gguf") for name in ("without", "with"))
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_gate.weight"):
        assert without.types[name] == weighed.types[name]
        assert (without.tensors[name] != weighed.tensors[name]).any()
    added = {key: value for key, value in weighed.metadata.items() if key not in without.metadata}
    assert added == {
        "quantize.imatrix.file": "imatrix.gguf",
        "quantize.imatrix.dataset": "random.txt",
        "quantize.imatrix.entries_count": 7,
    }


def test_important_channels_are_kept_better(wide_source: Path, wide_checkpoint: WrittenCheckpoint, tmp_path: Path) -> None:
    """The values reach llama.cpp at the right places: rounding spares the channels that weigh more."""
    important = np.arange(3, 256, 16)
    entries = flat(1.0, wide_source)
    entries["blk.0.attn_q.weight"].sums[0, important] = 1000.0
    write_imatrix(tmp_path / "imatrix.gguf", Imatrix(entries, ("made up",), 1, 512))
    write_imatrix(tmp_path / "flat.gguf", Imatrix(flat(1.0, wide_source), ("made up",), 1, 512))
    exact = wide_checkpoint.weights["model.layers.0.self_attn.q_proj.weight"]
    errors = {}
    for name in ("imatrix", "flat"):
        quantize(wide_source, tmp_path / "model.gguf", "Q2_K", imatrix=tmp_path / f"{name}.gguf", threads=1)
        contents = gguf_contents.read(tmp_path / "model.gguf")
        kind = gguf.GGMLQuantizationType[contents.types["blk.0.attn_q.weight"]]
        weights = gguf.quants.dequantize(contents.tensors["blk.0.attn_q.weight"], kind)
        errors[name] = ((weights - exact)[:, important] ** 2).mean()
    assert errors["imatrix"] < 0.7 * errors["flat"]


def test_levels_that_need_one_work_with_one(wide_source: Path, wide_imatrix: Path, tmp_path: Path) -> None:
    """And without one the message has the command that makes one. llama.cpp's tables for their types take seconds to make."""
    for name in ("IQ2_M", "IQ3_XXS"):
        with pytest.raises(QuantizationError, match=rf"python -m tools\.convert imatrix {wide_source} -o imatrix\.gguf"):
            quantize(wide_source, tmp_path / "model.gguf", name)
        predicted = predict_size(wide_source, name, imatrix=wide_imatrix)
        assert (predicted.level, predicted.n_bytes < predicted.source_bytes) == (name, True)


def test_a_matrix_of_another_model_is_refused(wide_source: Path, tmp_path: Path) -> None:
    """Before llama.cpp starts: no tensor in common, or rows of another length."""
    strange = {"blk.77.attn_q.weight": Importance(np.ones((1, 256), np.float32), np.ones(1, np.float32))}
    narrow = {"blk.0.attn_q.weight": Importance(np.ones((1, 128), np.float32), np.ones(1, np.float32))}
    for entries, message in (
        (strange, "names no tensor of"),
        (narrow, "128 values for blk.0.attn_q.weight, whose rows have 256"),
    ):
        write_imatrix(tmp_path / "imatrix.gguf", Imatrix(entries, ("x",), 1, 512))
        for act in (lambda: quantize(wide_source, tmp_path / "model.gguf", "Q2_K", imatrix=tmp_path / "imatrix.gguf"),
                    lambda: predict_size(wide_source, "Q2_K", imatrix=tmp_path / "imatrix.gguf")):  # fmt: skip
            with pytest.raises(ImatrixError, match=message):
                act()
    assert [path.name for path in tmp_path.iterdir()] == ["imatrix.gguf"]


@pytest.mark.parametrize("name", ["Q4_K_M", "F16"])
def test_predicted_sizes_are_those_of_the_files(wide_source: Path, tmp_path: Path, name: str) -> None:
    """To the byte, without writing one."""
    predicted = predict_size(wide_source, name)
    assert list(tmp_path.iterdir()) == []
    made = quantize(wide_source, tmp_path / "model.gguf", name, threads=1)
    assert (predicted.level, predicted.n_bytes, predicted.source_bytes) == (name, made.n_bytes, made.source_bytes)
