"""``archroute route`` with an encoder, and with a cascade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run, one_line
from tests.evaluation.labelled_cases import case, write_cases


@pytest.fixture
def encoder(random_encoder: Path) -> tuple[str, ...]:
    return "--model", str(random_encoder), "--threads", "1", "--no-prefix-cache"


def test_a_decision(run: Run, encoder: tuple[str, ...], routes: str) -> None:
    result = run("route", "fix this bug", "--config", routes, *encoder, "--scores")
    assert result.exit_code == 0
    first, *scores = result.stdout.splitlines()
    assert first.partition(" -> ")[0] in ("bug_fixing", "traducción", "other")
    assert {line.split()[1] for line in scores} == {"bug_fixing", "traducción", "other"}
    assert "decided by random-encoder.gguf" in result.stderr


LINES: tuple[dict[str, Any], ...] = (
    {"messages": "fix this bug"},
    {"messages": [{"role": "user", "content": "translate a text"}]},
    {"messages": "cook a dinner", "routes": [{"name": "cooking"}]},
    {"messages": [{"role": "nobody", "content": "x"}]},
    {"message": "no messages"},
    {"messages": "word " * 5000},
)


@pytest.mark.parametrize("source", ["file", "pipe"])
def test_a_batch(run: Run, encoder: tuple[str, ...], routes: str, tmp_path: Path, source: str) -> None:
    """Every line has its answer in its place, whatever is wrong with the others."""
    text = "\n".join([json.dumps(line) for line in LINES] * 30) + "\n\nnot JSON\n"
    path = tmp_path / "lines.jsonl"
    path.write_text(text, encoding="utf-8")
    arguments = ["route", "--config", routes, *encoder, "--scores", "--batch"]
    result = run(*arguments, str(path)) if source == "file" else run(*arguments, "-", stdin=text)
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 30 * len(LINES) + 1
    for number, answer in enumerate(answers[:-1]):
        kind = number % len(LINES)
        assert ("error" in answer) == (kind in (3, 4))
        assert kind != 2 or answer["route"] in ("cooking", "other")
        assert (
            answer == answers[kind]
            or {"error"} <= answer.keys()
            or answer["scores"] == pytest.approx(answers[kind]["scores"], abs=1e-3)
        )
    assert answers[3]["error"].startswith("line 4: ")
    assert answers[-1]["error"].startswith(f"line {30 * len(LINES) + 2}:1: not JSON")


def test_a_cascade(run: Run, routes: str, random_encoder: Path, random_model: Path) -> None:
    model = f"{random_encoder}+{random_model}"
    for threshold, expected in (("0", random_encoder.name), ("1", random_model.name)):
        options = ("--threads", "1", "--no-prefix-cache", "--switch-over", threshold)
        result = run("route", "fix this bug", "--config", routes, "--model", model, *options, "--json")
        assert json.loads(result.stdout)["decided_by"] == expected


def test_options_that_mean_nothing(run: Run, encoder: tuple[str, ...], model: tuple[str, ...], routes: str) -> None:
    assert "budget is about a model that is given a prompt" in one_line(
        run("route", "x", "--config", routes, *encoder, "--budget", "100")
    )
    assert "switch_over is about a cascade" in one_line(run("route", "x", "--config", routes, *model, "--switch-over", "0.5"))


@pytest.mark.parametrize("command", ["prompt", "grammar"])
def test_an_encoder_is_given_no_prompt(run: Run, random_encoder: Path, routes: str, command: str) -> None:
    arguments = ("prompt", "x") if command == "prompt" else ("grammar",)
    said = one_line(run(*arguments, "--config", routes, "--model", str(random_encoder)))
    assert said.endswith("a bert encoder, which cannot write an answer; name a causal language model")


def test_the_bundled_encoder_with_the_bundled_model(run: Run, routes: str) -> None:
    """By their names, and each alone."""
    for model, threshold, expected in (("mini", None, "mini"), ("mini+tiny", "0", "mini"), ("mini+tiny", "1", "tiny")):
        options = ("--switch-over", threshold) if threshold else ()
        result = run("route", "fix this bug", "--config", routes, "--model", model, "--threads", "1", *options, "--json")
        assert json.loads(result.stdout)["decided_by"] == expected


def test_cases_and_a_calibration(run: Run, encoder: tuple[str, ...], model: tuple[str, ...], tmp_path: Path) -> None:
    """An encoder and a cascade are evaluated like any model; what is fitted for the encoder alone serves the cascade too."""
    cases = str(write_cases(tmp_path / "cases.jsonl"))
    output = str(tmp_path / "calibration.yaml")
    assert run("calibrate", cases, *encoder, "-o", output, "--json").exit_code == 0
    both = f"{encoder[1]}+{model[1]}"
    report = run("eval", cases, *encoder, "--calibration", output, "--json")
    assert (report.exit_code, json.loads(report.stdout)["models"][0]["prompt_format"]) == (0, "none")
    report = run("eval", cases, "--model", both, *encoder[2:], "--json")
    assert report.exit_code == 0
    assert json.loads(report.stdout)["models"][0]["model"] == "random-encoder.gguf+random-F32.gguf"
    said = one_line(run("calibrate", cases, "-o", output, "--model", both, *encoder[2:]))
    assert said == "a calibration is of one model, and a cascade has two; name its encoder alone"
    fitted = yaml.safe_load(Path(output).read_text(encoding="utf-8"))
    assert set(fitted["cross_validation"]["above_switch_over"]) == {"decided", "accuracy"}
    for switch_over, decides in ((0.0, "random-encoder.gguf"), (1.0, "random-F32.gguf")):
        Path(output).write_text(yaml.safe_dump({**fitted, "switch_over": switch_over}), encoding="utf-8")
        for command in (("route", "fix this bug", "--calibration", output), ("eval", cases, "--calibration", output)):
            result = run(*command, "--model", both, *encoder[2:], "--json")
            assert result.exit_code == 0
            if command[0] == "route":
                assert json.loads(result.stdout)["decided_by"] == decides
    other = run("route", "x", "--calibration", output, "--model", both.replace(encoder[1], "mini"), *encoder[2:])
    assert one_line(other).startswith("the calibration was fitted for the model random-encoder.gguf, not for mini")


def test_a_cascade_may_rely_on_an_encoder_that_is_always_right(run: Run, tmp_path: Path) -> None:
    """Its calibrated confidences are 1, which is not the same as none."""
    texts = ("my test fails with an IndexError", "this function raises a KeyError", "why does my loop never end?")
    cases = write_cases(tmp_path / "cases.jsonl", [case(text, "bug_fixing") for text in texts])
    result = run("calibrate", str(cases), "--model", "mini", "--threads", "1", "-o", str(tmp_path / "calibration.yaml"))
    assert result.exit_code == 0, result.stderr
    assert "a cascade leaves decisions to it from a confidence of 1.000 on: 100.0 % " in result.stdout
    assert yaml.safe_load((tmp_path / "calibration.yaml").read_text(encoding="utf-8"))["switch_over"] == 1.0


@pytest.mark.parametrize("arguments", [("prompt", "x"), ("grammar",)])
def test_auto_is_a_language_model_where_only_one_will_do(run: Run, routes: str, arguments: tuple[str, ...]) -> None:
    """On a fresh machine, where auto is the encoder elsewhere."""
    assert run(*arguments, "--config", routes).stdout == run(*arguments, "--config", routes, "--model", "tiny").stdout != ""
