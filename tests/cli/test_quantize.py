"""``archroute quantize``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from archroute_edge.engine import read_header
from archroute_edge.models import LEVELS
from archroute_edge.quantize import Imatrix, Importance
from tests.cli.conftest import Run, one_line
from tools.convert.imatrix_file import write_imatrix


@pytest.fixture
def source(random_model: Path, tmp_path: Path) -> Path:
    """A source of one's own, named as a converter names it."""
    folder = tmp_path / "models"
    folder.mkdir()
    return Path(shutil.copy(random_model, folder / "Router-F32.gguf"))


def test_several_levels(run: Run, source: Path) -> None:
    """A file each beside the source, named after the level; names in any case, doubles once."""
    result = run("quantize", str(source), "q8_0", "Q4_0", "Q8_0", "--threads", "1")
    assert result.exit_code == 0
    assert sorted(path.name for path in source.parent.iterdir()) == ["Router-F32.gguf", "Router-Q4_0.gguf", "Router-Q8_0.gguf"]
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["Q8_0", "Q4_0"]
    assert lines[0].startswith(f"{source.parent / 'Router-Q8_0.gguf'}  Q8_0  0.1 MB  ")
    for name in ("Q8_0", "Q4_0"):
        assert read_header(source.parent / f"Router-{name}.gguf").metadata["general.file_type"] == LEVELS[name].ftype


def test_the_folder_is_made(run: Run, source: Path, tmp_path: Path) -> None:
    """Would break if the first command after installing the wheel had to be ``mkdir``."""
    folder = tmp_path / "new" / "models"
    result = run("quantize", str(source), "Q8_0", "-o", str(folder), "--threads", "1")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in folder.iterdir()] == ["Router-Q8_0.gguf"]


def test_dry_run_writes_nothing(run: Run, source: Path, tmp_path: Path) -> None:
    """Sizes only, for levels that need an importance matrix, too, and the folder need not be there."""
    folder = tmp_path / "not there"
    result = run("quantize", str(source), "Q8_0", "IQ3_XXS", "--dry-run", "--json", "-o", str(folder))
    assert result.exit_code == 0
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["level"], second["level"], first["dry_run"]) == ("Q8_0", "IQ3_XXS", True)
    assert second["n_bytes"] < first["n_bytes"] < first["source_bytes"] == source.stat().st_size
    assert first["path"] == str(folder / "Router-Q8_0.gguf")
    assert [path.name for path in source.parent.iterdir()] == ["Router-F32.gguf"]
    assert not folder.exists()


def test_with_an_importance_matrix(run: Run, source: Path, tmp_path: Path) -> None:
    """It is used, and says so in the file; the results go where they are wanted."""
    entry = Importance(np.ones((1, 64), np.float32), np.ones(1, np.float32))
    write_imatrix(tmp_path / "imatrix.gguf", Imatrix({"blk.0.attn_q.weight": entry}, ("text.txt",), 1, 512))
    folder = tmp_path / "results"
    folder.mkdir()
    arguments = ("--imatrix", str(tmp_path / "imatrix.gguf"), "-o", str(folder), "--threads", "1", "--json")
    result = run("quantize", str(source), "Q4_0", *arguments)
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert made["path"] == str(folder / "Router-Q4_0.gguf")
    assert made["n_bytes"] == (folder / "Router-Q4_0.gguf").stat().st_size
    assert read_header(folder / "Router-Q4_0.gguf").metadata["quantize.imatrix.file"] == "imatrix.gguf"


def test_mistakes(run: Run, source: Path, tmp_path: Path) -> None:
    """One line each, and no file."""
    for arguments, message in (
        ((str(source), "Q9"), "no quantization level 'Q9'; there are Q2_K"),
        ((str(source), "IQ2_M"), f"make one with: python -m tools.convert imatrix {source} -o imatrix.gguf"),
        ((str(source), "Q8_0", "IQ2_M"), "IQ2_M needs an importance matrix"),
        ((str(source),), "Missing argument 'LEVEL...'"),
        ((str(tmp_path / "no.gguf"), "Q8_0"), "no such file"),
        ((str(source), "Q8_0", "-o", str(source)), f"{source}: a file, not a folder; name another with -o"),
        ((str(source), "Q8_0", "-o", str(source / "in")), f"{source / 'in'}: the folder cannot be made (Not a directory)"),
        ((str(tmp_path / "no.gguf"), "Q8_0", "-o", str(tmp_path / "none")), "no such file"),
        ((str(source), "Q8_0", "--imatrix", str(source)), "no importance matrix"),
        ((str(source), "Q8_0", "--imatrix", str(tmp_path / "no.gguf")), "no such file"),
    ):
        assert message in one_line(run("quantize", *arguments))
    assert not (tmp_path / "none").exists()
    assert [path.name for path in source.parent.iterdir()] == ["Router-F32.gguf"]
