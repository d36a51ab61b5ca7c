"""Small models that are trained for the policies of quality, converted, and read by llama.cpp."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from archroute_edge.quality import Causal, Classifier, Prompt, features_of, labels_of, load_predictor
from archroute_edge.quality._classifier import _likelihood
from tests.quality import battles as made
from training.quality.causal import Recipe
from training.quality.classifier import Head
from training.quality.commands import main
from training.quality.questions import Question, batches
from training.tiny.checkpoint import write_checkpoint
from training.tiny.model import Qwen2, Shape
from training.tiny.tokenizer import train_tokenizer

N = 120
EASY, HARD = "say hello to my friend", "prove that the series converges"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of two kinds: on easy ones all models are right, on hard ones the large one is."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("outcomes") / "graded.jsonl"
    rows = []
    for number in range(N):
        is_hard = number % 2
        right = {"small": int(draw.random() < (0.1 if is_hard else 0.9)), "large": int(draw.random() < 0.85)}
        rows.append(
            {"id": str(number), "text": f"{HARD if is_hard else EASY} {number}", "category": "ab"[number % 2], "scores": right}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def call(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_language_model_learns_to_say_marks(outcomes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # From weights by chance more has to be learned than from a trained model's.
    monkeypatch.setattr("training.quality.causal.Recipe", partial(Recipe, rate=3e-3, batch_tokens=2048))
    torch.manual_seed(0)
    texts = [json.loads(line)["text"] for line in outcomes.read_text(encoding="utf-8").splitlines()]
    tokenizer = train_tokenizer([*texts, "[[1]] [[2]] [[3]] [[4]] [[5]]"], 400)
    shape = Shape(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
    )
    write_checkpoint(tmp_path / "start", Qwen2(shape), tokenizer)
    trained, judge = tmp_path / "trained", tmp_path / "judge.gguf"
    call("causal", tmp_path / "start", outcomes, "-o", trained, "--steps", 300)
    assert "judge.gguf" in call("package", trained, outcomes, "-o", judge)
    found = load_predictor(judge)
    assert isinstance(found, Causal) and found.models == ("small", "large") and found.novelty is not None
    features = features_of([Prompt("e", f"{EASY} 500"), Prompt("h", f"{HARD} 501")], judge)
    easy, hard = found.expected(features)
    assert easy[0] > hard[0] + 0.1
    # The large model is worth its price on hard prompts.
    assert hard[1] - hard[0] > easy[1] - easy[0] + 0.05


def test_a_training_goes_on(outcomes: Path, tmp_path: Path) -> None:
    """Batches that were learned from are left out as if they had been drawn."""
    questions = [Question(tuple(range(number % 40 + 5)), 3) for number in range(50)]
    whole = batches(questions, 200, 7)
    before = [next(whole) for _ in range(30)]
    after = batches(questions, 200, 7, first=20)
    assert [next(after) for _ in range(10)] == before[20:]
    assert all(max(len(each.tokens) for each in batch) * len(batch) <= 200 for batch in before)
    assert {each for batch in before[:20] for each in batch} == set(questions)


def test_the_loss_of_a_head_is_the_predictors() -> None:
    """What is trained with the encoder is what decides."""
    battles, features = made.battles(20), made.features(20)
    assert features.vectors is not None
    labels = labels_of(battles)
    head = Head(16, 3)
    torch.manual_seed(1)
    torch.nn.init.normal_(head.linear.weight)
    torch.nn.init.normal_(head.linear.bias)
    with torch.no_grad():
        head.log_threshold.fill_(-0.4)
        found = head.loss(torch.from_numpy(features.vectors), torch.from_numpy(labels.prompt), labels)
    layer = head.layer()
    strengths = layer.strengths(features.vectors)
    ahead = strengths[labels.prompt, labels.low] - strengths[labels.prompt, labels.high]
    value = _likelihood(ahead, layer.threshold, labels.shares)[0] / labels.shares.sum()
    assert float(found) == pytest.approx(value, rel=1e-4)


def test_an_encoder_learns_with_its_last_layer(outcomes: Path, start: Path, tmp_path: Path) -> None:
    trained, path = tmp_path / "trained", tmp_path / "classifier.gguf"
    call("classifier", start, outcomes, "-o", trained, "--steps", 40)
    call("package", trained, outcomes, "-o", path, "--level", "F16")
    found = load_predictor(path)
    assert isinstance(found, Classifier) and found.models == ("small", "large")
    assert found.sample_tokens is not None and len(found.sample_tokens) == len(found.sample)
    easy, hard = found.expected(features_of([Prompt("e", f"{EASY} 500"), Prompt("h", f"{HARD} 501")], path))
    assert hard[1] - hard[0] > easy[1] - easy[0]
