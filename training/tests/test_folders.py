"""A checkpoint's folder is replaced so that one whole version is there, whenever the training ends."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from training.folders import replaced_when_whole


def write(folder: Path, content: str) -> None:
    with replaced_when_whole(folder) as partial:
        assert not [*partial.iterdir()]
        (partial / "weights").write_text(content)
        (partial / content).touch()


def content_of(folder: Path) -> tuple[str, list[str]]:
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return (folder / "weights").read_text(), sorted(path.name for path in folder.iterdir())


def test_the_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "checkpoint"
    for content in ("first", "second"):
        write(folder, content)
        assert content_of(folder) == (content, [content, "weights"])


def test_a_writing_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", "first")
    with pytest.raises(OSError, match="full"), replaced_when_whole(tmp_path / "checkpoint") as partial:
        (partial / "weights").write_text("half")
        raise OSError("the disk is full")
    assert (tmp_path / "checkpoint" / "weights").read_text() == "first"
    write(tmp_path / "checkpoint", "second")
    assert content_of(tmp_path / "checkpoint") == ("second", ["second", "weights"])


@pytest.mark.parametrize("n_done", range(4))
def test_a_process_that_is_killed_loses_no_whole_folder(tmp_path: Path, n_done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder was removed before the new one had its name: both were lost to who reads only that."""
    folder = tmp_path / "checkpoint"
    write(folder, "first")
    steps: list[str] = []

    def counted(name: str, step: Any) -> Any:
        def run(*arguments: Any, **more: Any) -> Any:
            if len(steps) == n_done:
                raise KeyboardInterrupt
            steps.append(name)
            return step(*arguments, **more)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted("rename", Path.rename))
        patch.setattr(shutil, "rmtree", counted("rmtree", shutil.rmtree))
        with suppress(KeyboardInterrupt):
            write(folder, "second")
    assert steps == ["rename", "rename", "rmtree"][:n_done]
    # A folder under one of the names is whole, and the next writing finds it, even if it fails.
    with pytest.raises(OSError), replaced_when_whole(folder):
        raise OSError
    assert (folder / "weights").read_text() == ("first" if n_done < 2 else "second")
    write(folder, "third")
    assert content_of(folder) == ("third", ["third", "weights"])
