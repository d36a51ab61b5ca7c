"""Write a GGUF without ever holding a whole tensor in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import gguf
import numpy as np

from archroute_edge.engine import GGUFHeader, read_header
from archroute_edge.errors import CheckpointError
from tools.convert.architectures import PlacedTensor
from tools.convert.number_types import ELEMENT_BYTES, NumberType, convert

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_GGML_TYPE: Final = {
    "F32": gguf.GGMLQuantizationType.F32,
    "F16": gguf.GGMLQuantizationType.F16,
    "BF16": gguf.GGMLQuantizationType.BF16,
}

_ADDED_TO_ACTIVATIONS: Final = ("position_embd.weight", "token_types.weight")


def number_type_of(tensor: PlacedTensor, wanted: NumberType) -> NumberType:
    """The type in which a tensor is written. Tensors added to F32 activations stay F32, as llama.cpp's graphs expect."""
    stays = len(tensor.source.shape) == 1 or tensor.name.endswith("_norm.weight") or tensor.name in _ADDED_TO_ACTIVATIONS
    return "F32" if stays else wanted


def write_gguf(
    path: Path, writer: gguf.GGUFWriter, tensors: Sequence[PlacedTensor], wanted: NumberType, on_progress: Progress
) -> GGUFHeader:
    """Write ``writer``'s metadata and then every tensor, 16 MiB of the source at a time; read the header back.

    Raises:
        CheckpointError: a tensor cannot be read or converted, or there is no room on the disk.
        ModelFileError: what was written is not a whole GGUF.
        OSError: writing failed.
    """
    types = [number_type_of(tensor, wanted) for tensor in tensors]
    lengths = [tensor.source.n_elements * ELEMENT_BYTES[kind] for tensor, kind in zip(tensors, types, strict=True)]
    _check_room(path.parent, sum(lengths))
    for tensor, kind, length in zip(tensors, types, lengths, strict=True):
        # The element type is given by raw_dtype; NumPy has none for bf16.
        writer.add_tensor_info(tensor.name, tensor.source.shape, np.dtype(np.void), length, raw_dtype=_GGML_TYPE[kind])
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    with path.open("ab") as file:
        _pad(file)
        done = 0
        for tensor, kind in zip(tensors, types, strict=True):
            source = tensor.source
            for piece in source.read():
                words = convert(piece, source.dtype, kind, where=f"{source.path}: tensor {source.name!r}")
                file.write(words.data)
                done += words.nbytes
                on_progress(done, sum(lengths))
            _pad(file)
    header = read_header(path)
    if len(header.tensors) != len(tensors):
        raise CheckpointError(f"{path}: holds {len(header.tensors)} tensors instead of {len(tensors)}; nothing was kept")
    return header


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))


def _check_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise CheckpointError(f"{folder}: {n_bytes / 1e6:.1f} MB are needed there, {free / 1e6:.1f} MB are free")
