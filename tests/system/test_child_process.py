"""Processes of this package: how they are started, and what they keep of the one that started them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import archroute_edge
from archroute_edge.engine._trials import run_trial
from archroute_edge.errors import SettingsError
from archroute_edge.quantize import predict_size
from archroute_edge.system import start_module


def test_a_bundle_without_a_python_refuses_to_start_itself_again(monkeypatch: pytest.MonkeyPatch, random_model: Path) -> None:
    """Its executable ignores ``-m``: quantizing would open a second window of the application."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(SettingsError, match=r"^archroute_edge\.quantize\._worker needs a process of its own, .*PyInstaller"):
        predict_size(random_model, "Q8_0")


def test_the_child_runs_the_package_that_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, another installed version would be imported."""
    monkeypatch.chdir(tmp_path)
    child = start_module("archroute_edge.bench._measuring_worker", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = child.communicate(b'{"do": "close"}\n', timeout=60)
    assert (out, child.returncode) == (b"{}\n", 0)


SHOWS = """
import json, sys
import archroute_edge
print(json.dumps([__name__, sys.argv[1:], archroute_edge.__file__, sys.path]))
"""


def shown(*arguments: str) -> list[Any]:
    """What a child says that runs :data:`SHOWS`."""
    child = start_module("shows", *arguments, stdout=subprocess.PIPE)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    found: list[Any] = json.loads(out)
    return found


def test_the_child_imports_from_where_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a program's own folders were unknown there, or site-packages stood before the standard library."""
    (tmp_path / "shows.py").write_text(SHOWS)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    name, arguments, _, folders = shown("a", "b c")
    assert (name, arguments) == ("__main__", ["a", "b c"])
    here = list(dict.fromkeys(each for each in sys.path if each))
    assert folders[: len(here)] == here


def test_a_package_found_in_the_current_folder_is_the_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if another version were installed, as in a clone of which no other folder than the current one is known."""
    (tmp_path / "shows.py").write_text(SHOWS)
    root = Path(archroute_edge.__file__).parents[1]
    monkeypatch.setattr(sys, "path", ["", *(each for each in sys.path if Path(each) != root), str(tmp_path)])
    monkeypatch.chdir(root)
    assert shown()[2] == archroute_edge.__file__


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that exists once a file of the current folder was run: a downloaded model may come with Python files."""
    ran = tmp_path / "ran"
    decoy = f"import os\nos.makedirs({str(ran)!r}, exist_ok=True)\n"
    for name in ("json", "runpy", "random", "numpy", "psutil", "archroute_edge"):
        (tmp_path / f"{name}.py").write_text(decoy)
    (tmp_path / "llama_cpp").mkdir()
    for name in ("__init__", "llama_cpp"):
        (tmp_path / "llama_cpp" / f"{name}.py").write_text(decoy)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.chdir(tmp_path)
    return ran


@pytest.mark.parametrize("worker", ["bench._measuring_worker", "quantize._worker"])
def test_nothing_in_the_current_folder_is_run(ran: Path, worker: str) -> None:
    """``python -m`` takes them for the modules of that name."""
    child = start_module(
        f"archroute_edge.{worker}", "{}", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.communicate(b'{"do": "close"}\n', timeout=60)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("worker", "task", "step"),
    [
        ("_kernel_trial_worker", {"kernels": "plain", "amx_as_well": False, "models": []}, "models"),
        ("_engine_trial_worker", {"measure": "missing.gguf", "n_threads": 1}, "failed"),
    ],
)
def test_nothing_in_the_current_folder_is_run_by_a_trial(ran: Path, worker: str, task: dict[str, Any], step: str) -> None:
    """Would break if the trial were told this process's own ``sys.path``, in which the empty name is the current folder."""
    run = run_trial(f"archroute_edge.engine.{worker}", task)
    assert run is not None
    assert step in run.steps
    assert not ran.exists()
