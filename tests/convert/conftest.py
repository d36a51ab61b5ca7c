"""What several tests of the converter need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archroute_edge.engine import LoadedModel
from tests.convert.typed import Typed
from tools.convert.conversion import convert_checkpoint
from tools.convert.imatrix_collection import collect
from tools.convert.imatrix_file import write_imatrix
from tools.convert.routing_prompts import RoutingCase, shipped_cases
from tools.fixtures.checkpoints import Shape, WrittenCheckpoint, write_checkpoint

WIDE = Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=1)


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> WrittenCheckpoint:
    """A checkpoint with random weights and rows of 256, which fit every level."""
    return write_checkpoint(tmp_path_factory.mktemp("source") / "checkpoint", WIDE)


@pytest.fixture(scope="session")
def wide_source(wide_checkpoint: WrittenCheckpoint) -> Path:
    """Its F32 GGUF."""
    path = wide_checkpoint.folder.with_name("F32.gguf")
    convert_checkpoint(wide_checkpoint.folder, path, "f32", prompt_format="card")
    return path


@pytest.fixture(scope="session")
def wide_imatrix(wide_source: Path) -> Path:
    """An importance matrix of it."""
    draw = np.random.default_rng(1)
    path = wide_source.with_name("imatrix.gguf")
    with LoadedModel(wide_source) as model:
        write_imatrix(path, collect(model, draw.integers(0, 500, (4, 40)).tolist(), "random.txt", threads=1))
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs the command line."""
    return Typed(monkeypatch, capsys)


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shipped routing prompts one of each table is enough, since these models know nothing anyway."""

    def few(path: Path) -> list[RoutingCase]:
        by_table = {case.table: case for case in shipped_cases(path)}
        return list(by_table.values())[:2]

    for module in ("verification", "imatrix_collection"):
        monkeypatch.setattr(f"tools.convert.{module}.shipped_cases", few)
