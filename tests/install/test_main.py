"""``python -m tools.install``: one line and status 2 when it cannot be done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "tools.install", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ}, check=False)


def test_an_unknown_gpu() -> None:
    done = run("--gpu", "nvidia")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: GPU=nvidia is not known; it is one of cuda, metal, rocm, sycl, vulkan, or left out for the CPU"
    ]


def test_nothing_is_put_into_the_systems_python() -> None:
    done = run(python=str(Path(sys.base_prefix) / "bin" / "python3"))
    assert done.returncode == 2
    assert done.stderr == "error: this Python is no virtual environment's; make one first: python3 -m venv .venv\n"


def test_only_the_standard_library_is_needed() -> None:
    """It runs before anything is installed."""
    code = "import sys; sys.path.insert(0, '.'); import tools.install.environment; print('ok')"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")
