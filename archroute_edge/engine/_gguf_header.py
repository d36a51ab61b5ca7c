"""Reading a GGUF file's header, and refusing files that llama.cpp must not be given.

llama.cpp aborts the whole process on some malformed files, so every count, length, type and offset is checked here
first. Nothing is allocated on the word of the file: strings are walked over in a memory map.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from archroute_edge.errors import ModelFileError, ModelNotFoundError
from archroute_edge.system import ENOUGH_BYTES, other_kind

_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""By the number of a type, how ``struct`` and ``array`` call it."""
_ARRAY_CODES: Final = {kind: code[1].replace("?", "B") for kind, code in _SCALARS.items()}
_STRING: Final = 8
_ARRAY: Final = 9
_DEFAULT_ALIGNMENT: Final = 32
_MAX_NAME_BYTES: Final = 63
_MAX_DIMENSIONS: Final = 4
_MAX_SCALAR_STRING: Final = 8 << 20

TENSOR_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1),
    25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
}  # fmt: skip
"""ggml type number -> (name, weights a block, bytes a block)."""

DEFAULT_KV_TYPE: Final = "f16"

KV_TYPES: Final = {
    name.lower(): number
    for number, (name, _, _) in TENSOR_TYPES.items()
    if name in ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")
}
"""Number types that llama.cpp can keep keys and values in, by name; the same ones that its own tools offer."""

Scalar = int | float | bool | str


