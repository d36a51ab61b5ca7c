"""What PyInstaller is told of modules that no import statement names."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from archroute_edge import __pyinstaller


@pytest.mark.parametrize("module", ["serve", "quality", "quality_train", "quality_score", "__main__"])
def test_every_command_is_in_a_bundle(module: str) -> None:
    """Also the commands of a group, and the one that doctor starts to try the models with."""
    hook = Path(__pyinstaller.__file__).with_name("hook-archroute_edge.cli.py")
    assert f"archroute_edge.cli.{module}" in runpy.run_path(str(hook))["hiddenimports"]
