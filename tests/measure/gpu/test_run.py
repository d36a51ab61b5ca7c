"""The driver: its steps go on after a failure, and what was built stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.install.programs import write_program

RUN = Path(__file__).parents[3] / "tools" / "measure" / "gpu" / "run.sh"

_PYTHON = """
echo "$*" >>"$CALLS"
case "$*" in
    *gpu.build*) [ -z "$FAIL_BUILD" ] || exit 3; mkdir -p "$WORK/site/llama_cpp"; echo log >"$WORK/build.log"; echo '{}';;
    *gpu.bench*) exit ${FAIL_BENCH:-0};;
esac"""


class Driver:
    """run.sh with a Python that notes its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "carried").mkdir()
        self.calls = folder / "calls"
        python = write_program(folder / "bin", "python", _PYTHON)
        self.environment = {**os.environ, "PYTHON": str(python), "WORK": str(folder / "work"), "CALLS": str(self.calls)}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        command = [str(RUN), str(self.folder / "carried"), str(self.folder / "results"), *arguments]
        return subprocess.run(command, env={**self.environment, **variables}, capture_output=True, text=True, check=False)

    def modules(self) -> list[str]:
        return [
            word
            for line in self.calls.read_text().splitlines()
            for word in line.split()
            if word.startswith(("tools.", "pytest"))
        ]


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def test_build_bench_tests(driver: Driver) -> None:
    done = driver.run("--cpu", "--layers", "2")
    assert done.returncode == 0, done.stderr
    assert driver.modules() == ["tools.measure.gpu.build", "tools.measure.gpu.bench", "pytest"]
    calls = driver.calls.read_text().splitlines()
    assert calls[0].endswith(f"{driver.folder / 'carried'} {driver.folder / 'work'} --cpu")
    assert "--layers 2" in calls[2]
    results = {path.name for path in (driver.folder / "results").iterdir()}
    assert {"build.json", "build.log.gz", "doctor.txt", "nvidia-smi.txt", "steps.txt", "tests.txt"} <= results
    # What was built stays, and single steps can be had.
    driver.run("--only", "tests")
    assert driver.modules() == ["pytest"]


def test_it_goes_on_after_a_failure(driver: Driver) -> None:
    done = driver.run(FAIL_BENCH="1")
    assert done.returncode == 1
    assert driver.modules() == ["tools.measure.gpu.build", "tools.measure.gpu.bench", "pytest"]
    assert "bench: status 1" in (driver.folder / "results" / "steps.txt").read_text()


def test_without_a_build_there_is_nothing_to_measure(driver: Driver) -> None:
    done = driver.run(FAIL_BUILD="1")
    assert done.returncode == 1
    assert driver.modules() == ["tools.measure.gpu.build"]


@pytest.mark.parametrize("arguments", [[], ["carried"]])
def test_usage(arguments: list[str]) -> None:
    done = subprocess.run([str(RUN), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run.sh CARRIED RESULTS" in done.stderr


def test_an_unknown_argument(driver: Driver) -> None:
    done = driver.run("--gpu")
    assert (done.returncode, done.stderr) == (2, "error: unknown argument --gpu\n")
