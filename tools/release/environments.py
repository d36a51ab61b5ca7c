"""Virtual environments that hold only the requested packages; llama.cpp is not compiled again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.release.installed_wheel import write_wheel

COMPILED = "llama-cpp-python"
"""The dependency that pip would have to compile."""


def make_environment(folder: Path, python: Path, requirements: Sequence[str], wheels: Path) -> Path:
    """Make an empty environment, install ``requirements`` into it, and return its interpreter.

    This process's pip does it, so that not even pip is in there.

    Args:
        folder: deleted first if it exists.
        python: the interpreter that it is made with.
        requirements: as the command line of pip takes them.
        wheels: a folder for llama-cpp-python's wheel, which is made of the one installed here unless it is there.

    Raises:
        subprocess.CalledProcessError: a step failed, and has said why on standard error.
        WheelError: llama-cpp-python is not installed here.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    if not any(wheels.glob("llama_cpp_python-*.whl")):
        write_wheel(COMPILED, wheels)
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", folder], env=plain_environment(), check=True)
    made = folder / "bin" / "python"
    _pip(made, "install", "--quiet", "--only-binary", COMPILED, "--find-links", str(wheels), *requirements)
    _pip(made, "check")
    return made


def plain_environment() -> dict[str, str]:
    """This process's environment variables without those that lead a Python to modules or environments elsewhere."""
    misleading = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in misleading}


def _pip(python: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), *arguments]
    subprocess.run(command, env=plain_environment(), stdout=2, check=True)
