"""Two GGUF files of one model side by side: their tensors, at any levels, and their metadata."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from archroute_edge.engine import TENSOR_TYPES, GGUFHeader, MetadataArray, TensorEntry
from archroute_edge.errors import QuantizationError

Progress = Callable[[int, int], None]
"""Called with weights done and weights in all."""

_PIECE_WEIGHTS: Final = 1 << 22
_BINDING_KEYS: Final = ("general.architecture", "archroute.normalizer", "tokenizer.")
_SAME_PROMPTS: Final = ("general.architecture", "tokenizer.")
_STRING: Final = 8
_ELEMENT_BYTES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_ROUNDING_OF: Final = {"F32": 0.0, "F16": 1e-3, "BF16": 1e-2}
"""Root mean square of the relative error, generously: a half unit in the last place is 2^-12 and 2^-9."""


@dataclass
class TypeErrors:
    """Errors of all tensors of one type.

    ``largest`` is the largest absolute error, ``relative`` the largest root mean square of a tensor's errors relative to that
    of its weights, and ``worst`` that tensor. ``allowed`` is the bound on ``relative`` at the type's precision.
    """

    n_tensors: int = 0
    largest: float = 0.0
    relative: float = 0.0
    worst: str = ""
    allowed: float = 0.0


@dataclass
class FileComparison:
    """``by_type`` is by the tensor type of the first file; ``problems`` say what must not differ and does.

    ``comparable`` is False where other tensors or another tokenizer make it pointless to run both on the same prompts.
    """

    by_type: dict[str, TypeErrors] = field(default_factory=dict)
    n_tensors: int = 0
    n_keys: int = 0
    other_keys: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    comparable: bool = True

    @property
    def largest_error(self) -> float:
        """Over all tensors."""
        return max((errors.largest for errors in self.by_type.values()), default=0.0)


def allowed_error(type_name: str) -> float:
    """The largest relative error allowed for a tensor: eight quantization steps' share, for heavy tails, and below 0.9.

    Normally distributed weights come to about a quarter of it. An unrelated tensor has 1.4.
    """
    if type_name in _ROUNDING_OF:
        return _ROUNDING_OF[type_name]
    block_weights, block_bytes = next((weights, size) for name, weights, size in TENSOR_TYPES.values() if name == type_name)
    bits: float = 8 * block_bytes / block_weights
    return float(min(0.9, 8 * 2**-bits))


def compare_files(model: GGUFHeader, reference: GGUFHeader, on_progress: Progress = lambda done, total: None) -> FileComparison:
    """Compare ``model`` with its source.

    Raises:
        QuantizationError: a tensor has a type that the gguf package cannot read.
    """
    result = FileComparison(n_tensors=len(reference.tensors))
    for name in sorted(model.tensors.keys() ^ reference.tensors.keys()):
        result.comparable = False
        result.problems.append(f"only {'the model' if name in model.tensors else 'the reference'} has {name}")
    shared = [name for name in model.tensors if name in reference.tensors]
    total, done = sum(_n_weights(reference.tensors[name]) for name in shared), 0
    for name in shared:
        one, two = model.tensors[name], reference.tensors[name]
        if one.shape != two.shape:
            result.comparable = False
            result.problems.append(f"{name} is {list(one.shape)} instead of {list(two.shape)}")
            continue
        kind = TENSOR_TYPES[one.type_number][0]
        errors = result.by_type.setdefault(kind, TypeErrors(allowed=allowed_error(kind)))
        largest, squares, power = 0.0, 0.0, 0.0
        for left, right in zip(_pieces(model, one), _pieces(reference, two), strict=True):
            with np.errstate(invalid="ignore", over="ignore"):
                difference = left - right
                largest = max(largest, float(np.abs(difference).max()))
                squares += float(np.einsum("i,i->", difference, difference, dtype=np.float64))
                power += float(np.einsum("i,i->", right, right, dtype=np.float64))
            done += len(left)
            on_progress(done, total)
        relative = (squares / power) ** 0.5 if power else squares
        errors.n_tensors += 1
        errors.largest = max(errors.largest, largest)
        if not relative <= errors.relative:
            errors.relative, errors.worst = relative, name
        # Written so that NaN is a problem too.
        if not relative <= errors.allowed:
            result.problems.append(
                f"{name} ({kind}) is off by {relative:.3g} of its size; {errors.allowed:.3g} would be rounding"
            )
    _compare_metadata(model, reference, result)
    return result


def _n_weights(tensor: TensorEntry) -> int:
    block_weights, block_bytes = TENSOR_TYPES[tensor.type_number][1:]
    return tensor.n_bytes // block_bytes * block_weights


def _pieces(header: GGUFHeader, tensor: TensorEntry) -> Iterator[npt.NDArray[np.float32]]:
    """The weights of a tensor in float32, some millions at a time."""
    name, block_weights, block_bytes = TENSOR_TYPES[tensor.type_number]
    blocks_at_once = _PIECE_WEIGHTS // 256 * 256 // block_weights
    with header.path.open("rb") as file:
        file.seek(header.data_offset + tensor.offset)
        left = tensor.n_bytes
        while left:
            raw = np.frombuffer(file.read(min(left, blocks_at_once * block_bytes)), np.uint8)
            if not len(raw):
                raise QuantizationError(f"{header.path}: ends inside {tensor.name}; get the file again")
            left -= len(raw)
            try:
                numbers = gguf.quants.dequantize(raw.reshape(-1, block_bytes), gguf.GGMLQuantizationType(tensor.type_number))
            except (NotImplementedError, ValueError) as exc:
                raise QuantizationError(f"{header.path}: {tensor.name} is {name}, which cannot be read here ({exc})") from exc
            yield np.asarray(numbers, np.float32).reshape(-1)


def _compare_metadata(model: GGUFHeader, reference: GGUFHeader, result: FileComparison) -> None:
    binding = (*_BINDING_KEYS, f"{reference.architecture}.")
    for key in sorted(model.metadata.keys() | reference.metadata.keys()):
        binds = key.startswith(binding)
        result.n_keys += binds
        if value_of(model, key) == value_of(reference, key):
            continue
        if binds:
            result.comparable &= not key.startswith(_SAME_PROMPTS)
            result.problems.append(f"{key} differs")
        else:
            result.other_keys.append(key)


def value_of(header: GGUFHeader, key: str) -> Any:
    """A metadata value with its type; for an array, its length and bytes. Types are compared too."""
    value = header.metadata.get(key)
    if not isinstance(value, MetadataArray):
        return type(value), value
    with header.path.open("rb") as file:
        file.seek(value.offset)
        if value.element_type != _STRING:
            return value.element_type, value.length, file.read(value.length * _ELEMENT_BYTES[value.element_type])
        data = file.read(header.data_offset - value.offset)
    end = 0
    for _ in range(value.length):
        end += 8 + struct.unpack_from("<Q", data, end)[0]
    return value.element_type, value.length, data[:end]
