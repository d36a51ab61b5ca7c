"""What a fresh installation shows, with the model that comes with it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import CARD_MESSAGE


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for one another make tests slow where others use the cores too."""
    for decider in ("generative", "encoder"):
        monkeypatch.setattr(f"archroute_edge.deciders._{decider}.physical_cores", lambda: 1)


def test_the_model_cards_example_is_a_bug_to_fix(run: Run, bundled_model: Path) -> None:
    for model in ("tiny", str(bundled_model)):
        result = run("route", CARD_MESSAGE, "--model", model)
        assert result.exit_code == 0
        assert result.stdout == "bug_fixing -> openai/gpt-4o\n"


def test_without_options_the_bundled_encoder_is_taken_and_named(run: Run) -> None:
    result = run("route", CARD_MESSAGE, "--json")
    assert result.exit_code == 0
    decision = json.loads(result.stdout)
    assert (decision["decided_by"], decision["prompt_format"]) == ("mini", None)
    (said,) = [line for line in result.stderr.splitlines() if "mini" in line and "archroute models pull arch-router" in line]
    assert said.startswith("using mini")
    assert "no --config given" in result.stderr


def test_it_agrees_with_the_guess_in_one_evaluation(run: Run) -> None:
    tokens = json.loads(run("route", CARD_MESSAGE, "--model", "tiny", "--json").stdout)["tokens"]
    assert tokens["evaluated"] == tokens["prompt"] - tokens["reused"] + tokens["answer"]
    warm = json.loads(run("route", CARD_MESSAGE, "--model", "tiny", "--json").stdout)["tokens"]
    assert warm["evaluations"] == 1
    assert 0 < warm["reused"] < warm["prompt"]


def test_demo(run: Run) -> None:
    result = run("demo")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    first, second, third = (part.splitlines()[1:-1] for part in result.stdout.split("\n\n"))
    # The same messages, in columns of one width, on other routes.
    assert [line[:31] for line in first] == [line[:31] for line in second]
    assert not {line[31:].split()[0] for line in first[1:-1]} & {line[31:].split()[0] for line in second[1:-1]} - {"other"}
    heading, *rows = third
    assert heading.split() == ["message", "route", "conf.", "reused", "evaluated"]
    # The routes are evaluated once, for the first message.
    assert [int(line.split()[-2]) > 100 for line in rows] == [False] + [True] * (len(rows) - 1)


def test_demo_as_json(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are called like its models in the working folder are not meant."""
    for name in ("mini", "tiny"):
        (tmp_path / name).write_text("a note")
    monkeypatch.chdir(tmp_path)
    decisions = [json.loads(line) for line in run("demo", "--json").stdout.splitlines()]
    assert {decision["decided_by"] for decision in decisions} == {"mini", "tiny"}
    by_mini = [decision for decision in decisions if decision["decided_by"] == "mini"]
    half = len(by_mini) // 2
    assert [each["messages"] for each in by_mini[:half]] == [each["messages"] for each in by_mini[half:]]
    assert {"other", "bug_fixing"} <= {decision["route"] for decision in by_mini}
    assert any(decision["confidence"] < 0.9 for decision in by_mini)
    assert all({"tokens", "timings"} <= set(decision) for decision in decisions)


@pytest.mark.parametrize("name", ["demo_tasks.yaml", "demo_departments.yaml"])
def test_nothing_is_said_against_the_demos_routes(run: Run, name: str) -> None:
    with resources.as_file(resources.files("archroute_edge") / "data" / name) as path:
        assert run("check", str(path)).stderr == ""


def test_from_any_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("route", CARD_MESSAGE, "--model", "tiny").stdout.startswith("bug_fixing ->")


@pytest.mark.usefixtures("tried_kernels")
def test_doctor_finds_nothing_wrong(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.stdout
    assert "problems: none" in result.stdout
