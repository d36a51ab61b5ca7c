"""Quantizing: the table of levels agrees with llama.cpp, results are whole or not there, failures are told."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from archroute_edge.errors import ModelFileError, ModelNotFoundError, QuantizationError
from archroute_edge.models import LEVELS, Level, level_named
from archroute_edge.quantize import quantize
from archroute_edge.quantize._quantization import Task
from tests.convert import gguf_contents, llama
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.checkpoints import Shape, WrittenCheckpoint, write_checkpoint

# Rows of 256 fit every level.
SHAPE = Shape(hidden_size=256, intermediate_size=512, num_hidden_layers=2)
# Copied, mixed of several types, and of the other family; llama.cpp's own names and bits for all are compared below.
MADE = ("F16", "Q4_K_M", "IQ4_XS")
N_PARAMETERS = 1_543_714_304
"""Of Arch-Router-1.5B."""
OFFICIAL_MEGABYTES = {"Q2_K": 676, "Q3_K_S": 761, "Q3_K_M": 824, "Q3_K_L": 880, "Q4_K_S": 940, "Q4_K_M": 986, "Q5_K_S": 1100,
                      "Q5_K_M": 1130, "F16": 3090}  # fmt: skip
"""Of the files in katanemo/Arch-Router-1.5B.gguf."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> WrittenCheckpoint:
    return write_checkpoint(tmp_path_factory.mktemp("source") / "checkpoint", SHAPE)


@pytest.fixture(scope="module")
def source(checkpoint: WrittenCheckpoint) -> Path:
    path = checkpoint.folder.with_name("F32.gguf")
    convert_checkpoint(checkpoint.folder, path, "f32", prompt_format="card")
    return path


@pytest.mark.parametrize("name", MADE)
def test_a_level_gives_a_model_that_loads(tmp_path: Path, source: Path, name: str) -> None:
    """The level's type is in the file, and all that was said about the model stays."""
    made = quantize(source, tmp_path / "model.gguf", name.lower(), threads=1)
    before, after = gguf_contents.read(source), gguf_contents.read(tmp_path / "model.gguf")
    assert after.metadata.pop("general.file_type") == LEVELS[name].ftype
    before.metadata.pop("general.file_type")
    assert after.metadata == before.metadata
    assert after.types.keys() == before.types.keys()
    assert name.removesuffix("_M") in after.types.values()
    assert (made.level, made.n_fallbacks, made.n_bytes) == (name, 0, (tmp_path / "model.gguf").stat().st_size)
    with llama.loaded(tmp_path / "model.gguf") as model:
        assert np.isfinite(llama.logits(model, [1, 2, 3])).all()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_bits_equal_the_reference(tmp_path: Path, checkpoint: WrittenCheckpoint, source: Path, name: str) -> None:
    """gguf-py has both levels in NumPy, bit for bit as llama.cpp computes them."""
    quantize(source, tmp_path / "model.gguf", name, threads=2)
    contents = gguf_contents.read(tmp_path / "model.gguf")
    compared = 0
    for layer in range(2):
        for ours, theirs in (("attn_q", "self_attn.q_proj"), ("attn_output", "self_attn.o_proj"), ("ffn_up", "mlp.up_proj")):
            assert contents.types[f"blk.{layer}.{ours}.weight"] == name
            exact = checkpoint.weights[f"model.layers.{layer}.{theirs}.weight"]
            reference = gguf.quants.quantize(exact, gguf.GGMLQuantizationType[name])
            np.testing.assert_array_equal(contents.tensors[f"blk.{layer}.{ours}.weight"], reference)
            compared += 1
    assert compared == 6


def test_rows_that_fit_no_block_are_counted(tmp_path: Path) -> None:
    """Rows of 96 are no multiple of 256; llama.cpp then takes a larger type, and the result says for how many tensors."""
    write_checkpoint(tmp_path / "checkpoint", Shape(hidden_size=96, intermediate_size=256))
    convert_checkpoint(tmp_path / "checkpoint", tmp_path / "F32.gguf", "f32")
    made = quantize(tmp_path / "F32.gguf", tmp_path / "Q4_K_M.gguf", "Q4_K_M", threads=1)
    types = gguf_contents.read(tmp_path / "Q4_K_M.gguf").types
    narrow = [
        f"blk.{block}.{name}.weight" for block in (0, 1) for name in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up")
    ]
    assert {types[name] for name in narrow} == {"Q5_0"}
    assert {types[f"blk.{block}.ffn_down.weight"] for block in (0, 1)} <= {"Q4_K", "Q6_K"}
    assert made.n_fallbacks == len(narrow) + 2  # attn_v falls back too, from a larger type


