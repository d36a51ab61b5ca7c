"""Kernels are tried before they are used: real child processes that die, and the order in which choices are made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archroute_edge import Route, Router
from archroute_edge.cli import doctor, main
from archroute_edge.engine import KernelVerdict, chosen_kernels
from archroute_edge.engine import _cpu as cpu
from archroute_edge.engine import _kernel_trial as kernel_trial
from archroute_edge.engine._kernel_trial import run_worker, try_kernels
from archroute_edge.engine._trials import TrialRun
from archroute_edge.errors import EngineError, SettingsError
from archroute_edge.system import cache_folder

DYING_WORKER = Path(__file__).parent / "dying_worker"
PROGRAM = [sys.executable, "-m", "archroute_edge.cli"]

Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def trials(tmp_path: Path) -> Callable[[], list[str]]:
    """The kernels of every trial that child processes were started for, in order."""
    path = tmp_path / "trials"
    return lambda: path.read_text().split() if path.exists() else []


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """Run ``archroute`` in a fresh cache folder, with kernels that die in the trial as ``dying`` says."""

    def call(*args: str, dying: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(DYING_WORKER), *sys.path[1:]]),
            "ARCHROUTE_CACHE_DIR": str(tmp_path / "fresh"),
            "DYING_KERNELS": dying,
            "TRIALS": str(tmp_path / "trials"),
            **settings,
        }
        command = [*PROGRAM, *args]
        return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=False)

    return call


@pytest.fixture
def fresh_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process knows of no verdict, and neither does its cache folder."""
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(tmp_path / "fresh"))
    kernel_trial._verdict_for.cache_clear()
    yield
    kernel_trial._verdict_for.cache_clear()


ROUTE = ("route", "fix the bug in this function", "--model", "tiny", "--json")


def test_the_next_safer_kernels_are_used_when_a_trial_dies(process: Process, tmp_path: Path) -> None:
    result = process(*ROUTE, dying="repack=SIGILL")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["route"] == "bug_fixing"
    (kept,) = (tmp_path / "fresh").glob("kernels-*.json")
    verdict = json.loads(kept.read_bytes())
    assert (verdict["kernels"], verdict["ruled_out"]) == ("plain", {"repack": "SIGILL"})


def test_one_line_is_said_when_every_trial_dies(process: Process) -> None:
    result = process(*ROUTE, dying="repack=exit3 plain=exit3")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("archroute: error: llama.cpp cannot compute on this machine")
    assert "ended with exit code 3" in line
    assert "--no-binary llama-cpp-python llama-cpp-python==" in line


@pytest.mark.usefixtures("fresh_verdicts")
def test_doctor_says_what_was_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(DYING_WORKER))
    monkeypatch.setenv("DYING_KERNELS", "repack=SIGSEGV")
    monkeypatch.setattr(doctor, "decide_with", lambda path: doctor.TrialDecision("other", 1.0, ("CPU",)))
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)["kernels"]
    assert told["used"].startswith("plain: ")
    assert told["ruled out: repack"] == "SIGSEGV"


def test_doctor_names_the_problem_when_every_trial_dies(process: Process) -> None:
    result = process("doctor", "--json", dying="repack=SIGILL plain=SIGILL")
    assert result.returncode == 2, result.stderr
    report = json.loads(result.stdout)
    assert any("SIGILL" in problem and "pip install" in problem for problem in report["problems"])
    assert report["llama_cpp"]["compiled"]


def test_a_trial_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: Callable[[], list[str]]) -> None:
    monkeypatch.setattr("archroute_edge.engine._trials.TIME_LIMIT_S", 4)
    monkeypatch.setenv("PYTHONPATH", str(DYING_WORKER))
    monkeypatch.setenv("DYING_KERNELS", "repack=hang")
    monkeypatch.setenv("TRIALS", str(tmp_path / "trials"))
    run = run_worker("repack", False)
    assert run is not None and run.hung and run.began
    assert "models" not in run.steps
    verdict = try_kernels(start=lambda kernels, _: run if kernels == "repack" else passed())
    assert (verdict.kernels, verdict.ruled_out) == ("plain", {"repack": "hung for 4 s"})


