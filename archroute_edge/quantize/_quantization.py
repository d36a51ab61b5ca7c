"""Quantization: making a smaller GGUF from a big one with llama.cpp.

llama.cpp does the work in a process of its own, so that an interrupt ends it at once and an abort on a damaged file
ends that process only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from archroute_edge.engine import TENSOR_TYPES, GGUFHeader, read_header
from archroute_edge.errors import ImatrixError, ModelError, QuantizationError
from archroute_edge.models import LEVELS, Level, level_named
from archroute_edge.quantize._imatrix import Imatrix, read_imatrix
from archroute_edge.quantize._process import Task, run_quantizer
from archroute_edge.system import replaced_when_whole

COLLECT_COMMAND: Final = "python -m tools.convert imatrix {source} -o imatrix.gguf"
"""How an importance matrix is made, in a clone of the repository."""

_TENSOR_ALIGNMENT: Final = 32

Progress = Callable[[int, int], None]
"""Called with tensors done and tensors in all."""


@dataclass(frozen=True)
class Quantization:
    """What was made. Sizes in bytes; ``n_fallbacks`` tensors got a larger type because their rows fit no other."""

    path: Path
    level: str
    source_bytes: int
    n_bytes: int
    n_fallbacks: int


@dataclass(frozen=True)
class Prediction:
    """What quantizing would give. ``n_bytes`` leaves out the few that the name of an importance matrix takes."""

    level: str
    source_bytes: int
    n_bytes: int
    n_fallbacks: int


def quantize(
    source: Path,
    target: Path,
    level: str | Level,
    *,
    imatrix: Path | None = None,
    threads: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Quantization:
    """Quantize the GGUF ``source`` to ``target``, which appears when it is whole and replaces an old one.

    Args:
        source: an F32, F16 or BF16 GGUF.
        imatrix: an importance matrix in llama.cpp's GGUF format, collected from the same model.
        threads: how many llama.cpp uses, by default all.

    Raises:
        QuantizationError: an unknown level, one that needs an importance matrix, a source that is quantized already,
            a target that cannot be written, or llama.cpp failed.
        ImatrixError: the importance matrix is damaged, or belongs to another model.
        ModelError: ``source`` is missing or no whole GGUF.
    """
    level = level_named(level) if isinstance(level, str) else level
    header = read_header(source)
    _check_source(header)
    _check_target(source, target)
    if imatrix is None:
        refuse_without_imatrix([level], f"make one with: {COLLECT_COMMAND.format(source=source)}")
    if imatrix is not None:
        _check_imatrix(header, imatrix, read_imatrix(imatrix))
    n_fallbacks = 0
    try:
        with replaced_when_whole(target) as partial:
            n_threads = threads or os.cpu_count() or 1
            task = Task(str(source), str(partial), level.name, level.ftype, n_threads, str(imatrix or ""))
            for step in run_quantizer(task):
                if step.n_begun:
                    on_progress(step.n_begun - 1, len(header.tensors))
                n_fallbacks = n_fallbacks if step.n_fallbacks is None else step.n_fallbacks
            made = _read_back(partial, target, level, header)
    except OSError as exc:
        raise QuantizationError(f"{target}: cannot be written ({exc.strerror or exc})") from exc
    return Quantization(target, level.name, header.file_size, made.file_size, n_fallbacks)


def predict_size(source: Path, level: str | Level, *, imatrix: Path | None = None) -> Prediction:
    """What :func:`quantize` would make of ``source``, found in moments and without writing anything.

    Args:
        imatrix: as for :func:`quantize`: it changes which tensors get which type. Levels that need one are reckoned
            as if there were one.

    Raises:
        QuantizationError: an unknown level, a source that is quantized already, or llama.cpp failed.
        ImatrixError: the importance matrix is damaged, or belongs to another model.
        ModelError: ``source`` is missing or no whole GGUF.
    """
    level = level_named(level) if isinstance(level, str) else level
    header = read_header(source)
    _check_source(header)
    if imatrix is not None:
        _check_imatrix(header, imatrix, read_imatrix(imatrix))
    types = {name: TENSOR_TYPES[tensor.type_number][0] for name, tensor in header.tensors.items()}
    n_fallbacks = 0
    task = Task(
        str(source), "", level.name, level.ftype, 1, str(imatrix or ""), dry_run=True, assume_imatrix=level.needs_imatrix
    )
    for step in run_quantizer(task):
        if step.new_type:
            types[step.tensor] = step.new_type
        n_fallbacks = n_fallbacks if step.n_fallbacks is None else step.n_fallbacks
    sizes = {name: (weights, n_bytes) for name, weights, n_bytes in TENSOR_TYPES.values()}
    n_bytes = header.data_offset
    for name, tensor in header.tensors.items():
        block_weights, block_bytes = sizes[types[name]]
        tensor_bytes = prod(tensor.shape) // block_weights * block_bytes
        n_bytes += -(-tensor_bytes // _TENSOR_ALIGNMENT) * _TENSOR_ALIGNMENT
    return Prediction(level.name, header.file_size, n_bytes, n_fallbacks)


def refuse_without_imatrix(levels: Iterable[Level], remedy: str) -> None:
    """Refuse ``levels`` of which one needs an importance matrix.

    Args:
        remedy: how to come by one.

    Raises:
        QuantizationError: there is such a level.
    """
    for level in levels:
        if level.needs_imatrix:
            others = ", ".join(other.name for other in LEVELS.values() if not other.needs_imatrix)
            raise QuantizationError(f"{level.name} needs an importance matrix; {remedy}; without one there are {others}")


def quantized_types(header: GGUFHeader) -> list[str]:
    """Names of the tensor types of a file that are not F32, F16 or BF16."""
    return sorted({TENSOR_TYPES[tensor.type_number][0] for tensor in header.tensors.values()} - {"F32", "F16", "BF16"})


def _check_source(header: GGUFHeader) -> None:
    if quantized := quantized_types(header):
        raise QuantizationError(
            f"{header.path}: is quantized already ({', '.join(quantized)}); start from its F16, BF16 or F32 file"
        )


def _check_target(source: Path, target: Path) -> None:
    if not target.parent.is_dir():
        raise QuantizationError(f"{target.parent}: no such folder, so {target.name} cannot be written there")
    if target.is_dir():
        raise QuantizationError(f"{target}: is a folder; name the file to write")
    if target.exists() and target.samefile(source):
        raise QuantizationError(f"{target}: is the source itself; name another file")


def _check_imatrix(header: GGUFHeader, path: Path, imatrix: Imatrix) -> None:
    known = [name for name in imatrix.entries if name in header.tensors]
    if not known:
        raise ImatrixError(
            f"{path}: names no tensor of {header.path}, so it belongs to another model; "
            f"make one with: {COLLECT_COMMAND.format(source=header.path)}"
        )
    for name in known:
        shape, found = header.tensors[name].shape, imatrix.entries[name].sums.size
        if found != shape[0] * prod(shape[2:]):
            raise ImatrixError(f"{path}: has {found} values for {name}, whose rows have {shape[0]}; it is of another model")


def _read_back(partial: Path, target: Path, level: Level, source: GGUFHeader) -> GGUFHeader:
    """Check what was written: llama.cpp's writer can run into a full disk without reporting it."""
    try:
        made = read_header(partial)
    except ModelError as exc:
        raise QuantizationError(f"{target}: was not written whole, nothing was kept; is the disk full?") from exc
    if made.tensors.keys() != source.tensors.keys() or made.metadata.get("general.file_type") != level.ftype:
        raise QuantizationError(f"{target}: is not {source.path} at {level.name}, nothing was kept")
    return made
