"""Quantization: making a smaller GGUF from a big one with llama.cpp.

llama.cpp does the work in a process of its own, so that an interrupt ends it at once and an abort on a damaged file
ends that process only. Its progress is read from its log.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Final

from archroute_edge.engine import TENSOR_TYPES, GGUFHeader, read_header
from archroute_edge.errors import ImatrixError, ModelError, QuantizationError
from archroute_edge.models import LEVELS, Level, level_named
from archroute_edge.quantize._imatrix import read_imatrix
from archroute_edge.system import replaced_when_whole, start_module

logger = logging.getLogger(__name__)

COLLECT_COMMAND: Final = "python -m tools.convert imatrix {source} -o imatrix.gguf"
"""How an importance matrix is made, in a clone of the repository."""

_TENSOR_ALIGNMENT: Final = 32
# llama.cpp's log (src/llama-quant.cpp): the start of a tensor, the type that a dry run gives it, the count of tensors
# that fit no block, an exception.
_TENSOR_LINE: Final = re.compile(r"\[ *(\d+)/ *\d+\] +(\S+)")
_NEW_TYPE: Final = re.compile(r"->.*MiB \((\w+)\)$")
_FALLBACK_LINE: Final = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_FAILURE_LINE: Final = re.compile(r"failed to quantize: (.+)")
# What C++ says of a stream that cannot be written; llama.cpp reads its source in another way.
_CANNOT_WRITE: Final = "iostream error"

EMBEDDING_TYPES: Final = ("Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16")
"""Types that the token embedding alone can be given: those of short blocks, which the rows of encoders are multiples of."""

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


@dataclass(frozen=True)
class Task:
    """What the process is to do. ``dry_run`` writes nothing; it may ``assume_imatrix`` where none is given."""

    source: str
    target: str
    level: str
    ftype: int
    threads: int
    imatrix: str = ""
    token_embedding_type: int | None = None
    dry_run: bool = False
    assume_imatrix: bool = False


@dataclass(frozen=True)
class Step:
    """What a line of the log tells: tensors begun so far, the name and new type of one, or how many fell back."""

    n_begun: int = 0
    tensor: str = ""
    new_type: str = ""
    n_fallbacks: int = 0


def quantize(
    source: Path,
    target: Path,
    level: str | Level,
    *,
    imatrix: Path | None = None,
    token_embedding_type: str | None = None,
    threads: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Quantization:
    """Quantize the GGUF ``source`` to ``target``, which appears when it is whole and replaces an old one.

    Args:
        source: an F32, F16 or BF16 GGUF.
        imatrix: an importance matrix in llama.cpp's GGUF format, collected from the same model.
        token_embedding_type: the type of the token embedding, such as Q4_0, if not the one that goes with the level.
        threads: how many llama.cpp uses, by default all.

    Raises:
        QuantizationError: an unknown level or type, one that needs an importance matrix, a source that is quantized already,
            a target that cannot be written, or llama.cpp failed.
        ImatrixError: the importance matrix is damaged, or belongs to another model.
        ModelError: ``source`` is missing or no whole GGUF.
    """
    level = level_named(level) if isinstance(level, str) else level
    header = _checked_source(source, imatrix)
    _check_target(source, target)
    if imatrix is None:
        refuse_without_imatrix([level], f"make one with: {COLLECT_COMMAND.format(source=source)}")
    embedding = None if token_embedding_type is None else _type_number(token_embedding_type)
    n_fallbacks = 0
    try:
        with replaced_when_whole(target) as partial:
            n_threads = threads or os.cpu_count() or 1
            task = Task(str(source), str(partial), level.name, level.ftype, n_threads, str(imatrix or ""), embedding)
            for step in _run(task):
                if step.n_begun:
                    on_progress(step.n_begun - 1, len(header.tensors))
                n_fallbacks += step.n_fallbacks
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
    header = _checked_source(source, imatrix)
    types = {name: TENSOR_TYPES[tensor.type_number][0] for name, tensor in header.tensors.items()}
    n_fallbacks = 0
    task = Task(
        str(source), "", level.name, level.ftype, 1, str(imatrix or ""), dry_run=True, assume_imatrix=level.needs_imatrix
    )
    for step in _run(task):
        if step.new_type:
            types[step.tensor] = step.new_type
        n_fallbacks += step.n_fallbacks
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
        remedy: how to get one.

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


def _type_number(name: str) -> int:
    """Of a tensor type that a token embedding can have without an importance matrix."""
    known = {kind: number for number, (kind, _, _) in TENSOR_TYPES.items() if kind in EMBEDDING_TYPES}
    if name.upper() not in known:
        raise QuantizationError(f"no type {name!r} for the token embedding; there are {', '.join(EMBEDDING_TYPES)}")
    return known[name.upper()]


def _checked_source(source: Path, imatrix: Path | None) -> GGUFHeader:
    """The header of ``source``, which is not quantized and which ``imatrix`` belongs to."""
    header = read_header(source)
    if quantized := quantized_types(header):
        raise QuantizationError(
            f"{header.path}: is quantized already ({', '.join(quantized)}); start from its F16, BF16 or F32 file"
        )
    if imatrix is None:
        return header
    entries = read_imatrix(imatrix).entries
    known = [name for name in entries if name in header.tensors]
    if not known:
        raise ImatrixError(
            f"{imatrix}: names no tensor of {header.path}, so it belongs to another model; "
            f"make one with: {COLLECT_COMMAND.format(source=header.path)}"
        )
    for name in known:
        shape, found = header.tensors[name].shape, entries[name].sums.size
        if found != shape[0] * prod(shape[2:]):
            raise ImatrixError(f"{imatrix}: has {found} values for {name}, whose rows have {shape[0]}; it is of another model")
    return header


def _check_target(source: Path, target: Path) -> None:
    if not target.parent.is_dir():
        raise QuantizationError(f"{target.parent}: no such folder, so {target.name} cannot be written there")
    if target.is_dir():
        raise QuantizationError(f"{target}: is a folder; name the file to write")
    if target.exists() and target.samefile(source):
        raise QuantizationError(f"{target}: is the source itself; name another file")


def _read_back(partial: Path, target: Path, level: Level, source: GGUFHeader) -> GGUFHeader:
    """Check what was written: llama.cpp's writer can run into a full disk without reporting it."""
    try:
        made = read_header(partial)
    except ModelError as exc:
        raise QuantizationError(f"{target}: was not written whole, nothing was kept; is the disk full?") from exc
    if made.tensors.keys() != source.tensors.keys() or made.metadata.get("general.file_type") != level.ftype:
        raise QuantizationError(f"{target}: is not {source.path} at {level.name}, nothing was kept")
    return made


