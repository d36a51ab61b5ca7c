"""Read a checkpoint's JSON and text files, which are untrusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from archroute_edge.errors import CheckpointError
from archroute_edge.system import kind_of_file

_LARGEST: Final = float(np.finfo(np.float32).max)
_MOST: Final = (1 << 32) - 1
"""What a GGUF has for the whole numbers of a model: 32 bits."""
MAX_TEXT_BYTES: Final = 256 << 20
"""Far above any tokenizer.json (Qwen2's has 7 to 11 MB), far below what would exhaust the memory."""


@dataclass(frozen=True)
class Settings:
    """A JSON object of named values, and the file it is from, for messages."""

    path: Path
    values: dict[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """The value at ``key``; ``default`` if it is missing or null."""
        value = self.values.get(key)
        return default if value is None else value

    def integer(self, key: str) -> int:
        """A positive whole number of 32 bits.

        Raises:
            CheckpointError: it is missing or something else.
        """
        value = self._needed(key)
        if type(value) is not int or not 1 <= value <= _MOST:
            raise CheckpointError(f"{self.path}: {key} is {_shown(value)}, a positive whole number below 2^32 is needed")
        return value

    def number(self, key: str) -> float:
        """A positive number.

        Raises:
            CheckpointError: it is missing or something else.
        """
        number = as_number(self._needed(key))
        if number is None or number <= 0:
            raise CheckpointError(f"{self.path}: {key} is {_shown(self.values[key])}, a positive number is needed")
        return number

    def _needed(self, key: str) -> Any:
        if self.get(key) is None:
            raise CheckpointError(f"{self.path}: has no {key}, which the conversion needs")
        return self.values[key]


def as_number(value: Any) -> float | None:
    """A finite number that the 32 bits of a GGUF can hold; None if it is something else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        return None
    return float(value)


def _shown(value: Any) -> str:
    return repr(value)[:100]


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        CheckpointError: missing, unreadable, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_TEXT_BYTES >> 20} MiB, which no such file is")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except UnicodeDecodeError as exc:
        raise CheckpointError(f"{path}: not UTF-8 text (at byte {exc.start})") from None
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CheckpointError: as for :func:`read_text`, or not a JSON object.
    """
    text = read_text(path)
    if (kind := kind_of_file(path)) and not text.lstrip("\ufeff \t\r\n").startswith("{"):
        raise CheckpointError(f"{path}: not JSON but {kind}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        raise CheckpointError(f"{path}:{exc.lineno}: not valid JSON ({exc.msg})") from None
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: not usable JSON ({exc})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object is needed, this is a {type(value).__name__}")
    return value


def read_settings(path: Path, *, required: bool = True) -> Settings:
    """Like :func:`read_object`; unless the file is ``required``, an absent one reads as empty."""
    return Settings(path, read_object(path) if required or path.is_file() else {})
