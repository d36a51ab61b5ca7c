"""A predictor in the GGUF of the model that it reads: one file that llama.cpp loads as before, and that a route can name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archroute_edge import Router
from archroute_edge.config import parse_config
from archroute_edge.conversation import read_messages
from archroute_edge.engine import LoadedModel, read_header
from archroute_edge.errors import QualityError
from archroute_edge.quality import (
    Causal,
    Classifier,
    LastLayer,
    Outcomes,
    Predictor,
    Prompt,
    PromptFeatures,
    embed_predictor,
    features_of,
    load_predictor,
    model_identity,
    open_reader,
    read_about,
    save_predictor,
)
from archroute_edge.quality._embedded import KEY
from archroute_edge.quality._strengths import Calibration
from tests.cli.conftest import Run, one_line, run

__all__ = ["run"]

MODELS = ("small", "large")
TEXTS = ["What is two and two?", "Prove that the square root of 2 is irrational."]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp's threads spin for each other."""
    monkeypatch.setattr("archroute_edge.deciders._generative.physical_cores", lambda: 1)
    monkeypatch.setattr("archroute_edge.engine.physical_cores", lambda: 1)


def classifier(model: Path, width: int) -> Classifier:
    layer = LastLayer(np.random.default_rng(0).standard_normal((2, width)).astype(np.float32), np.zeros(2), 0.5)
    return Classifier(MODELS, model_identity(model), np.full((3, 2), 0.5), layer, Calibration(1.0, np.zeros(2)))


def causal(model: Path) -> Causal:
    values = np.array([[0.1, 0.3, 0.5, 0.7, 0.9], [0.7, 0.75, 0.8, 0.85, 0.9]])
    return Causal(MODELS, model_identity(model), np.full((3, 2), 0.5), values, values.mean(axis=0), 1.0)


def embedded(predictor: Predictor, model: Path, folder: Path) -> Path:
    save_predictor(predictor, folder / "alone.safetensors", trained_on="some", licence="CC0")
    path = folder / "both.gguf"
    embed_predictor(folder / "alone.safetensors", model, path)
    return path


def prompts(texts: list[str]) -> list[Prompt]:
    return [Prompt(str(number), text) for number, text in enumerate(texts)]


def test_an_encoder_and_its_last_layer_are_one_file(random_encoder: Path, tmp_path: Path) -> None:
    with open_reader(random_encoder, 1) as reader:
        vectors = reader.features([read_messages("a")]).vectors
    assert vectors is not None
    predictor = classifier(random_encoder, vectors.shape[1])
    path = embedded(predictor, random_encoder, tmp_path)
    again = load_predictor(path)
    assert isinstance(again, Classifier) and again.model_file == path
    assert again.encoder == model_identity(path) != predictor.encoder
    assert (read_about(path)["licence"], read_about(path)["policy"]) == ("CC0", "classifier")
    # The weights are the same, where they are read.
    plain, whole = (features_of(prompts(TEXTS), each) for each in (random_encoder, path))
    np.testing.assert_array_equal(again.expected(whole), predictor.expected(plain))


def test_a_language_model_and_its_values_are_one_file(bundled_model: Path, tmp_path: Path) -> None:
    predictor = causal(bundled_model)
    path = embedded(predictor, bundled_model, tmp_path)
    again = load_predictor(path)
    assert isinstance(again, Causal) and again.reads == "levels"
    plain, whole = (features_of(prompts(TEXTS), each) for each in (bundled_model, path))
    np.testing.assert_array_equal(again.expected(whole), predictor.expected(plain))
    with LoadedModel(path, vocabulary_only=True) as model, LoadedModel(bundled_model, vocabulary_only=True) as before:
        assert model.chat_template == before.chat_template


def test_what_stands_in_a_model_is_replaced_and_not_added(bundled_model: Path, tmp_path: Path) -> None:
    """A predictor that was changed goes into a copy of the same model."""
    path = embedded(causal(bundled_model), bundled_model, tmp_path)
    opened = load_predictor(path)
    features = PromptFeatures(("a", "b"), None, np.array([[0.2] * 5, [0.6, 0.1, 0.1, 0.1, 0.1]]))
    graded = Outcomes(tuple(prompts(["a", "b"])), ("new",), np.array([[1.0], [0.0]]))
    grown = opened.with_model("new", graded, features)
    grown.model_file = opened.model_file
    target = tmp_path / "grown.gguf"
    save_predictor(grown, target)
    again = load_predictor(target)
    assert again.models == (*MODELS, "new")
    np.testing.assert_array_equal(again.expected(features), grown.expected(features))
    assert len(read_header(target).metadata) == len(read_header(bundled_model).metadata) + 1
    # In its own place, too.
    save_predictor(again, target)
    assert load_predictor(target).models == again.models


