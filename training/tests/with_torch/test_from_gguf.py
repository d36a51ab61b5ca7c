"""A checkpoint that is read back from its GGUF."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from archroute_edge.models import BUNDLED_ENCODER, find_model
from training.quality.commands import main
from training.tiny.checkpoint import read_checkpoint, write_checkpoint
from training.tiny.from_gguf import checkpoint_from_gguf
from training.tiny.model import Qwen2, Shape
from training.tiny.tokenizer import train_tokenizer

TEXTS = ["fix the error in my code", "translate this into Danish", "what is the capital of France?"]


def test_a_checkpoint_comes_back_from_its_gguf(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    shape = Shape(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    model = Qwen2(shape)
    write_checkpoint(tmp_path / "first", model, tokenizer)
    command = [
        sys.executable,
        "-m",
        "tools.convert",
        str(tmp_path / "first"),
        "-o",
        str(tmp_path / "m.gguf"),
        "--outtype",
        "f32",
    ]
    subprocess.run(command, check=True, capture_output=True)

    checkpoint_from_gguf(tmp_path / "m.gguf", tmp_path / "second")

    found, read = read_checkpoint(tmp_path / "second")
    assert found.shape == shape
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name
    for text in TEXTS:
        assert read.encode(text + "<|im_end|>").ids == tokenizer.encode(text + "<|im_end|>").ids


def test_an_encoder_is_no_such_model(tmp_path: Path) -> None:
    encoder = find_model(BUNDLED_ENCODER).path
    with pytest.raises(ValueError, match="architecture"):
        checkpoint_from_gguf(encoder, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
    found = CliRunner().invoke(main, ["causal", str(encoder), "no such outcomes", "-o", str(tmp_path / "judge")])
    assert found.exit_code == 1
    assert found.output == f"Error: {encoder}: not a GGUF of a model that training.tiny trained (its architecture is bert)\n"
