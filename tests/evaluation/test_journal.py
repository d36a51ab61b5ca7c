"""The journal of a run in folders that are of no use: a warning, and the run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archroute_edge.evaluation import Journal


def use(journal: Journal) -> None:
    with journal:
        journal.finish("a", 1)
        journal.finish("b", 2)
        assert (journal["a"], journal["b"]) == (1, 2)
        journal.remove()


def warning(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = caplog.records
    return record.getMessage()


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    use(Journal({}, resume=True, folder=tmp_path / "file" / "runs"))
    assert "Not a directory" in warning(caplog)
    assert "set ARCHROUTE_CACHE_DIR to another folder" in warning(caplog)


def test_a_file_where_the_folder_belongs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").write_bytes(b"")
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(tmp_path))
    use(Journal({}, resume=False))
    assert str(tmp_path / "runs") in warning(caplog)


def test_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are there all the same, and one warning is enough."""
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: real("/dev/full" if str(path).endswith(".jsonl") else path, *rest))
    use(Journal({}, resume=False, folder=tmp_path))
    assert "No space left on device" in warning(caplog)
