"""A converted model computes what its checkpoint means: logits in llama.cpp against Qwen in NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.convert import llama, numpy_qwen
from tools.convert.conversion import convert_checkpoint
from tools.fixtures.checkpoints import QWEN2, QWEN3, Shape, write_checkpoint

TEXT = "fix this module: torch has no attribute, the function returns None"


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(QWEN2, id="qwen2, tied"),
        pytest.param(replace(QWEN2, tie_word_embeddings=False), id="qwen2, untied"),
        pytest.param(replace(QWEN2, num_key_value_heads=4, extra_config={"rope_theta": 10000.0}), id="qwen2, as many kv heads"),
        pytest.param(replace(QWEN2, dtype="bfloat16", n_shards=2), id="qwen2, bf16 shards"),
        pytest.param(QWEN3, id="qwen3, tied"),
        pytest.param(replace(QWEN3, tie_word_embeddings=False, head_dim=16, dtype="float16"), id="qwen3, untied"),
    ],
)
def test_logits_equal_the_formulas(tmp_path: Path, shape: Shape) -> None:
    """A wrong rope, norm, bias or head changes logits by far more than the 1e-4 allowed."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    convert_checkpoint(checkpoint.folder, tmp_path / "model.gguf", "f32")
    token_ids = checkpoint.tokenizer.encode(TEXT).ids
    with llama.loaded(tmp_path / "model.gguf") as model:
        theirs = llama.logits(model, token_ids)
    ours = numpy_qwen.logits(checkpoint.config, checkpoint.weights, token_ids)
    assert np.abs(theirs - ours).max() / np.abs(ours).max() < 1e-4


def test_the_comparison_would_notice_a_lost_bias(tmp_path: Path) -> None:
    """Guards the test above: one small tensor left out must show."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    token_ids = checkpoint.tokenizer.encode(TEXT).ids
    whole = numpy_qwen.logits(checkpoint.config, checkpoint.weights, token_ids)
    for lost in ("model.layers.1.self_attn.k_proj.bias", "model.layers.0.self_attn.v_proj.bias"):
        part = {name: tensor for name, tensor in checkpoint.weights.items() if name != lost}
        assert np.abs(numpy_qwen.logits(checkpoint.config, part, token_ids) - whole).max() / np.abs(whole).max() > 1e-3
