"""The supported Pythons on this machine: on PATH, or installed by pyenv."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")
_TELL_VERSION = "import sys, venv; print('%d.%d' % sys.version_info[:2])"


def declared_versions() -> list[str]:
    """The minor versions that the package's metadata names, as ``3.10``."""
    classifiers = importlib.metadata.metadata("archroute-edge").get_all("Classifier", [])
    return [found[1] for each in classifiers if (found := _CLASSIFIER.fullmatch(each))]


def find_python(version: str) -> Path | None:
    """The first interpreter of a minor version that runs and can make environments."""
    return next((path for path in _candidates(version) if _runs(path, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    for folder in os.get_exec_path():
        yield Path(folder) / name
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    patches = [path for path in (pyenv / "versions").glob(f"{version}.*") if path.name.removeprefix(f"{version}.").isdigit()]
    for patch in sorted(patches, key=lambda path: int(path.name.rpartition(".")[2]), reverse=True):
        yield patch / "bin" / name


def _runs(path: Path, version: str) -> bool:
    # pyenv puts commands on PATH that only say which of its versions has the interpreter.
    if not path.is_file():
        return False
    try:
        told = subprocess.run([path, "-I", "-c", _TELL_VERSION], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and told.stdout.strip() == version
