"""Small programs in the place of llama.cpp's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Write a program of the given Python text."""

    def write(text: str) -> Path:
        path = tmp_path / "program"
        path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
        path.chmod(0o755)
        return path

    return write
