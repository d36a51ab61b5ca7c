"""Processes of this package: how they are started, and what they keep of the one that started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
