"""The small random model, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.gguf_file import GGUFFile, read_gguf


@pytest.fixture(scope="session")
def _parsed(random_model: Path) -> GGUFFile:
    return read_gguf(random_model)


@pytest.fixture
def sound(_parsed: GGUFFile) -> GGUFFile:
    """The small random model, to be damaged."""
    return _parsed.copy()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes its model."""
    return tmp_path / "model.gguf"
