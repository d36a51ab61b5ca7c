"""Steps of the bench, and callers that ask at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.install.programs import write_program
from tools.measure.gpu import bench
from tools.measure.gpu.callers import measure
from tools.measure.peers.question import Question


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tools that take the place of ours in child processes."""
    folder = tmp_path / "tools" / "measure"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


def test_every_step_is_kept_whatever_becomes_of_it(tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA H100, 580.1, 81559 MiB, 1980 MHz, 2619 MHz, 700.00 W'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (modules / "good.py").write_text("import json, sys; print(json.dumps(sys.argv[1:])); sys.exit(1)")
    (modules / "bad.py").write_text("print('no JSON')")
    report = bench.Report(tmp_path / "bench.json", 30.0)
    report.step("first", "good", ["--rounds", "2"])
    assert report.is_whole
    report.step("second", "bad", [])
    assert not report.is_whole
    first, second = json.loads((tmp_path / "bench.json").read_text())
    assert first["card"]["name"] == "NVIDIA H100" and first["card"]["clocks.sm"] == "1980 MHz"
    assert (first["status"], first["result"]) == (1, ["--rounds", "2"])
    assert first["command"] == "-m tools.measure.good --rounds 2"
    assert second["failure"] == "no JSON: 'no JSON\\n'"


def test_a_step_past_its_time_ends_with_what_it_started(tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_ENDING_S", 0.2)
    (modules / "slow.py").write_text(
        "import pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    report = bench.Report(tmp_path / "bench.json", 2.0)
    report.step("slow", "slow", [])
    (step,) = json.loads((tmp_path / "bench.json").read_text())
    assert (step["status"], step["failure"]) == (None, "not ready after 2 s")
    child = int((tmp_path / "child").read_text())
    # It was killed; a busy machine takes a moment to end it.
    end = time.monotonic() + 30
    while not _has_ended(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert _has_ended(child)


def _has_ended(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_STARTER = """
import os, pathlib, sys
from tools.measure.gpu import bench
folder = pathlib.Path(sys.argv[1])
(folder / "models").mkdir()
for name in ("vocabulary", "models/random-1.5B-F16.gguf"):
    (folder / name).touch()
# Steps run here, where the tools are not ours.
os.chdir(folder)
os.environ["PYTHONPATH"] = str(folder)
bench.main(["--programs", ".", "--vocabulary", "vocabulary", "--models", "models", "--out", "bench.json"])
"""


def test_broken_off_its_step_ends(tmp_path: Path, modules: Path) -> None:
    """As timeout breaks it off."""
    (modules / "peers.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('partial').write_text(str(os.getpid()))\n"
        "pathlib.Path('partial').rename('step')\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, "-c", _STARTER, str(tmp_path)], cwd=root, env=environment) as starter:
        deadline = time.monotonic() + 60
        while not (tmp_path / "step").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        step = psutil.Process(int((tmp_path / "step").read_text()))
        starter.terminate()
        assert starter.wait(30) != 0
    assert not psutil.wait_procs([step], timeout=10)[1]


def test_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.card() is None


def test_callers_ask_at_the_same_time() -> None:
    questions = [Question("example", f"message {number}", "", [1], 1, "a", [1]) for number in range(4 * 3)]
    together = threading.Barrier(4)
    asked: list[str] = []

    def decide(question: Question, caller: int) -> None:
        together.wait(10)
        time.sleep(0.01)
        asked.append(question.message)

    found = measure(decide, 4, questions)
    assert sorted(asked) == sorted(question.message for question in questions)
    assert found["decisions"] == 8
    assert found["median_s"] >= 0.01
    # Of so few it would be the largest.
    assert found["p95_s"] is None
    assert found["decisions_per_s"] > 0
