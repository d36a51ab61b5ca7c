"""Collecting importance matrices: what is read, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archroute_edge.engine import LoadedModel
from archroute_edge.errors import ImatrixError
from tests.convert import numpy_qwen
from tools.convert import imatrix_collection
from tools.convert.conversion import convert_checkpoint
from tools.convert.imatrix_collection import calibration_sequences, collect
from tools.convert.routing_prompts import CALIBRATION, VERIFICATION, shipped_cases
from tools.fixtures.checkpoints import QWEN2, QWEN3, Shape, write_checkpoint

PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


@pytest.mark.parametrize("shape", [pytest.param(QWEN2, id="qwen2"), pytest.param(QWEN3, id="qwen3")])
def test_sums_are_those_of_the_formulas(tmp_path: Path, shape: Shape) -> None:
    """Every matrix of every layer, against squared inputs of a forward pass in NumPy, over two texts of unequal length."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    texts = [list(range(5, 45)), [300, 7, 7, 120, 260, 90]]
    with LoadedModel(tmp_path / "model.gguf") as model:
        found = collect(model, texts, "numbers", threads=1)
    expected: dict[str, Any] = {}
    for token_ids in texts:
        inputs: dict[str, Any] = {}
        numpy_qwen.logits(checkpoint.config, checkpoint.weights, token_ids, inputs)
        for name, rows in inputs.items():
            expected[name] = expected.get(name, 0) + (rows**2).sum(axis=0)
    assert len(found.entries) == 7 * shape.num_hidden_layers == len(expected)
    for layer in range(shape.num_hidden_layers):
        for ours, theirs in PARTS.items():
            entry = found.entries[f"blk.{layer}.{ours}.weight"]
            reference = expected[f"model.layers.{layer}.{theirs}.weight"]
            assert entry.counts.tolist() == [46]
            # llama.cpp keeps keys and values in half precision.
            np.testing.assert_allclose(entry.sums[0], reference, rtol=0.01, atol=0.002 * reference.max())
    first = found.entries["blk.0.attn_q.weight"].sums[0]
    np.testing.assert_allclose(first, expected["model.layers.0.self_attn.q_proj.weight"], rtol=1e-5)


def test_long_texts_are_read_in_pieces(wide_source: Path) -> None:
    """A text longer than a batch counts as a whole, and its later pieces see the earlier ones."""
    tokens = np.random.default_rng(2).integers(0, 500, 600).tolist()
    with LoadedModel(wide_source) as model:
        whole = collect(model, [tokens], "x", threads=1)
        parts = collect(model, [tokens[:512], tokens[512:]], "x", threads=1)
    name = "blk.0.ffn_down.weight"
    assert whole.entries[name].counts.tolist() == parts.entries[name].counts.tolist() == [600]
    assert (whole.chunk_count, whole.chunk_size) == (1, 512)
    assert not np.allclose(whole.entries[name].sums, parts.entries[name].sums, rtol=1e-4)


def test_plain_text_is_cut_as_llama_imatrix_cuts_it(wide_source: Path, tmp_path: Path) -> None:
    """Whole chunks of 512 tokens; what is left over is not read."""
    text = tmp_path / "text.txt"
    text.write_text("one two three routes tokens 12345\n" * 200, encoding="utf-8")
    with LoadedModel(wide_source) as model:
        tokens = model.vocabulary.tokenize(text.read_text())
        dataset, chunks = calibration_sequences(model, text, "auto")
        assert dataset == "text.txt"
        assert [len(chunk) for chunk in chunks] == [512] * (len(tokens) // 512)
        assert [token for chunk in chunks for token in chunk] == tokens[: 512 * len(chunks)]
        text.write_text("too short")
        with pytest.raises(ImatrixError, match="at least 512 are needed"):
            calibration_sequences(model, text, "auto")


def test_routing_prompts_of_a_file(wide_source: Path, tmp_path: Path) -> None:
    """In the model's own prompt format, with the answer where it is known."""
    file = tmp_path / "prompts.jsonl"
    routes = [{"name": "bug_fixing", "description": "errors in code"}]
    lines = [
        {"routes": routes, "messages": "it crashes", "route": "bug_fixing"},
        {"routes": routes, "messages": [{"role": "user", "content": "hello"}]},
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with LoadedModel(wide_source) as model:
        dataset, (first, second) = calibration_sequences(model, file, "auto")
        texts = [b"".join(map(model.vocabulary.piece, tokens)).decode() for tokens in (first, second)]
    assert dataset == "prompts.jsonl"
    assert "it crashes" in texts[0]
    assert texts[0].endswith('<|im_start|>assistant\n{"route": "bug_fixing"}')
    assert texts[1].endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "prompts.jsonl:2: not valid JSON"),
        ('{"messages": "x"}', 'prompts.jsonl:2: expected an object with "routes"'),
        ('{"routes": [{"name": "a"}], "messages": "x", "answer": "a"}', "expected an object"),
        ('{"routes": [{"name": "a"}], "messages": "x", "route": "b"}', "route 'b' is none of a, other"),
        ('{"routes": [{"name": "a"}, {"name": "a"}], "messages": "x"}', "prompts.jsonl:2: "),
        ('{"routes": [{"name": "a"}], "messages": []}', "prompts.jsonl:2: "),
        ('{"routes": ["a"], "messages": "x"}', "routes must be a list of objects"),
    ],
)
def test_malformed_prompts_are_refused_with_their_line(wide_source: Path, tmp_path: Path, line: str, message: str) -> None:
    """A calibration that is quietly shorter than one thinks is worse than none."""
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"routes": [{"name": "a"}], "messages": "x"}\n' + line + "\n", encoding="utf-8")
    with LoadedModel(wide_source, vocabulary_only=True) as model, pytest.raises(ImatrixError, match=message):
        calibration_sequences(model, file, "auto")


def test_shipped_prompts() -> None:
    """Some fifty to calibrate on, and others to judge by: no table and no conversation is in both."""
    calibration, verification = shipped_cases(CALIBRATION), shipped_cases(VERIFICATION)
    assert len(calibration) >= 40
    assert len(verification) >= 30
    assert not {case.turns for case in calibration} & {case.turns for case in verification}
    assert not {case.table for case in calibration} & {case.table for case in verification}
    assert all(case.route in (*case.table.names, "other") for case in calibration + verification)


def test_an_interrupt_while_collecting(wide_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes while llama.cpp is calling back: it is raised, and the model can be used again."""
    calls = 0

    def interrupt(pointer: object) -> npt.NDArray[np.float32]:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with LoadedModel(wide_source) as model:
        monkeypatch.setattr(imatrix_collection, "read_rows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            collect(model, [[1, 2, 3]] * 3, "x", threads=1)
        monkeypatch.undo()
        assert calls >= 1
        assert len(collect(model, [[1, 2, 3]], "x", threads=1).entries) == 7
