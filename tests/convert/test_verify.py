"""``python -m tools.convert verify``: what it says of files that are what they claim to be, and of those that are not."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from archroute_edge.engine import read_header
from archroute_edge.errors import QuantizationError
from archroute_edge.quantize import quantize
from tests.convert.typed import Typed
from tests.engine.gguf_file import read_gguf
from tools.convert.conversion import convert_checkpoint
from tools.convert.distribution_comparison import Observation, compare_distributions, divergences, log_softmax
from tools.convert.file_comparison import allowed_error, compare_files
from tools.convert.routing_prompts import VERIFICATION, shipped_cases
from tools.convert.verification import Limits, verify
from tools.fixtures.checkpoints import Shape, WrittenCheckpoint, write_checkpoint

pytestmark = pytest.mark.usefixtures("few_cases")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> WrittenCheckpoint:
    shape = Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=1, dtype="float16")
    return write_checkpoint(tmp_path_factory.mktemp("source") / "checkpoint", shape)


@pytest.fixture(scope="module")
def source(checkpoint: WrittenCheckpoint) -> Path:
    path = checkpoint.folder.with_name("F16.gguf")
    convert_checkpoint(checkpoint.folder, path)
    return path


@pytest.fixture(scope="module")
def quantized(source: Path) -> Path:
    path = source.with_name("Q4_0.gguf")
    quantize(source, path, "Q4_0", threads=1)
    return path


def test_identical_files(source: Path, checkpoint: WrittenCheckpoint, typed: Typed) -> None:
    """A conversion against its own checkpoint: nothing differs, and nothing is left behind."""
    status, out, _ = typed("verify", source, "--against", checkpoint.folder, "--threads", "1")
    assert status == 0
    assert out.splitlines()[-1] == "IDENTICAL: F16.gguf holds the numbers of checkpoint, and answers alike"
    assert "KL divergence mean 0, 99th percentile 0, largest 0 nats" in out
    assert "equal decisions 100.0%" in out
    assert not list(source.parent.glob(".verify-*"))


def test_a_quantized_file_is_sound(source: Path, quantized: Path, typed: Typed) -> None:
    """Its errors are those of its level, and its distributions are near."""
    status, out, _ = typed("verify", quantized, "--against", source, "--threads", "1", "--json")
    report = json.loads(out)
    assert (status, report["passed"], report["problems"]) == (0, True, [])
    assert report["verdict"] == "SOUND: Q4_0.gguf is F16.gguf within the precision of its tensor types"
    by_type = report["files"]["by_type"]
    assert by_type["F32"]["relative"] == 0
    # Of normally distributed weights four bits with one scale for 32 lose some 8 %.
    assert 0.05 < by_type["Q4_0"]["relative"] < 0.12
    assert 0 < report["distributions"]["mean_kl"] <= report["distributions"]["largest_kl"]
    assert report["distributions"]["n_prompts"] == 2


def test_names_in_a_file_are_escaped(tmp_path: Path, source: Path, typed: Typed) -> None:
    """A terminal would obey them."""
    file = read_gguf(source)
    file.set("x\x1b[2J", 8, b"text")
    status, out, _ = typed("verify", file.write(tmp_path / "a.gguf"), "--against", source, "--threads", "1")
    assert status == 0
    assert r"x\x1b[2J" in out
    assert all(char.isprintable() or char == "\n" for char in out)


def test_limits_of_ones_own(source: Path, quantized: Path, typed: Typed) -> None:
    """What is sound enough depends on what it is for."""
    status, out, _ = typed("verify", quantized, "--against", source, "--threads", "1", "--max-kl", "0")
    assert status == 1
    assert "\nproblem: mean KL divergence " in out
    assert out.splitlines()[-1].startswith("DIFFERS: Q4_0.gguf is not faithful to F16.gguf: mean KL divergence ")


def swap_tensors(source: Path, target: Path, one: str, two: str) -> None:
    """Exchange the data of two tensors of the same shape and type."""
    header = read_header(source)
    raw = bytearray(source.read_bytes())
    first, second = header.tensors[one], header.tensors[two]
    assert (first.shape, first.type_number) == (second.shape, second.type_number)
    places = [
        slice(header.data_offset + each.offset, header.data_offset + each.offset + each.n_bytes) for each in (first, second)
    ]
    raw[places[0]], raw[places[1]] = raw[places[1]], raw[places[0]]
    target.write_bytes(raw)


def test_tensors_that_were_mixed_up(source: Path, tmp_path: Path, typed: Typed) -> None:
    """The mistake that a converter makes: everything loads, and the numbers stand in the wrong places."""
    swap_tensors(source, tmp_path / "mixed.gguf", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight")
    status, out, _ = typed("verify", tmp_path / "mixed.gguf", "--against", source, "--threads", "1")
    assert status == 1
    assert "problem: blk.0.ffn_gate.weight (F16) is off by 1.4" in out
    assert "problem: blk.0.ffn_up.weight (F16) is off by 1.4" in out
    assert out.splitlines()[-1].startswith("DIFFERS: mixed.gguf is not faithful to F16.gguf: blk.0.ffn_")


def test_other_metadata(source: Path, tmp_path: Path) -> None:
    """A changed setting of the architecture shows; so does a changed token, of which no distribution can be compared."""
    raw = source.read_bytes()
    place = raw.index(b"qwen2.rope.freq_base") + len(b"qwen2.rope.freq_base") + 4
    changed = raw[:place] + struct.pack("<f", 10000.0) + raw[place + 4 :]
    (tmp_path / "rope.gguf").write_bytes(changed)
    found = verify(tmp_path / "rope.gguf", source, threads=1)
    assert found.problems[0] == "qwen2.rope.freq_base differs"
    assert found.distributions is not None
    assert found.distributions.mean_kl > 0
    (tmp_path / "tokens.gguf").write_bytes(raw.replace(b"<|fim_pad|>", b"<|fim_bad|>", 1))
    found = verify(tmp_path / "tokens.gguf", source, threads=1)
    assert found.problems == ("tokenizer.ggml.tokens differs",)
    assert found.distributions is None
    assert not found.passed


def test_tensors_of_another_shape(source: Path, tmp_path: Path) -> None:
    """Said by name, before anything is run."""
    write_checkpoint(tmp_path / "other", Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=2))
    convert_checkpoint(tmp_path / "other", tmp_path / "other.gguf")
    found = compare_files(read_header(tmp_path / "other.gguf"), read_header(source))
    assert "only the model has blk.1.attn_q.weight" in found.problems


def test_a_share_of_equal_decisions_can_be_demanded(source: Path, quantized: Path) -> None:
    """More than all is more than there is."""
    found = verify(quantized, source, limits=Limits(equal_decisions=1.01), threads=1)
    assert [problem for problem in found.problems if "of decisions are equal" in problem]


def test_mistakes_are_one_line_and_status_2(source: Path, tmp_path: Path, typed: Typed) -> None:
    """A file that is not there is no verdict."""
    for words in (("verify", tmp_path / "no.gguf", "--against", source), ("verify", source, "--against", tmp_path / "no")):
        status, out, err = typed(*words)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert "no such file" in err
        assert err.count("\n") == 1


def log_of(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.log(np.array(rows, np.float32))


def test_divergence_is_that_of_the_formula() -> None:
    """Kullback and Leibler's, in nats, on distributions that can be reckoned by hand."""
    half, quarter = log_of([0.5, 0.5], [1.0, 1e-30]), log_of([0.25, 0.75], [1.0, 1e-30])
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.0]
    np.testing.assert_allclose(divergences(half, quarter), expected, rtol=1e-5, atol=1e-7)
    shifted = log_of([1.0, 3.0]) + np.float32(7)
    np.testing.assert_allclose(log_softmax(shifted), log_of([0.25, 0.75]), rtol=1e-5)


