"""Read safetensors files: every number in the header is checked before anything is read or allocated because of it.

Format: https://huggingface.co/docs/safetensors/index#format - eight bytes with the header's length N (little endian),
N bytes of JSON (name -> dtype, shape, data_offsets), then the data, which the tensors cover without gap or overlap.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, TypeGuard

from archroute_edge.errors import CheckpointError
from archroute_edge.system import ENOUGH_BYTES, SAFETENSORS, other_kind

MAX_HEADER_BYTES: Final = 100_000_000
"""The limit of the reference implementation."""

PIECE_BYTES: Final = 16 << 20
"""How much of a tensor is held in memory at once."""

BYTES_PER_ELEMENT: Final = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies. ``shape`` is in the source's order, rows first; ``offset`` in bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    n_bytes: int

    @property
    def n_elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    def read(self, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """Its raw bytes in pieces of at most ``piece_bytes``, read one at a time.

        Plain reads, not a memory map: a file that shrinks meanwhile is then an error and not a SIGBUS.

        Raises:
            CheckpointError: the file ends early.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, self.n_bytes, piece_bytes):
                piece = file.read(min(piece_bytes, self.n_bytes - start))
                if len(piece) != min(piece_bytes, self.n_bytes - start):
                    raise CheckpointError(f"{self.path}: ends inside tensor {self.name!r}; get the file again")
                yield piece


def read_index(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, by name, in the order in which their data lies.

    Raises:
        CheckpointError: the file is missing, truncated, or its header does not describe it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            kind = other_kind(start + file.read(ENOUGH_BYTES - 8))
            if kind is not None and kind != SAFETENSORS:
                raise CheckpointError(f"{path}: not a safetensors file but {kind}")
            file.seek(8)
            if len(start) < 8:
                raise CheckpointError(f"{path}: {size} bytes are too few for a safetensors file; get it again")
            (header_bytes,) = struct.unpack("<Q", start)
            if header_bytes > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(
                    f"{path}: claims a header of {header_bytes} bytes in a file of {size}; "
                    "it is no safetensors file, or damaged"
                )
            header = json.loads(file.read(header_bytes))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: the safetensors header is not valid JSON ({exc}); the file is damaged") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the safetensors header is not a JSON object; the file is damaged")
    header.pop("__metadata__", None)
    data_start = 8 + header_bytes
    tensors = [_entry(path, name, fields, data_start) for name, fields in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.n_bytes))
    end = data_start
    for tensor in tensors:
        if tensor.offset != end:
            raise CheckpointError(f"{path}: tensor {tensor.name!r} overlaps or leaves a gap; the file is damaged")
        end += tensor.n_bytes
    if end != size:
        raise CheckpointError(
            f"{path}: its header describes {end} bytes, the file has {size}; it is truncated or damaged, get it again"
        )
    return {tensor.name: tensor for tensor in tensors}


def _entry(path: Path, name: str, fields: Any, data_start: int) -> StoredTensor:
    damaged = f"{path}: the entry of tensor {name!r} is malformed; the file is damaged"
    if not isinstance(fields, dict):
        raise CheckpointError(damaged)
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (_is_sizes(shape) and _is_sizes(offsets) and len(offsets) == 2):
        raise CheckpointError(damaged)
    if not isinstance(dtype, str) or dtype not in BYTES_PER_ELEMENT:
        raise CheckpointError(f"{path}: tensor {name!r} has the unknown dtype {dtype!r}")
    n_bytes = prod(shape) * BYTES_PER_ELEMENT[dtype]
    if offsets[1] - offsets[0] != n_bytes:
        raise CheckpointError(
            f"{path}: tensor {name!r} of shape {shape} in {dtype} takes {n_bytes} bytes, "
            f"its entry says {offsets[1] - offsets[0]}; the file is damaged"
        )
    return StoredTensor(name, dtype, tuple(shape), path, data_start + offsets[0], n_bytes)


def _is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
