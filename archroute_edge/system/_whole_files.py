"""Files that appear whole or not at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_counter = itertools.count()


@contextmanager
def replaced_when_whole(target: Path) -> Iterator[Path]:
    """Give a path beside ``target`` to write to, and move it onto ``target`` when the block ends without an exception.

    The file is flushed to the disk before it is moved. On any exception, an interrupt included, it is removed and
    ``target`` stays as it was.

    Raises:
        OSError: the file cannot be flushed or moved.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}-{next(_counter)}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
