"""Importance matrices in llama.cpp's file format: how strongly each input channel of a weight matrix is driven.

For a matrix whose inputs were the rows ``x`` over some calibration text, the file holds the sums of ``x ** 2`` a channel
and how many rows there were; quantizing weighs a channel's rounding errors with their quotient.

Format: llama.cpp's ``llama-imatrix`` (tools/imatrix) writes a GGUF with ``general.type`` "imatrix",
``imatrix.datasets``, ``imatrix.chunk_count``, ``imatrix.chunk_size``, and for each matrix two F32 tensors,
``NAME.in_sum2`` (channels, experts) and ``NAME.counts`` (1, experts); ``llama-quantize`` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.engine import TENSOR_TYPES, GGUFHeader, read_header, read_texts
from archroute_edge.errors import ImatrixError, ModelFileError

_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"
_F32: Final = 0


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
            f"{path}: not an importance matrix in GGUF ({str(exc).removeprefix(f'{path}: ')}); "
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