def test_figures_of_distributions() -> None:
    """Means over positions, shares over prompts."""
    cases = shipped_cases(VERIFICATION)[:2]
    same, other = log_of([0.5, 0.5]), log_of([0.25, 0.75], [0.5, 0.5])
    reference = [Observation((1,), "a", same), Observation((2,), cases[1].route or "", np.repeat(same, 2, axis=0))]
    model = [Observation((1,), "a", same), Observation((2,), "b", other)]
    found = compare_distributions(model, reference, cases)
    kl = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert (found.n_prompts, found.n_positions) == (2, 3)
    assert found.mean_kl == pytest.approx(kl / 3, rel=1e-5)
    assert found.largest_kl == pytest.approx(kl, rel=1e-5)
    assert (found.equal_decisions, found.right_decisions, found.reference_right_decisions) == (0.5, 0.0, 0.5)
    with pytest.raises(QuantizationError, match="other tokens"):
        compare_distributions([Observation((9,), "a", same)], reference[:1], cases[:1])


def test_allowed_errors_tell_levels_apart() -> None:
    """Fewer bits, more error; always less than what an unrelated tensor has."""
    allowed = [allowed_error(name) for name in ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")]
    assert allowed == sorted(allowed)
    assert allowed[0] == 0
    assert allowed[-1] < 1
