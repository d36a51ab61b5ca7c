"""Folders that are replaced as a whole: whenever the writing ends, one whole version is on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_when_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` to write into, which takes its place when the block ends without an exception.

    A folder cannot be replaced in one step. The old one is called ``NAME.old`` between two renames and is removed last; if
    the process is killed in that moment, the next writing puts it back first.
    """
    partial, old = (folder.with_name(f"{folder.name}.{mark}") for mark in ("partial", "old"))
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left_over in (partial, old):
        if left_over.exists():
            shutil.rmtree(left_over)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
