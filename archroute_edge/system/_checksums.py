"""Hashes by which the Hugging Face hub names files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

_BLOCK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


def is_digest(text: str) -> bool:
    """Whether ``text`` is a hash as the hub writes them: SHA-256 for large files, git's SHA-1 for small ones."""
    return _DIGEST.fullmatch(text) is not None


def file_digest(path: Path, like: str, on_bytes: Callable[[int], None] = lambda done: None) -> str:
    """Hash a file in the way in which ``like`` was made.

    Args:
        like: 64 hexadecimal digits stand for SHA-256, 40 for git's SHA-1 over ``blob SIZE``, a zero byte and the file.
        on_bytes: called with the bytes done so far.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256() if len(like) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(like) != 64:
        digest.update(b"blob %d\0" % path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            on_bytes(done)
    return digest.hexdigest()
