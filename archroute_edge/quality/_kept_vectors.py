"""An encoder's vectors of prompts, kept in a file: they cost most of a training's time, and are the same for every training.

The file is NumPy's: the encoder's identity, and of each conversation a hash of it and its vector.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from archroute_edge.conversation import Conversation
from archroute_edge.errors import QualityError
from archroute_edge.quality._predictor import Vectors
from archroute_edge.system import replaced_when_whole

_KEY_BYTES: Final = 16
# Of NumPy and of what unpacks its file: an array alone is no context (a TypeError, and an AttributeError in Python 3.10), a
# RuntimeError tells of encryption and of kinds of compression, and a MemoryError of a shape that no file has room for.
_NOT_KEPT: Final = (
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


class KeptVectors:
    """The vectors in a file.

    Args:
        path: need not be there.
        encoder: identity of the encoder.

    Raises:
        QualityError: the file cannot be read, holds something else, or has the vectors of another encoder.
    """

    def __init__(self, path: Path, encoder: str) -> None:
        self._path = path
        self._encoder = encoder
        self._found: dict[bytes, Vectors] = self._read() if path.exists() else {}

    def lacks(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """Those without a vector, each once."""
        by_key = {_key(each): each for each in conversations}
        return [each for key, each in by_key.items() if key not in self._found]

    def add(self, conversations: Sequence[Conversation], vectors: Vectors) -> None:
        """Take vectors, which are in the file after :meth:`write`."""
        self._found |= dict(zip(map(_key, conversations), vectors, strict=True))

    def write(self) -> None:
        """Write the file; it appears whole or not at all.

        Raises:
            QualityError: it cannot be written.
        """
        if not self._found:
            return
        keys = np.frombuffer(b"".join(self._found), np.uint8).reshape(-1, _KEY_BYTES)
        try:
            with replaced_when_whole(self._path) as partial, partial.open("wb") as file:
                np.savez(file, encoder=np.array(self._encoder), keys=keys, vectors=np.stack(list(self._found.values())))
        except OSError as exc:
            raise QualityError(f"{self._path}: cannot be written ({exc.strerror or exc})") from exc

    def of(self, conversations: Sequence[Conversation]) -> Vectors:
        """(n, d) the vectors of conversations that all have one."""
        return np.stack([self._found[_key(each)] for each in conversations])

    def _read(self) -> dict[bytes, Vectors]:
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                encoder, keys, vectors = (np.asarray(arrays[name]) for name in ("encoder", "keys", "vectors"))
        except OSError as exc:
            raise QualityError(f"{self._path}: cannot be read ({exc.strerror or exc})") from exc
        except _NOT_KEPT as exc:
            raise QualityError(f"{self._path}: no file of kept vectors; name another file") from exc
        if str(encoder) != self._encoder:
            raise QualityError(f"{self._path}: has the vectors of another encoder; name another file")
        shaped = vectors.ndim == 2 and keys.shape == (len(vectors), _KEY_BYTES) and keys.dtype == np.uint8
        if not shaped or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
            raise QualityError(f"{self._path}: is damaged; remove it, or name another file")
        return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _key(conversation: Conversation) -> bytes:
    turns = json.dumps([[turn.role, turn.content] for turn in conversation])
    return hashlib.blake2b(turns.encode(), digest_size=_KEY_BYTES).digest()
