"""Rebuild a wheel from an installed package's files, to install a compiled package into another environment as it is.

llama-cpp-python takes minutes to compile, and pip's cache may be off, or hold a build with other settings.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import zipfile
from email.parser import Parser
from pathlib import Path

# What an installer adds to a wheel's files. Scripts, which lie outside, are made anew of the entry points.
_INSTALLERS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


class WheelError(Exception):
    """An installed package that cannot be made into a wheel."""


def write_wheel(package: str, folder: Path) -> Path:
    """Write the wheel that ``package`` was installed from into ``folder``, and return its path.

    Raises:
        WheelError: it is not installed, or not from a wheel.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as exc:
        raise WheelError(f"{package} is not installed here") from exc
    about = distribution.read_text("WHEEL")
    installed = [file for file in distribution.files or () if file.parts[0] != ".."]
    information = next((file.parts[0] for file in installed if file.name == "WHEEL"), None)
    if about is None or information is None:
        raise WheelError(f"{package} was not installed from a wheel")
    files = {
        file.as_posix(): Path(str(file.locate()))
        for file in installed
        if file.suffix != ".pyc" and not (file.parts[0] == information and file.name in _INSTALLERS)
    }
    path = folder / f"{information.removesuffix('.dist-info')}-{_tag(about)}.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    # Not compressed: it is read once, on this machine.
    with zipfile.ZipFile(path, "w", strict_timestamps=False) as wheel:
        for name, source in files.items():
            wheel.write(source, name)
            rows.writerow((name, f"sha256={_digest(source)}", source.stat().st_size))
        rows.writerow((f"{information}/RECORD", "", ""))
        wheel.writestr(f"{information}/RECORD", record.getvalue())
    return path


def _tag(about: str) -> str:
    """The tags of a WHEEL file as a wheel's name has them: ``py2.py3-none-any`` for two."""
    tags = [tag.split("-") for tag in Parser().parsestr(about).get_all("Tag", [])]
    return "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))


def _digest(path: Path) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