@pytest.fixture(scope="module")
def arch_router_shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of Arch-Router's shape whose 3 GB of weights are a hole in the file."""
    path = tmp_path_factory.mktemp("sparse") / "F16.gguf"
    writer = gguf.GGUFWriter(None, "qwen2")
    writer.add_block_count(28)
    writer.add_context_length(32768)
    writer.add_embedding_length(1536)
    writer.add_feed_forward_length(8960)
    writer.add_head_count(12)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(151936)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (151936, 1536), "output_norm.weight": (1536,)}
    for block in range(28):
        sizes: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (1536,), "attn_q.weight": (1536, 1536), "attn_q.bias": (1536,),
            "attn_k.weight": (256, 1536), "attn_k.bias": (256,), "attn_v.weight": (256, 1536), "attn_v.bias": (256,),
            "attn_output.weight": (1536, 1536), "ffn_norm.weight": (1536,), "ffn_gate.weight": (8960, 1536),
            "ffn_up.weight": (8960, 1536), "ffn_down.weight": (1536, 8960),
        }  # fmt: skip
        shapes |= {f"blk.{block}.{name}": size for name, size in sizes.items()}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == N_PARAMETERS
    total = 0
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType.F32 if len(shape) == 1 else gguf.GGMLQuantizationType.F16
        n_bytes = int(np.prod(shape)) * (4 if len(shape) == 1 else 2)
        writer.add_tensor_info(name, shape, np.dtype(np.void), n_bytes, raw_dtype=kind)
        total += -(-n_bytes // 32) * 32
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + total)
    return path


def test_table_agrees_with_llama_cpp(arch_router_shape: Path) -> None:
    """Names, bits a weight and the need of an importance matrix, as llama.cpp reckons them in a dry run."""
    found = {}
    with llama.listening() as log:
        for level in LEVELS.values():
            log.clear()
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype, params.dry_run, params.nthread = level.ftype, True, 1
            assert llama_cpp.llama_model_quantize(str(arch_router_shape).encode(), b"", ctypes.byref(params)) == 0
            text = "".join(log)
            match = re.search(r"quant size .*\(([\d.]+) BPW\)", text)
            assert match
            full_name = llama_cpp.llama_ftype_name(level.ftype).decode()
            found[level.name] = (full_name, float(match[1]), "will require an imatrix" in text)
    for level in LEVELS.values():
        full_name, bits, needs_imatrix = found[level.name]
        assert (bits, needs_imatrix) == (level.bits_per_weight, level.needs_imatrix)
        short = re.sub(r" - (Small|Medium|Large)$", lambda match: f"_{match[1][0]}", full_name)
        assert {"IQ3_M": "IQ3_S mix", "Q2_K": "Q2_K_M"}.get(level.name, level.name) == short.split(" - ")[0]


@pytest.mark.parametrize("name", OFFICIAL_MEGABYTES)
def test_sizes_are_those_of_the_official_files(name: str) -> None:
    """Bits a weight, plus the 6 MB of the vocabulary, come to what the authors' files take."""
    assert LEVELS[name].bits_per_weight * N_PARAMETERS / 8e6 + 6 == pytest.approx(OFFICIAL_MEGABYTES[name], rel=0.005)


def test_file_names() -> None:
    """As the authors name them."""
    assert LEVELS["Q4_K_M"].file_for("Arch-Router-1.5B") == "Arch-Router-1.5B-Q4_K_M.gguf"
    assert LEVELS["F16"].file_for("Arch-Router-1.5B") == "Arch-Router-1.5B.gguf"


def test_unknown_level_names_the_levels(source: Path, tmp_path: Path) -> None:
    """The message is the list one would look up next."""
    with pytest.raises(QuantizationError) as caught:
        quantize(source, tmp_path / "model.gguf", "Q4")
    assert "'Q4'" in str(caught.value)
    assert all(name in str(caught.value) for name in LEVELS)
    assert level_named("q4_k_m") is LEVELS["Q4_K_M"]


def test_level_that_needs_an_importance_matrix(source: Path, tmp_path: Path) -> None:
    """Refused before llama.cpp is started, and the others are named."""
    with pytest.raises(
        QuantizationError, match=r"IQ2_M needs an importance matrix; make one with: .*; without one there are Q2_K"
    ):
        quantize(source, tmp_path / "model.gguf", "IQ2_M")