def _run(task: Task) -> Iterator[Step]:
    """Run ``task`` and yield its steps; leaving the loop early ends the process.

    Raises:
        QuantizationError: llama.cpp failed; the message has its reason.
        SettingsError: this is a bundled program that cannot start it.
        OSError: it could not write; it does not say why.
    """
    process = start_module(
        "archroute_edge.quantize._worker",
        json.dumps(asdict(task)),
        stdin=subprocess.PIPE,  # nothing is sent: it ends when this process does, however that comes about
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    complaint = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode("utf-8", "replace").strip().strip("=").strip()
            logger.debug("llama.cpp: %s", text)
            if match := _TENSOR_LINE.match(text):
                new_type = _NEW_TYPE.search(text)
                yield Step(int(match[1]), match[2], new_type[1].upper() if new_type else "")
            elif match := _FALLBACK_LINE.search(text):
                yield Step(n_fallbacks=int(match[1]))
            elif match := _FAILURE_LINE.search(text):
                complaint = match[1]
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if status and complaint.endswith(_CANNOT_WRITE):
        raise OSError("llama.cpp's writes fail; is the disk full?")
    if status:
        reason = complaint or (f"ended by signal {-status}" if status < 0 else f"exit status {status}")
        raise QuantizationError(f"{task.source}: llama.cpp could not quantize it to {task.level}: {reason}")