def test_amx_has_to_be_faster_to_be_used(process: Process, tmp_path: Path) -> None:
    # On a CPU without it the buffer of repacked weights stands in for AMX's, and is raced in the same way.
    result = process(*ROUTE, STANDS_FOR_AMX="CPU_REPACK")
    assert result.returncode == 0, result.stderr
    (kept,) = (tmp_path / "fresh").glob("kernels-*.json")
    verdict = json.loads(kept.read_bytes())
    if verdict["kernels"] == "amx":
        assert verdict["ruled_out"] == {}
    else:
        assert verdict["kernels"] == "repack"
        assert verdict["ruled_out"]["amx"].startswith("not faster (")


def test_a_trial_is_made_once(process: Process, trials: Callable[[], list[str]]) -> None:
    for _ in range(2):
        assert process(*ROUTE).returncode == 0
    assert trials() == ["repack"]


def test_a_verdict_of_death_is_kept_as_well(process: Process, trials: Callable[[], list[str]]) -> None:
    for _ in range(2):
        assert process(*ROUTE, dying="repack=SIGILL plain=SIGILL").returncode == 2
    assert trials() == ["repack", "plain"]


@pytest.mark.parametrize("changed", ["libraries", "cpu"])
def test_another_build_or_cpu_is_tried_again(fresh_verdicts: None, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    started = count_trials(monkeypatch)
    chosen_kernels()
    kernel_trial._verdict_for.cache_clear()
    chosen_kernels()
    assert started == ["repack"]
    place = "_trials" if changed == "cpu" else "_kernel_trial"
    monkeypatch.setattr(f"archroute_edge.engine.{place}.{changed}", lambda: [("libggml-cpu.so", 1, 2)])
    kernel_trial._verdict_for.cache_clear()
    chosen_kernels()
    assert started == ["repack", "repack"]


def test_a_rebuilt_library_has_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libggml-cpu.so"
    library.write_bytes(b"old")
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    before = cpu.libraries()
    library.write_bytes(b"new")
    os.utime(library, ns=(1, 1))
    assert cpu.libraries() != before
    assert len(before) == 1


def test_the_cpu_is_always_described_in_the_same_words() -> None:
    assert cpu.cpu() == cpu.cpu()
    assert len("".join(cpu.cpu())) > len("x86_64")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"kernels": "fastest"}', b'{"kernels": "amx", "proved": 1, "surplus": 1}']
)
def test_a_damaged_verdict_is_made_again(fresh_verdicts: None, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    started = count_trials(monkeypatch)
    chosen_kernels()
    (kept,) = cache_folder().glob("kernels-*.json")
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    kernel_trial._verdict_for.cache_clear()
    chosen_kernels()
    assert started == ["repack", "repack"]
    assert kept.read_bytes() == whole


def test_without_a_folder_the_trial_is_made_once_a_process(fresh_verdicts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder().write_bytes(b"a file, and no folder")
    started = count_trials(monkeypatch)
    assert chosen_kernels() == chosen_kernels()
    assert started == ["repack"]


@pytest.mark.usefixtures("fresh_verdicts")
def test_a_folder_that_others_can_write_to_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    started = count_trials(monkeypatch)
    chosen_kernels()
    cache_folder().chmod(0o777)
    kernel_trial._verdict_for.cache_clear()
    chosen_kernels()
    assert started == ["repack", "repack"]


def test_the_safest_kernels_are_used_unproved_if_no_child_can_be_started(
    fresh_verdicts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a program bundled without our hook.
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    verdict = chosen_kernels()
    assert (verdict.kernels, verdict.proved) == ("plain", False)
    assert not cache_folder().exists()


def test_another_program_in_the_place_of_python_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Hosts that embed Python name themselves as its executable.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert try_kernels() == KernelVerdict(
        "plain", proved=False, ruled_out={"amx": "not tried (no child process)", "repack": "not tried (no child process)"}
    )


def test_python_raises_an_engine_error(fresh_verdicts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_trial, "run_worker", None)
    monkeypatch.setattr(kernel_trial, "try_kernels", lambda wanted: try_kernels(wanted, start=lambda *_: died(-4)))
    from archroute_edge.engine import _backend as backend

    backend.initialise.cache_clear()
    with pytest.raises(EngineError, match=r"SIGILL.*pip install"):
        Router([Route("a", "first"), Route("b", "second")], model="mini")
    kernel_trial._verdict_for.cache_clear()
    monkeypatch.undo()
    backend.initialise()


def test_the_environment_may_name_the_kernels(process: Process, trials: Callable[[], list[str]]) -> None:
    result = process(*ROUTE, ARCHROUTE_CPU_KERNELS="plain")
    assert result.returncode == 0, result.stderr
    assert trials() == ["plain"]


def test_kernels_that_the_environment_names_are_proved_too(process: Process) -> None:
    result = process(*ROUTE, dying="amx=SIGSEGV", ARCHROUTE_CPU_KERNELS="amx")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.endswith("(SIGSEGV) with ARCHROUTE_CPU_KERNELS=amx; unset ARCHROUTE_CPU_KERNELS")


def test_an_unknown_name_is_refused(fresh_verdicts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHROUTE_CPU_KERNELS", "fastest")
    with pytest.raises(SettingsError, match=r"'fastest'; it can be auto, amx, repack or plain"):
        chosen_kernels()


# Which choice is made, with children that only say how they ended.


def passed(*, buffers: tuple[str, ...] = ("CPU_REPACK",), **later: Mapping[str, Any]) -> TrialRun:
    steps = {
        "python": {},
        "library": {"buffers": list(buffers), "features": "CPU : AVX2 = 1", "has_amx": "AMX" in buffers},
        "products": {},
        "models": {},
    }
    return TrialRun({**steps, **later}, 0)


def died(exit_code: int, *steps: str) -> TrialRun:
    return TrialRun({name: {"buffers": ["AMX", "CPU_REPACK"], "features": ""} for name in ("python", *steps)}, exit_code)


WITH_AMX = ("AMX", "CPU_REPACK")


@pytest.mark.parametrize(
    ("runs", "kernels", "ruled_out"),
    [
        ([passed()], "repack", {}),
        ([passed(buffers=WITH_AMX, amx={"gain": 0.49, "faster": False})], "repack", {"amx": "not faster (0.49 times as fast)"}),
        ([passed(buffers=WITH_AMX, amx={"gain": 1.02, "faster": False})], "repack", {"amx": "not faster (1.02 times as fast)"}),
        ([passed(buffers=WITH_AMX, amx={"gain": 1.6, "faster": True})], "amx", {}),
        ([TrialRun(passed(buffers=WITH_AMX).steps, -11)], "repack", {"amx": "SIGSEGV"}),
        ([passed(buffers=WITH_AMX, unsound={"what": "Q8_0 is wrong"})], "repack", {"amx": "Q8_0 is wrong"}),
        ([died(-4, "library"), passed(buffers=WITH_AMX)], "plain", {"repack": "SIGILL", "amx": "not tried"}),
        ([died(-4), died(-6)], "", {"repack": "SIGILL", "plain": "SIGABRT"}),
        ([died(3221225501), passed()], "plain", {"repack": "illegal instruction"}),
        ([died(3), passed()], "plain", {"repack": "ended with exit code 3"}),
        ([died(0), passed()], "plain", {"repack": "ended with exit code 0"}),
        ([None], "plain", {"repack": "not tried (no child process)", "amx": "not tried (no child process)"}),
    ],
)
def test_which_kernels_are_chosen(runs: list[TrialRun | None], kernels: str, ruled_out: dict[str, str]) -> None:
    following = iter(runs)
    verdict = try_kernels(start=lambda *_: next(following))
    assert (verdict.kernels, dict(verdict.ruled_out)) == (kernels, ruled_out)
    assert not list(following)


def count_trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels of every trial from now on; the trials pass at once."""
    started: list[str] = []

    def start(kernels: str, _amx_as_well: bool) -> TrialRun:
        started.append(kernels)
        return passed()

    monkeypatch.setattr(kernel_trial, "try_kernels", lambda wanted: try_kernels(wanted, start))
    return started
