"""A checkpoint that is read back from its GGUF."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from archroute_edge.models import BUNDLED_ENCODER, BUNDLED_LANGUAGE_MODEL, find_model
from training.mini.commands import main as mini
from training.mini.embedding import Encoder
from training.mini.from_gguf import checkpoint_from_gguf as encoder_from_gguf
from training.mini.objective import N_TOPICS
from training.mini.references import compute_references
from training.mini.steering import Settings, write_settings
from training.mini.training import ANSWERS
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
    graded = tmp_path / "graded.jsonl"
    rows = (
        {"id": str(number), "text": f"question {number}", "scores": {"small": number % 2, "large": 1}} for number in range(60)
    )
    graded.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = CliRunner().invoke(main, ["causal", str(encoder), str(graded), "-o", str(tmp_path / "judge")])
    assert found.exit_code == 2
    assert found.output == f"Error: {encoder}: not a GGUF of a model that training.tiny trained (its architecture is bert)\n"


def packaged(checkpoint: Path, topics: torch.Tensor, folder: Path) -> Path:
    encoder = Encoder(checkpoint)
    encoder.write(folder)
    compute_references(encoder, ["the request", "banking?", "a test"]).write(
        folder, topics, torch.full((1, encoder.width), encoder.width**-0.5)
    )
    write_settings(folder, Settings(20.0, 0.2, 0.1, 0.3, -0.4, 0.01, 0.8, 0.25, 1))
    return folder


def test_an_encoder_comes_back_from_its_gguf(start: Path, tmp_path: Path) -> None:
    """To the last bit: a file that is calibrated again must not lose anything by that."""
    topics = torch.linspace(-1, 1, N_TOPICS * Encoder(start).width).reshape(N_TOPICS, -1)
    files = [tmp_path / f"{name}.gguf" for name in ("first", "second")]
    folder = packaged(start, topics, tmp_path / "first")
    assert CliRunner().invoke(mini, ["export", str(folder), "-o", str(files[0])]).exit_code == 0

    encoder_from_gguf(files[0], start, tmp_path / "weights")

    assert torch.equal(torch.load(tmp_path / "weights" / ANSWERS, weights_only=True)["topics"], topics)
    again = packaged(tmp_path / "weights", topics, tmp_path / "second")
    assert CliRunner().invoke(mini, ["export", str(again), "-o", str(files[1])]).exit_code == 0
    first, second = (GGUFReader(file).tensors for file in files)
    assert [(t.name, t.tensor_type, t.data.tobytes()) for t in first] == [
        (t.name, t.tensor_type, t.data.tobytes()) for t in second
    ]


def test_a_tensor_that_is_missing_is_told(start: Path, tmp_path: Path) -> None:
    """The base's own would stand in its place otherwise."""
    folder = packaged(start, torch.zeros(N_TOPICS, Encoder(start).width), tmp_path / "packaged")
    file = tmp_path / "m.gguf"
    assert CliRunner().invoke(mini, ["export", str(folder), "-o", str(file)]).exit_code == 0
    larger = tmp_path / "larger"
    shutil.copytree(start, larger)
    weights = load_file(start / "model.safetensors") | {"encoder.layer.9.output.dense.bias": torch.zeros(4)}
    save_file(weights, larger / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 tensors of the base, such as encoder\.layer\.9"):
        encoder_from_gguf(file, larger, tmp_path / "weights")


def test_another_model_is_no_encoder_of_ours(start: Path, tmp_path: Path) -> None:
    for model, message in (
        (BUNDLED_LANGUAGE_MODEL, "not trained by training.mini"),
        (BUNDLED_ENCODER, "the base or its vocabulary"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder_from_gguf(find_model(model).path, start, tmp_path / "weights")
    assert not any(tmp_path.iterdir())