@dataclass(frozen=True)
class MetadataArray:
    """An array in the metadata: its element type, its length, where in the file its elements start, and their bytes in all."""

    element_type: int
    length: int
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class TensorEntry:
    """A tensor as the header lists it. ``shape`` is in ggml's order, the row length first."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """What a GGUF file says about itself.

    ``data_offset`` and ``file_size`` are in bytes from the start of the file.
    """

    path: Path
    version: int
    metadata: dict[str, Scalar | MetadataArray]
    tensors: dict[str, TensorEntry] = field(repr=False)
    data_offset: int
    file_size: int
    sha256: str
    """Of the header alone: everything before ``data_offset``."""

    @property
    def architecture(self) -> str:
        """``general.architecture``, or an empty string."""
        return self.text("general.architecture") or ""

    def text(self, key: str) -> str | None:
        """The string at ``key``, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """The integer at ``key``, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def length(self, key: str) -> int | None:
        """Number of elements of the array at ``key``, or None."""
        value = self.metadata.get(key)
        return value.length if isinstance(value, MetadataArray) else None


def is_quantized_kv(kv_type: str) -> bool:
    """Whether keys and values of this type are quantized, which llama.cpp does with flash attention only."""
    return TENSOR_TYPES[KV_TYPES[kv_type]][1] > 1


def bytes_per_cell(header: GGUFHeader, kv_type: str) -> float:
    """Bytes that keys and values of one token take over all layers; 0 if the file does not say it plainly."""

    def number(name: str) -> int:
        return header.integer(f"{header.architecture}.{name}") or 0

    heads = number("attention.head_count")
    width = number("embedding_length") // heads if heads else 0
    keys, values = (number(f"attention.{what}_length") or width for what in ("key", "value"))
    n_numbers = number("block_count") * (number("attention.head_count_kv") or heads) * (keys + values)
    _, block_numbers, block_bytes = TENSOR_TYPES[KV_TYPES[kv_type]]
    return n_numbers * block_bytes / block_numbers


class _Reader:
    """A cursor over the mapped file that never reads past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.size = len(data)
        self.path = path
        self.position = 0

    def fail(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {what} (at byte {self.position}); the file is damaged or truncated, get it again")

    def scalar(self, code: str) -> int | float | bool:
        size = struct.calcsize(code)
        if self.position + size > self.size:
            raise self.fail("the header ends in the middle of a value")
        (value,) = struct.unpack_from(code, self.data, self.position)
        self.position += size
        return value  # type: ignore[no-any-return]

    def count(self, code: str = "<Q") -> int:
        return int(self.scalar(code))

    def string(self, limit: int) -> str:
        length = self.count()
        if length > limit or self.position + length > self.size:
            raise self.fail(f"a text of {length} bytes does not fit")
        raw = self.data[self.position : self.position + length]
        self.position += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("a text is not valid UTF-8") from None

    def value(self, kind: int) -> Scalar | MetadataArray:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string(_MAX_SCALAR_STRING)
        if kind == _ARRAY:
            return self.array()
        raise self.fail(f"unknown value type {kind}")

    def array(self) -> MetadataArray:
        element = self.count("<I")
        length = self.count()
        start = self.position
        if element in _SCALARS:
            n_bytes = length * struct.calcsize(_SCALARS[element])
            if self.position + n_bytes > self.size:
                raise self.fail(f"an array of {length} elements does not fit")
            self.position += n_bytes
        elif element == _STRING:
            if length * 8 > self.size - self.position:
                raise self.fail(f"an array of {length} texts does not fit")
            self.position = self._skip_strings(length)
        else:
            raise self.fail(f"an array holds elements of unknown type {element}")
        return MetadataArray(element, length, start, self.position - start)

    def _skip_strings(self, length: int) -> int:
        # A vocabulary has some 300,000 strings, so this loop is as bare as it can be.
        unpack, data, position, last = struct.Struct("<Q").unpack_from, self.data, self.position, self.size - 8
        for _ in range(length):
            if position > last:
                raise self.fail("a list of texts runs past the end")
            position += 8 + unpack(data, position)[0]
        if position > self.size:
            raise self.fail("a list of texts runs past the end")
        return position


def read_header(path: str | Path) -> GGUFHeader:
    """Read and check the header of a GGUF file: structure, lengths, tensor table, file length.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFileError: it is not a whole, well-formed GGUF file.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path}: this is a folder; name the .gguf file in it")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise ModelFileError(f"{path}: the file is empty; get it again")
            start = file.read(ENOUGH_BYTES)
            if not start.startswith(b"GGUF") and (kind := other_kind(start)):
                raise ModelFileError(f"{path}: not a GGUF file but {kind}")
            if size < 24:
                raise ModelFileError(f"{path}: {size} bytes are too few for a GGUF file; get it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Reader(data, path))
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path}: no such file") from None
    except OSError as exc:
        raise ModelFileError(f"{path}: cannot be read ({exc.strerror or exc})") from exc


def read_array(header: GGUFHeader, key: str) -> bytes:
    """The bytes of the array at ``key``; none if there is no such array."""
    entry = header.metadata.get(key)
    if not isinstance(entry, MetadataArray):
        return b""
    with header.path.open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.n_bytes)


def read_texts(header: GGUFHeader, key: str) -> list[bytes]:
    """The strings of the array at ``key``, undecoded; none if there is no such array."""
    entry = header.metadata.get(key)
    if not isinstance(entry, MetadataArray) or entry.element_type != _STRING:
        return []
    raw = read_array(header, key)
    texts = []
    position, unpack = 0, struct.Struct("<Q").unpack_from
    for _ in range(entry.length):
        start = position + 8
        position = start + unpack(raw, position)[0]
        texts.append(raw[start:position])
    return texts


def read_numbers(header: GGUFHeader, key: str) -> array[int] | array[float]:
    """The numbers of the array at ``key``; none if there is no such array."""
    entry = header.metadata.get(key)
    code = _ARRAY_CODES.get(entry.element_type) if isinstance(entry, MetadataArray) else None
    numbers = array(code or "b", read_array(header, key) if code else b"")
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _parse(reader: _Reader) -> GGUFHeader:
    magic = reader.data[:4]
    if magic != b"GGUF":
        raise ModelFileError(f"{reader.path}: not a GGUF file (it starts with {magic!r}); a model file is needed")
    reader.position = 4
    version = reader.count("<I")
    if version not in (2, 3):
        hint = " (big-endian files are not supported)" if version >> 16 else ""
        raise ModelFileError(f"{reader.path}: GGUF version {version} is not supported{hint}; versions 2 and 3 are")
    n_tensors, n_entries = reader.count(), reader.count()
    # The smallest metadata entry takes 13 bytes, the smallest tensor entry 32.
    if n_entries * 13 + n_tensors * 32 > reader.size:
        raise reader.fail(f"{n_entries} metadata entries and {n_tensors} tensors do not fit")
    metadata: dict[str, Scalar | MetadataArray] = {}
    for _ in range(n_entries):
        key = reader.string(65535)
        if key in metadata:
            raise reader.fail(f"the metadata key {key!r} stands twice")
        metadata[key] = reader.value(reader.count("<I"))
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment < 1 or alignment & (alignment - 1):
        raise reader.fail(f"general.alignment is {alignment!r}, not a power of two")
    tensors: dict[str, TensorEntry] = {}
    for _ in range(n_tensors):
        tensor = _tensor_entry(reader, alignment)
        if tensor.name in tensors:
            raise reader.fail(f"the tensor {tensor.name!r} stands twice")
        tensors[tensor.name] = tensor
    data_offset = -(-reader.position // alignment) * alignment
    for tensor in tensors.values():
        if data_offset + tensor.offset + tensor.n_bytes > reader.size:
            raise ModelFileError(
                f"{reader.path}: truncated: tensor {tensor.name!r} ends at byte "
                f"{data_offset + tensor.offset + tensor.n_bytes}, the file at {reader.size}; get the file again"
            )
    digest = hashlib.sha256(reader.data[: reader.position]).hexdigest()
    return GGUFHeader(reader.path, version, metadata, tensors, data_offset, reader.size, digest)


def _tensor_entry(reader: _Reader, alignment: int) -> TensorEntry:
    name = reader.string(_MAX_NAME_BYTES)
    n_dimensions = reader.count("<I")
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        raise reader.fail(f"tensor {name!r} has {n_dimensions} dimensions")
    shape = tuple(reader.count() for _ in range(n_dimensions))
    type_number = reader.count("<I")
    offset = reader.count()
    if type_number not in TENSOR_TYPES:
        raise reader.fail(f"tensor {name!r} has the unknown type {type_number}")
    type_name, block_weights, block_bytes = TENSOR_TYPES[type_number]
    n_weights = 1
    for length in shape:
        n_weights *= length
    if not 0 < n_weights < 1 << 62:
        raise reader.fail(f"tensor {name!r} has the impossible shape {list(shape)}")
    if shape[0] % block_weights:
        raise reader.fail(f"tensor {name!r}: rows of {shape[0]} are no multiple of {type_name}'s {block_weights}")
    if offset % alignment:
        raise reader.fail(f"tensor {name!r} starts at {offset}, which is not aligned to {alignment}")
    return TensorEntry(name, shape, type_number, offset, n_weights // block_weights * block_bytes)
