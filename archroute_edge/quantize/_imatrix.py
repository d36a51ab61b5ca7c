"""Importance matrices in llama.cpp's file format: how strongly each input channel of a weight matrix is driven.

For a matrix whose inputs were the rows ``x`` over some calibration text, the file holds the sums of ``x ** 2`` a channel
and how many rows there were; quantizing weighs a channel's rounding errors with their quotient.

Format: llama.cpp's ``llama-imatrix`` (tools/imatrix) writes a GGUF with ``general.type`` "imatrix",
``imatrix.datasets``, ``imatrix.chunk_count``, ``imatrix.chunk_size``, and for each matrix two F32 tensors,
``NAME.in_sum2`` (channels, experts) and ``NAME.counts`` (1, experts); ``llama-quantize`` reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from archroute_edge.engine import TENSOR_TYPES, GGUFHeader, read_header, read_texts
from archroute_edge.errors import ImatrixError, ModelFileError
from archroute_edge.system import replaced_when_whole

_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"
_ALIGNMENT: Final = 32
_F32: Final = 0
_UINT32: Final = 4
_STRING: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True)
class Importance:
    """Of one weight matrix, or of a stack of experts: ``sums`` (experts, channels) and ``counts`` (experts,), float32."""

    sums: npt.NDArray[np.float32]
    counts: npt.NDArray[np.float32]

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """What llama.cpp is given: the mean square a channel, one expert after the other; 1 where nothing was counted."""
        counted = self.counts[:, None] > 0
        means = self.sums / np.where(counted, self.counts[:, None], np.float32(1))
        flat: npt.NDArray[np.float32] = np.where(counted, means, np.float32(1)).astype(np.float32).ravel()
        return flat


@dataclass(frozen=True)
class Imatrix:
    """A whole importance matrix. ``entries`` is by the weight's name, ``chunk_size`` in tokens."""

    entries: Mapping[str, Importance]
    datasets: tuple[str, ...]
    chunk_count: int
    chunk_size: int


def read_imatrix(path: Path) -> Imatrix:
    """Read and check an importance matrix.

    Raises:
        ImatrixError: it is none, or damaged.
        ModelNotFoundError: there is no such file.
    """
    try:
        header = read_header(path)
    except ModelFileError as exc:
        raise ImatrixError(
            f"{path}: not an importance matrix in GGUF ({_without_path(exc, path)}); "
            f"of an old .dat file llama.cpp makes one: llama-imatrix --in-file {path.name} -o {path.stem}.gguf"
        ) from None
    if header.text("general.type") != "imatrix":
        raise ImatrixError(f"{path}: a GGUF, but no importance matrix (general.type is {header.text('general.type')!r})")
    counts = [header.integer(f"imatrix.{key}") for key in ("chunk_count", "chunk_size")]
    if counts[0] is None or counts[1] is None or header.length("imatrix.datasets") is None:
        raise ImatrixError(f"{path}: lacks imatrix.datasets, imatrix.chunk_count or imatrix.chunk_size; it is damaged")
    names = [name.removesuffix(_SUMS) for name in header.tensors if name.endswith(_SUMS)]
    unpaired = {name.removesuffix(_COUNTS) for name in header.tensors if name.endswith(_COUNTS)} ^ set(names)
    if unpaired:
        raise ImatrixError(f"{path}: {sorted(unpaired)[0]} has only one of sums and counts; the file is damaged")
    if not names:
        raise ImatrixError(f"{path}: holds no matrix; collect it again")
    datasets = tuple(text.decode("utf-8", "replace") for text in read_texts(header, "imatrix.datasets"))
    return Imatrix({name: _read_entry(header, name) for name in names}, datasets, counts[0], counts[1])


def _without_path(exc: ModelFileError, path: Path) -> str:
    return str(exc).removeprefix(f"{path}: ")


def _read_entry(header: GGUFHeader, name: str) -> Importance:
    sums, counts = _read_tensor(header, name + _SUMS), _read_tensor(header, name + _COUNTS)
    if sums.size % counts.size:
        raise ImatrixError(f"{header.path}: {name} has {sums.size} sums for {counts.size} counts; the file is damaged")
    for what, numbers in (("sums", sums), ("counts", counts)):
        if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            raise ImatrixError(f"{header.path}: {name} has {what} that are negative or no numbers; the file is damaged")
    # Counts are whole numbers that are stored as floats.
    return Importance(sums.reshape(counts.size, -1), np.rint(counts))


def _read_tensor(header: GGUFHeader, name: str) -> npt.NDArray[np.float32]:
    tensor = header.tensors[name]
    if tensor.type_number != _F32:
        kind = TENSOR_TYPES[tensor.type_number][0]
        raise ImatrixError(f"{header.path}: {name} is {kind} instead of F32; the file is damaged")
    with header.path.open("rb") as file:
        file.seek(header.data_offset + tensor.offset)
        numbers: npt.NDArray[np.float32] = np.frombuffer(file.read(tensor.n_bytes), "<f4").astype(np.float32)
    return numbers


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write ``imatrix`` to ``path``, which appears when it is whole; the same contents give the same bytes.

    Raises:
        ImatrixError: it cannot be written.
    """
    tensors: list[tuple[str, npt.NDArray[np.float32]]] = []
    for name, entry in sorted(imatrix.entries.items()):
        tensors += [(name + _SUMS, entry.sums), (name + _COUNTS, entry.counts[:, None])]
    try:
        with replaced_when_whole(path) as partial, partial.open("wb") as file:
            _write(file, imatrix, tensors)
    except OSError as exc:
        raise ImatrixError(f"{path}: cannot be written ({exc.strerror or exc})") from exc


def _write(file: BinaryIO, imatrix: Imatrix, tensors: list[tuple[str, npt.NDArray[np.float32]]]) -> None:
    file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), 4))
    file.write(_text("general.type") + struct.pack("<I", _STRING) + _text("imatrix"))
    file.write(_text("imatrix.datasets") + struct.pack("<IIQ", _ARRAY, _STRING, len(imatrix.datasets)))
    file.write(b"".join(map(_text, imatrix.datasets)))
    for key, number in (("chunk_count", imatrix.chunk_count), ("chunk_size", imatrix.chunk_size)):
        file.write(_text(f"imatrix.{key}") + struct.pack("<II", _UINT32, number))
    offset = 0
    for name, numbers in tensors:
        rows, columns = numbers.shape
        file.write(_text(name) + struct.pack("<IQQIQ", 2, columns, rows, _F32, offset))
        offset += -(-4 * numbers.size // _ALIGNMENT) * _ALIGNMENT
    for _, numbers in tensors:
        file.write(bytes(-file.tell() % _ALIGNMENT))
        file.write(np.ascontiguousarray(numbers, "<f4").tobytes())
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return struct.pack("<Q", len(raw)) + raw
