"""The suite with other Pythons: which are found, what is run with them, and what is said of it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tools.release import suite
from tools.release.pythons import declared_versions, find_python


@pytest.fixture
def pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of pyenv's versions, with its commands on PATH; there are none yet."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "pyenv" / "shims"))
    return tmp_path / "pyenv" / "versions"


def interpreter(path: Path, version: str, code: int = 0) -> Path:
    """Something that says to be a Python of that version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\nexit {code}\n")
    path.chmod(0o755)
    return path


class TestFinding:
    def test_one_on_the_path(self, pyenv: Path) -> None:
        found = interpreter(pyenv.parent / "shims" / "python3.12", "3.12")
        assert find_python("3.12") == found
        assert find_python("3.13") is None

    def test_a_command_of_pyenv_that_runs_nothing_is_passed_over(self, pyenv: Path) -> None:
        interpreter(pyenv.parent / "shims" / "python3.12", "pyenv: python3.12: command not found", 127)
        interpreter(pyenv / "3.12.9" / "bin" / "python3.12", "3.12")
        newest = interpreter(pyenv / "3.12.10" / "bin" / "python3.12", "3.12")
        assert find_python("3.12") == newest

    def test_one_that_does_not_run_or_is_another_is_passed_over(self, pyenv: Path) -> None:
        interpreter(pyenv / "3.12.3" / "bin" / "python3.12", "3.11")
        interpreter(pyenv / "3.12.2" / "bin" / "python3.12", "3.12").write_text("no program")
        assert find_python("3.12") is None
        last = interpreter(pyenv / "3.12.1" / "bin" / "python3.12", "3.12")
        assert find_python("3.12") == last

    def test_the_metadata_names_the_oldest_python_that_it_allows(self) -> None:
        assert importlib.metadata.metadata("archroute-edge")["Requires-Python"] == f">={declared_versions()[0]}"
        assert f"{sys.version_info.major}.{sys.version_info.minor}" in declared_versions()

    def test_a_python_that_was_asked_for_must_be_there(self, pyenv: Path) -> None:
        interpreter(pyenv / "3.12.1" / "bin" / "python3.12", "3.12")
        with pytest.raises(click.UsageError, match=r"Python 3\.13 is neither on PATH nor installed by pyenv"):
            suite.find_pythons(["3.12", "3.13"])
        assert list(suite.find_pythons(["all"])) == ["3.12"]


def test_the_oldest_version_is_the_one_that_the_metadata_allows() -> None:
    assert suite.oldest_allowed("huggingface-hub") == "huggingface-hub==1.32"
    for package in ("llama-cpp-python", "fastapi", "no-such-package"):
        with pytest.raises(click.BadParameter, match="does not require an oldest version"):
            suite.oldest_allowed(package)


class TestRunning:
    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
        """What was installed, which is nothing: the tests run in this environment."""
        installed: list[Sequence[str]] = []

        def make(folder: Path, python: Path, requirements: Sequence[str], wheels: Path) -> Path:
            installed.append(requirements[2:])
            if requirements[2:] == ["numpy==1.26"]:
                raise subprocess.CalledProcessError(1, "pip")
            return Path(sys.executable)

        monkeypatch.setattr(suite, "make_environment", make)
        return installed

    @pytest.fixture
    def tests(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        # These need none of the plug-ins here, which take seconds to import.
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        path = tmp_path / "test_small.py"
        path.write_text("def test_right(): pass\ndef test_wrong(): assert False\n")
        return str(path)

    def test_both_ends_of_a_dependency(self, made: list[Sequence[str]], tests: str) -> None:
        done = CliRunner().invoke(suite.main, ["--ends-of", "huggingface-hub", "--", tests, "-k", "right"])
        assert done.exit_code == 0, done.output
        assert made == [["huggingface-hub==1.32"], []]
        said = done.stdout.splitlines()[-2:]
        hub = importlib.metadata.version("huggingface-hub")
        for line in said:
            assert f", huggingface-hub {hub}: passed (" in line
            assert "1 passed" in line

    def test_one_that_fails_is_told_and_the_others_run_all_the_same(self, made: list[Sequence[str]], tests: str) -> None:
        done = CliRunner().invoke(suite.main, ["--ends-of", "numpy", "--", tests])
        assert (done.exit_code, made) == (1, [["numpy==1.26"], []])
        first, second = done.stdout.splitlines()[-2:]
        assert "numpy==1.26: FAILED" in first
        assert "the environment could not be made" in first
        assert ": FAILED (" in second
        assert "1 failed, 1 passed" in second

    def test_a_suite_that_was_killed_is_told(self, made: list[Sequence[str]], tests: str) -> None:
        Path(tests).write_text("import os\ndef test_deadly(): os.kill(os.getpid(), 9)\n")
        done = CliRunner().invoke(suite.main, ["--", tests])
        assert done.exit_code == 1
        assert "ended by SIGKILL" in done.stdout.splitlines()[-1]
