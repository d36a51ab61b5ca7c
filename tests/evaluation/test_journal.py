"""The journal of a run: it is one process's; in folders that are of no use there is a warning, and the run goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archroute_edge.errors import SettingsError
from archroute_edge.evaluation import Journal

KEEPER = """
import pathlib, sys
from archroute_edge.evaluation import Journal
journal = Journal({}, resume=False, folder=pathlib.Path(sys.argv[1]))
journal.finish("a", 1)
print("kept", flush=True)
sys.stdin.read()
"""
"""A process with a run of its own."""


def use(journal: Journal) -> None:
    with journal:
        journal.finish("a", 1)
        journal.finish("b", 2)
        assert (journal["a"], journal["b"]) == (1, 2)
        journal.remove()


def warning(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = caplog.records
    return record.getMessage()


def test_a_run_is_at_work_once(tmp_path: Path) -> None:
    """Would break if the same command, started again beside, destroyed what --resume would take over."""
    run = {"command": "eval"}
    with Journal(run, resume=False, folder=tmp_path) as first:
        first.finish("a", 1)
        for resume in (False, True):
            with pytest.raises(SettingsError, match="the same run is at work in another process"):
                Journal(run, resume=resume, folder=tmp_path)
        with Journal({"command": "calibrate"}, resume=False, folder=tmp_path) as other:
            other.remove()
        first.finish("b", 2)
    with Journal(run, resume=True, folder=tmp_path) as second:
        assert second.parts == {"a": 1, "b": 2}
        second.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_holds_no_run(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        with pytest.raises(SettingsError):
            Journal({}, resume=True, folder=tmp_path)
        killed.kill()
    with Journal({}, resume=True, folder=tmp_path) as journal:
        assert journal.parts == {"a": 1}


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", none)
    use(Journal({}, resume=False, folder=tmp_path))


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