def test_commands_read_one_file(run: Run, bundled_model: Path, tmp_path: Path) -> None:
    path = embedded(causal(bundled_model), bundled_model, tmp_path)
    lines = tmp_path / "prompts.jsonl"
    lines.write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    result = run("quality", "score", str(path), str(lines))
    assert result.exit_code == 0, result.output
    scored = [json.loads(line)["scores"] for line in result.stdout.splitlines()]
    assert all(0 <= each["small"] <= each["large"] <= 1 for each in scored)
    graded = tmp_path / "graded.jsonl"
    graded.write_text("".join(json.dumps({"text": text, "score": 1}) + "\n" for text in TEXTS))
    target = tmp_path / "grown.gguf"
    result = run("quality", "add", str(path), str(graded), "--model", "new", "-o", str(target))
    assert result.exit_code == 0, result.output
    again = run("quality", "score", str(target), str(lines))
    assert [{name: row["scores"][name] for name in MODELS} for row in map(json.loads, again.stdout.splitlines())] == scored


def test_a_language_model_is_named_to_learn_its_marks(run: Run, bundled_model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "graded.jsonl"
    rows = [{"text": f"prompt {number}", "scores": {"small": number % 2, "large": 1}} for number in range(24)]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "p.safetensors"
    train = ("quality", "train", str(lines), "--policy", "causal", "-o", str(path))
    assert one_line(run(*train)) == "causal reads what a language model says, and mini is an encoder; name one with --encoder"
    assert one_line(run(*train, "--encoder", "none")).startswith("causal learns from the levels of a language model")
    result = run(*train, "--encoder", str(bundled_model))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("causal: 2 models learned from 24 prompts in ")
    found = load_predictor(path)
    assert isinstance(found, Causal) and found.encoder == model_identity(bundled_model)


@pytest.mark.parametrize("model", ["mini", "tiny"])
def test_a_route_names_one_file(model: str, bundled_model: Path, tmp_path: Path) -> None:
    """Whichever model decides on the route."""
    path = embedded(causal(bundled_model), bundled_model, tmp_path)
    config = parse_config(
        f"""
routing_preferences:
  - name: bug_fixing
    description: identifying and fixing errors in code
    models: [m/small, m/large]
    selection_policy: {{prefer: quality, predictor: {path}, rate: 0}}
"""
    )
    with Router(config=config, model=model, threads=1, prefix_cache=False) as router:
        decision = router.route("my unit test stops with an IndexError")
        assert router._quality is not None and list(router._quality.readers) == [model_identity(path)]
    if decision.route == "bug_fixing":
        assert decision.targets is not None and decision.model == "m/large"
        features = features_of(prompts(["my unit test stops with an IndexError"]), path)
        expected = dict(zip(MODELS, load_predictor(path).expected(features)[0].tolist(), strict=True))
        assert {each.model[2:]: each.expected_score for each in decision.targets} == pytest.approx(expected, abs=1e-3)
    else:
        assert model == "tiny"


def test_what_cannot_be_put_together(bundled_model: Path, random_encoder: Path, tmp_path: Path) -> None:
    alone, path = tmp_path / "alone.safetensors", tmp_path / "both.gguf"
    save_predictor(causal(bundled_model), alone)
    with pytest.raises(QualityError, match="trained with another model than"):
        embed_predictor(alone, random_encoder, path)
    with pytest.raises(QualityError, match="stands in its model already"):
        embed_predictor(embedded(causal(bundled_model), bundled_model, tmp_path), bundled_model, path)
    with pytest.raises(QualityError, match="cannot be written"):
        embed_predictor(alone, bundled_model, tmp_path / "no" / "both.gguf")


def test_a_predictor_in_a_model_of_another_kind(bundled_model: Path, tmp_path: Path) -> None:
    """A decision would find out too late."""
    path = embedded(classifier(bundled_model, 8), bundled_model, tmp_path)
    with pytest.raises(QualityError, match="reads an encoder's vectors, and this is another kind of model"):
        load_predictor(path)


def test_files_that_have_none(bundled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QualityError, match=rf"^{bundled_model}: a model that has no predictor of quality in it"):
        load_predictor(bundled_model)
    path = embedded(causal(bundled_model), bundled_model, tmp_path)
    raw = path.read_bytes()
    # The length before the predictor's bytes is too large.
    place = raw.index(KEY.encode()) + len(KEY) + 16
    assert raw[place + 16 : place + 17] == b"{"
    path.write_bytes(raw[:place] + (1 << 40).to_bytes(8, "little") + raw[place + 8 :])
    with pytest.raises(QualityError, match="cut off"):
        load_predictor(path)
    monkeypatch.setattr("archroute_edge.quality._predictor_file.MOST_BYTES", 100)
    monkeypatch.setattr("archroute_edge.quality._embedded._ALIGNMENT", 8)
    with pytest.raises(QualityError, match="more than 100 bytes"):
        load_predictor(path)
    path.write_bytes(raw[:place])
    with pytest.raises(QualityError, match=str(path)):
        load_predictor(path)
