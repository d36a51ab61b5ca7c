"""Wheels of installed packages: installed again, they are the same files."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tools.release.installed_wheel import WheelError, write_wheel


@pytest.mark.parametrize("package", ["PyYAML", "httpx"])
def test_it_installs_again_as_it_was(package: str, tmp_path: Path) -> None:
    """One compiled, whose name has the tags of its platform, and one with a command."""
    wheel = write_wheel(package, tmp_path)
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--isolated", "--disable-pip-version-check"]
    subprocess.run([*command, "--no-index", "--no-deps", "--no-compile", "--target", str(target), str(wheel)], check=True)
    (again,) = importlib.metadata.distributions(path=[str(target)])
    here = importlib.metadata.distribution(package)
    assert (again.metadata["Name"], again.version) == (here.metadata["Name"], here.version)
    assert _contents(again) == _contents(here)


def test_what_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="no-such-package is not installed here"):
        write_wheel("no-such-package", tmp_path)


def _contents(distribution: importlib.metadata.Distribution) -> dict[str, bytes]:
    """The files that a wheel brings: not those that the installer writes."""
    return {
        file.as_posix(): file.read_binary()
        for file in distribution.files or ()
        if file.parts[0] not in ("..", "bin")
        and file.suffix != ".pyc"
        and not (file.parts[0].endswith(".dist-info") and file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"))
    }
