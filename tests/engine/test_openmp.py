"""How threads wait for each other, which decides how long a decision takes on busy cores."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archroute_edge.engine._openmp import load_openmp

CHILD = """
import os
before = dict(os.environ)
from archroute_edge.engine import build
from archroute_edge.engine._ik_binding import binding
build()
binding()
assert dict(os.environ) == before
"""
NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def settings_in_child(variables: dict[str, str]) -> list[list[str]]:
    """The settings that each GNU OpenMP of a process says it read when it was loaded."""
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment = {**inherited, "OMP_DISPLAY_ENV": "verbose", **variables}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    lines = [line.replace("[host]", "").split() for line in done.stderr.splitlines()]
    return [[line[2].strip("'") for line in lines if line and line[0] == name] for name in NAMES]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the libraries that would be loaded."""
    names: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", names.append)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return names


def test_the_one_that_the_library_computes_with_is_loaded(tmp_path: Path, loaded: list[str]) -> None:
    """Would break if a libgomp beside the library, or in its wheel, got no settings, or if the system's took its place."""
    folder = tmp_path / "llama_cpp" / "lib"
    folder.mkdir(parents=True)
    carried = tmp_path / "llama_cpp_python.libs" / "libgomp-1a2b.so.1.0.0"
    carried.parent.mkdir()
    load_openmp(None, "llama_cpp_python")
    load_openmp(folder, "llama_cpp_python")
    carried.touch()
    load_openmp(folder, "llama_cpp_python")
    load_openmp(folder, None)
    (folder / "libgomp.so.1").touch()
    load_openmp(folder, "llama_cpp_python")
    assert loaded == ["libgomp.so.1", str(carried), "libgomp.so.1", str(folder / "libgomp.so.1")]


def test_a_system_without_it(tmp_path: Path, loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    load_openmp(tmp_path, None)
    assert not set(NAMES) & os.environ.keys()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("1000", "ACTIVE")),
        ({"GOMP_SPINCOUNT": "500"}, ("500", "PASSIVE")),
        ({"OMP_WAIT_POLICY": "passive"}, ("0", "PASSIVE")),
    ],
)
def test_threads_sleep_soon_unless_the_environment_says_otherwise(
    tried_kernels: None, variables: dict[str, str], expected: tuple[str, str]
) -> None:
    """Would break if a library of llama.cpp or of ik_llama.cpp were loaded first, or if the environment kept a trace."""
    counts, policies = settings_in_child(variables)
    is_there = sys.platform == "linux"
    assert set(counts) == ({expected[0]} if is_there else set())
    assert set(policies) == ({expected[1]} if is_there else set())