def test_unusable_sources(source: Path, tmp_path: Path) -> None:
    """Missing, damaged, quantized already, or of an architecture llama.cpp does not know."""
    target = tmp_path / "model.gguf"
    with pytest.raises(ModelNotFoundError):
        quantize(tmp_path / "nothing.gguf", target, "Q8_0")
    (tmp_path / "damaged.gguf").write_bytes(source.read_bytes()[:-4000])
    with pytest.raises(ModelFileError, match="truncated"):
        quantize(tmp_path / "damaged.gguf", target, "Q8_0")
    quantize(source, tmp_path / "Q8_0.gguf", "Q8_0", threads=1)
    with pytest.raises(QuantizationError, match=r"is quantized already \(Q8_0\)"):
        quantize(tmp_path / "Q8_0.gguf", target, "Q4_0")
    other = source.read_bytes().replace(b"\x05\0\0\0\0\0\0\0qwen2", b"\x05\0\0\0\0\0\0\0qwenX", 1)
    (tmp_path / "other.gguf").write_bytes(other)
    with pytest.raises(QuantizationError, match=r"llama\.cpp could not quantize it to Q8_0: .*qwenX"):
        quantize(tmp_path / "other.gguf", target, "Q8_0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Q8_0.gguf", "damaged.gguf", "other.gguf"]


def test_unusable_targets(source: Path, tmp_path: Path) -> None:
    """Refused before any work is done."""
    for target, message in ((tmp_path / "no" / "m.gguf", "no such folder"), (tmp_path, "is a folder"), (source, "the source")):
        with pytest.raises(QuantizationError, match=message):
            quantize(source, target, "Q8_0")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of this process and of those it starts end at 300 kB, with an error of a full disk's kind."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_full_leaves_the_old_file(source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """llama.cpp may not notice that its writes fail; the check of what it wrote does."""
    target = tmp_path / "model.gguf"
    target.write_bytes(b"the old model")
    request.getfixturevalue("small_disk")
    with pytest.raises(QuantizationError, match=r"model\.gguf: .*is the disk full\?"):
        quantize(source, target, "Q8_0", threads=1)
    assert target.read_bytes() == b"the old model"
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_interrupt_leaves_no_file(source: Path, tmp_path: Path) -> None:
    """Ctrl-C while llama.cpp is at work ends it."""

    def interrupt(done: int, total: int) -> None:
        assert total == 26
        if done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(source, tmp_path / "model.gguf", "Q8_0", threads=1, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_llama_cpp_ends_with_the_process_that_started_it(source: Path, tmp_path: Path) -> None:
    """However that one was ended: nothing computes on for minutes, and nothing half-written stays."""
    target = tmp_path / "partial"
    os.mkfifo(target)  # whoever writes into it waits for a reader, and there is none
    task = json.dumps(asdict(Task(str(source), str(target), "Q8_0", LEVELS["Q8_0"].ftype, 1)))
    with subprocess.Popen(
        [sys.executable, "-m", "archroute_edge.quantize._worker", task], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline()  # llama.cpp is at work
        worker.stdin.close()
        try:
            assert worker.wait(timeout=30) == 1
        finally:
            worker.kill()
    assert not target.exists()


def test_abort_inside_llama_cpp_is_an_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not take the caller's process with it."""
    aborting = tmp_path / "python"
    aborting.write_text("#!/bin/sh\nkill -ABRT $$\n")
    aborting.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(aborting))
    with pytest.raises(QuantizationError, match="ended by signal 6"):
        quantize(source, tmp_path / "model.gguf", "Q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_log_goes_to_logging(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library prints nothing; what llama.cpp says is there for those who want it."""
    with caplog.at_level(logging.DEBUG, logger="archroute_edge.quantize._quantization"):
        quantize(source, tmp_path / "model.gguf", LEVELS["Q8_0"], threads=1)
    assert "quant size" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_levels_are_complete() -> None:
    """Every level that issue trackers and model pages speak of, once, with advice."""
    assert list(LEVELS) == [level.name for level in LEVELS.values()]
    assert all(isinstance(level, Level) and len(level.advice) > 10 for level in LEVELS.values())
    assert len({level.ftype for level in LEVELS.values()}) == len(LEVELS) == 18
