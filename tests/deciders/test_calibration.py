"""Calibrations: their file, what they change of a decision, and whose they are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from archroute_edge import Calibration, Route, Router, RoutingConfig
from archroute_edge.deciders import tempered
from archroute_edge.errors import CalibrationError

CALIBRATION = Calibration(2.0, 0.25, "some.gguf", "abc", "card", 480, "2026-01-31", {"folds": 5})
MESSAGES = ("my test fails with an IndexError", "write a function that sorts a list", "can you help me", "faster please", "no")


def test_a_temperature_takes_the_root_of_the_odds() -> None:
    corrected = tempered({"a": 0.8, "b": 0.2, "other": 0.0}, 2.0)
    assert corrected["a"] / corrected["b"] == pytest.approx(math.sqrt(0.8 / 0.2))
    assert sum(corrected.values()) == pytest.approx(1)
    assert tempered({"a": 0.7, "other": 0.3}, 1.0) == pytest.approx({"a": 0.7, "other": 0.3})


def test_below_the_bound_the_answer_is_other() -> None:
    scores = {"a": 0.5, "b": 0.3, "other": 0.2}
    kept = Calibration(1.0, 0.49, "", "", "").apply("a", scores)
    assert (kept.route, kept.reason) == ("a", None)
    assert kept.confidence == pytest.approx(0.5)
    given_up = Calibration(1.0, 0.51, "", "", "").apply("a", scores)
    assert (given_up.route, given_up.reason) == ("other", "low_confidence")
    assert given_up.confidence == pytest.approx(0.2)
    assert Calibration(1.0, 0.51, "", "", "").apply("other", scores).reason is None


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path / "calibration.yaml")
    assert Calibration.load(tmp_path / "calibration.yaml") == CALIBRATION


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0}, "the temperature is 0.0; it must be from 0.05 to 20"),
        ({"temperature": ".nan"}, "temperature must be a number, not text"),
        ({"temperature": float("inf")}, "temperature must be a finite decimal number"),
        ({"other_below": 2}, "other_below is 2.0; it must be from 0 to 1"),
        ({"model": "tiny"}, "model must be a mapping"),
        ({"version": 2}, "version 2 of a calibration"),
        ({"temprature": 1}, "unknown key 'temprature'"),
        ({"n_cases": True}, "n_cases must be a whole number"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "calibration.yaml"
    path.write_text(yaml.safe_dump({**CALIBRATION.to_dict(), **change}), encoding="utf-8")
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"a: [", b"\xff", b"!!python/object:os.system {}"])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.yaml"
    path.write_bytes(content)
    for place in (path, tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(CalibrationError, match=str(place)):
            Calibration.load(place)


def test_a_router_answers_with_calibrated_probabilities(card_config: RoutingConfig) -> None:
    """Would break if confidence were calibrated and scores not, or a route below the bound kept its model."""
    with Router(config=card_config, model="tiny") as router:
        plain = [router.route(message, scores=True) for message in MESSAGES]
        own = Calibration(3.0, 0.0, router.model_file.name, router.model_fingerprint, "card")
    surest = sorted(tempered(each.scores or {}, 3.0)[each.route] for each in plain if each.matched)
    bounded = replace(own, other_below=surest[len(surest) // 2])
    with Router(config=card_config, model="tiny", calibration=own) as router:
        mild = [router.route(message, scores=True) for message in MESSAGES]
        assert router.route(MESSAGES[0]).scores is None
    with Router(config=card_config, model="tiny", calibration=bounded) as router:
        strict = [router.route(message, scores=True) for message in MESSAGES]
    for before, tempered_only in zip(plain, mild, strict=True):
        assert (tempered_only.route, tempered_only.model, tempered_only.reason) == (before.route, before.model, None)
        assert tempered_only.scores == pytest.approx(tempered(before.scores or {}, 3.0), abs=2e-3)
        assert tempered_only.confidence == (tempered_only.scores or {})[tempered_only.route]
    given_up = [each for each in strict if each.reason]
    assert 0 < len(given_up) < len(surest)
    for each in given_up:
        assert (each.route, each.matched, each.model, each.reason) == (
            "other",
            False,
            card_config.default_model,
            "low_confidence",
        )
        assert each.confidence == (each.scores or {})["other"]
        assert each.to_dict()["reason"] == "low_confidence"


def test_another_models_calibration_is_refused(random_model: Path, tmp_path: Path) -> None:
    """Would break if a model were corrected by what another one's answers gave."""
    with Router([Route("a")], model=random_model) as router:
        own = Calibration(2.0, 0.0, router.model_file.name, router.model_fingerprint, "card")
    own.save(tmp_path / "own.yaml")
    Router([Route("a")], model=random_model, calibration=tmp_path / "own.yaml").close()
    with pytest.raises(CalibrationError, match=r"fitted for the model some\.gguf, not for random-F32\.gguf"):
        Router([Route("a")], model=random_model, calibration=CALIBRATION)
    with pytest.raises(CalibrationError, match="another file of that name"):
        Router([Route("a")], model=random_model, calibration=replace(own, fingerprint="abc"))
    with pytest.raises(CalibrationError, match=r"prompt format card, random-F32\.gguf is asked in gateway"):
        Router([Route("a")], model=random_model, calibration=own, prompt_format="gateway")
