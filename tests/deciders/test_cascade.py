"""A cascade: the encoder alone where it is sure, the language model where it is not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Router
from archroute_edge.deciders import SWITCH_OVER_KEY, Calibration, find_models, settings_without_meaning, tempered
from archroute_edge.errors import EngineError, ModelFileError, ModelNotFoundError, SettingsError
from tests.deciders.test_encoder import MESSAGES, ROUTES
from tests.engine.gguf_file import FLOAT32, read_gguf


def cascade(encoder: Path, model: Path, switch_over: float | None = None) -> Router:
    return Router(ROUTES, model=f"{encoder}+{model}", prefix_cache=False, threads=1, switch_over=switch_over)


@pytest.fixture
def no_model(tmp_path: Path) -> Path:
    """A file that is no model, so that opening it fails."""
    path = tmp_path / "no-model.gguf"
    path.write_bytes(b"this is no model")
    return path


def test_a_sure_encoder_never_opens_the_model(random_encoder: Path, no_model: Path) -> None:
    """Not when the router is made, not for a decision, not for a batch or a warm-up."""
    with cascade(random_encoder, no_model, 0.0) as router, Router(ROUTES, model=random_encoder, prefix_cache=False) as alone:
        router.warm()
        assert router.route(MESSAGES[0], scores=True).scores == alone.route(MESSAGES[0], scores=True).scores
        decisions = router.route_many(MESSAGES)
        assert {decision.decided_by for decision in decisions} == {random_encoder.name}
        assert router.n_ctx == 0
        # The same file is opened as soon as it is needed.
        router._decider.switch_over = 1.0  # type: ignore[attr-defined]
        for _ in range(2):
            with pytest.raises(ModelFileError, match="no-model"):
                router.route(MESSAGES[0])


def test_an_unsure_encoder_asks_the_model(random_encoder: Path, random_model: Path) -> None:
    """The answer is the model's own; both models' work is counted."""
    with (
        cascade(random_encoder, random_model, 1.0) as router,
        Router(ROUTES, model=random_model, prefix_cache=False, threads=1) as model,
        Router(ROUTES, model=random_encoder, prefix_cache=False) as encoder,
    ):
        for message in MESSAGES[:3]:
            found, second, first = router.route(message, scores=True), model.route(message, scores=True), encoder.route(message)
            assert (found.route, found.decided_by, found.prompt_format) == (second.route, random_model.name, "card")
            assert found.scores == pytest.approx(second.scores, abs=1e-4)
            assert found.tokens.prompt == second.tokens.prompt + first.tokens.prompt
            assert found.tokens.evaluated == found.tokens.prompt - found.tokens.reused + found.tokens.answer
            assert found.timings.total_ms >= found.timings.evaluate_ms
        assert router.n_ctx == model.n_ctx
        assert router.warm().tokens == model.warm().tokens + encoder.warm().tokens


def test_the_threshold_parts_the_messages(random_encoder: Path, random_model: Path) -> None:
    """In one batch, each in its place: at the threshold the encoder decides."""
    with Router(ROUTES, model=random_encoder, prefix_cache=False) as encoder:
        confidences = [decision.confidence for decision in encoder.route_many(MESSAGES)]
    threshold = sorted(confidences)[len(confidences) // 2]
    with cascade(random_encoder, random_model, threshold) as router:
        deciders = [decision.decided_by for decision in router.route_many(MESSAGES)]
    expected = [(random_encoder if confidence >= threshold else random_model).name for confidence in confidences]
    assert deciders == expected
    assert len(set(deciders)) == 2


def test_the_encoder_knows_its_own_threshold(random_encoder: Path, no_model: Path, tmp_path: Path) -> None:
    """Unless another is given; one that states none switches at 0.8."""
    file = read_gguf(random_encoder)
    with cascade(random_encoder, no_model) as router:
        assert router._decider.switch_over == 0.8  # type: ignore[attr-defined]
    file.set(SWITCH_OVER_KEY, FLOAT32, 0.0)
    sure = file.write(tmp_path / "sure.gguf")
    with cascade(sure, no_model) as router:
        assert router.route(MESSAGES[0]).decided_by == "sure.gguf"
    with cascade(sure, no_model, 1.0) as router, pytest.raises(ModelFileError):
        router.route(MESSAGES[0])


def test_settings_of_prompts_reach_the_model(random_encoder: Path, random_model: Path) -> None:
    model = f"{random_encoder}+{random_model}"
    with Router(ROUTES, model=model, prefix_cache=False, threads=1, switch_over=1.0, prompt_format="gateway") as router:
        assert router.route(MESSAGES[0]).prompt_format == "gateway"


def test_each_in_its_place(random_encoder: Path, random_model: Path) -> None:
    """Two models of one kind, or the wrong way round."""
    with pytest.raises(ModelFileError, match="is no sentence encoder; name an encoder"):
        cascade(random_model, random_encoder)
    with cascade(random_encoder, random_encoder, 1.0) as router, pytest.raises(ModelFileError, match="cannot write an answer"):
        router.route(MESSAGES[0])


@pytest.mark.parametrize("name", ["tiny+tiny+tiny", "+tiny", "tiny+", "+"])
def test_names_that_are_no_cascade(name: str) -> None:
    with pytest.raises(SettingsError, match=r"a cascade is written ENCODER\+MODEL"):
        Router(ROUTES, model=name)


def test_a_missing_model_is_missed_at_once(random_encoder: Path) -> None:
    """A typing error must not wait for the first unsure decision."""
    with pytest.raises(ModelNotFoundError, match="no model is called 'nowhere'"):
        Router(ROUTES, model=f"{random_encoder}+nowhere")


def test_a_file_with_a_plus_in_its_name(random_encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a+b.gguf"
    shutil.copy(random_encoder, path)
    for name in (str(path), path):
        with Router(ROUTES, model=name, prefix_cache=False) as router:
            assert router.route("x").decided_by == "a+b.gguf"


@pytest.mark.parametrize("value", [-0.1, 1.1, True, float("nan")])
def test_thresholds_that_cannot_be(random_encoder: Path, random_model: Path, value: float) -> None:
    with pytest.raises(SettingsError, match="it must be a number from 0 to 1"):
        cascade(random_encoder, random_model, value)


def test_a_threshold_for_one_model_alone(random_encoder: Path) -> None:
    with pytest.raises(SettingsError, match="switch_over is about a cascade"):
        Router(ROUTES, model=random_encoder, switch_over=0.5)


GIVEN: dict[str, Any] = {
    "switch_over": 0.5,
    "decoder": "grammar",
    "n_ctx": 4096,
    "flash_attention": False,
    "kv_type": "f32",
    "engine": "llama.cpp",
    "budget": 300,
    "prompt_format": "gateway",
    "threads": 1,
    "gpu_layers": 0,
}


@pytest.mark.parametrize("name", GIVEN)
def test_settings_that_say_nothing_are_those_that_are_refused(name: str, random_encoder: Path, random_model: Path) -> None:
    """Would break if a command that leaves them out for one of two models kept one, or took one away from a model."""
    for model in (str(random_encoder), str(random_model), f"{random_encoder}+{random_model}"):
        refusal = None
        try:
            Router(ROUTES, model=model, prefix_cache=False, **{name: GIVEN[name]}).close()
        except SettingsError as exc:
            refusal = str(exc)
        assert (refusal is not None) == (name in settings_without_meaning(find_models(model))), (model, refusal)


def test_settings_that_say_nothing_to_a_remote_model(random_encoder: Path) -> None:
    remote = "http://gpu-box?vocabulary=tiny#model"
    context = {"decoder", "n_ctx", "flash_attention", "kv_type"}
    assert settings_without_meaning(find_models(remote)) == {*context, "switch_over", "threads", "gpu_layers", "engine"}
    assert settings_without_meaning(find_models(f"{random_encoder}+{remote}")) == context


def test_closed(random_encoder: Path, random_model: Path) -> None:
    """Before and after the model was needed."""
    for needed in (False, True):
        router = cascade(random_encoder, random_model, 1.0)
        if needed:
            router.route(MESSAGES[0])
        router.close()
        with pytest.raises(EngineError, match="has been closed"):
            router.route(MESSAGES[0])


def test_a_calibration_of_the_encoder(random_encoder: Path, no_model: Path, random_model: Path) -> None:
    """Calibrated confidences are compared with its switch-over, given on; the language model's own are left as they are."""
    both = f"{random_encoder}+{random_model}"
    with Router(ROUTES, model=random_encoder, prefix_cache=False) as alone:
        plain = alone.route(MESSAGES[0], scores=True)
        fitted = Calibration(0.25, 0.0, "e", alone.model_fingerprint, "none", switch_over=0.0)
    assert plain.scores is not None
    expected = tempered(plain.scores, 0.25)
    with Router(ROUTES, model=f"{random_encoder}+{no_model}", prefix_cache=False, calibration=fitted) as router:
        found = router.route(MESSAGES[0], scores=True)
        assert found.scores == pytest.approx(expected)
        assert found.confidence == pytest.approx(expected[found.route])
        assert router.route(MESSAGES[0]).scores is None
    between = replace(fitted, switch_over=(plain.confidence + expected[plain.route]) / 2)
    assert plain.confidence < (between.switch_over or 0)
    with Router(ROUTES, model=both, prefix_cache=False, threads=1, calibration=between) as router:
        assert router.route(MESSAGES[0]).decided_by == random_encoder.name
    with Router(ROUTES, model=both, prefix_cache=False, threads=1, calibration=between, switch_over=1.0) as router:
        found = router.route(MESSAGES[0])
        assert found.decided_by == random_model.name
        with Router(ROUTES, model=random_model, prefix_cache=False, threads=1) as model:
            assert found.confidence == pytest.approx(model.route(MESSAGES[0]).confidence, abs=1e-4)
    bounded = replace(fitted, other_below=1.0)
    with Router(ROUTES, model=both, prefix_cache=False, calibration=bounded) as router:
        found = router.route(MESSAGES[0])
        assert (found.route, found.reason, found.decided_by) == ("other", "low_confidence", random_encoder.name)
