"""The trainings' commands: what is wrong costs one line and exit status 2, and no folder is replaced that is no checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.mini.commands import main as mini
from training.quality.commands import main as quality
from training.tiny.commands import main as tiny

OUTCOMES = "".join(f'{{"text": "hello {n}", "category": "a", "scores": {{"small": {n % 2}, "large": 1}}}}\n' for n in range(20))


def refused(command: object, *arguments: object) -> str:
    """The last line on stderr, after the exit status 2."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    path = tmp_path / "graded.jsonl"
    path.write_text(OUTCOMES, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["causal", "classifier", "package"])
def test_wrong_outcomes_are_told_in_one_line(tmp_path: Path, outcomes: Path, command: str) -> None:
    given = (quality, command, tmp_path, "-o", tmp_path / "out")
    assert refused(*given, tmp_path / "no.jsonl").endswith("no.jsonl: cannot be read (No such file or directory)")
    assert refused(*given, outcomes, "--leave-out", "b").endswith("no prompt has the category 'b'; there are a")


@pytest.mark.parametrize("command", ["causal", "classifier"])
def test_there_is_nothing_to_resume(tmp_path: Path, outcomes: Path, command: str) -> None:
    said = refused(quality, command, tmp_path, outcomes, "-o", tmp_path / "out", "--resume")
    assert said.endswith("has no state of a training beside it; leave it out")


def test_missing_data_and_a_missing_extra_are_told(tmp_path: Path, outcomes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(tiny, "train", "--data", tmp_path, "-o", tmp_path / "out")
    assert "No such file or directory" in said and "clinc150" in said
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refused(quality, "classifier", tmp_path, outcomes, "-o", tmp_path / "out")
    assert said == "Error: needs torch; install it with: pip install -e '.[tiny]'"


@pytest.mark.parametrize(("command", "arguments"), [(tiny, ("train", "--data")), (mini, ("train", "--data"))])
def test_a_folder_that_is_no_checkpoint_is_not_replaced(tmp_path: Path, command: object, arguments: tuple[str, ...]) -> None:
    """It would be removed when the first checkpoint is written."""
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    assert "holds something that is no checkpoint" in refused(command, *arguments, tmp_path, "-o", tmp_path)
