"""A GGUF file taken apart, to be changed and put together again, correct or not."""

from __future__ import annotations

import struct
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10
ALIGNMENT = 32


@dataclass
class Entry:
    """A metadata entry. ``value`` is a number, bytes (a string), or a list of one of them with ``element`` as their type."""

    key: bytes
    kind: int
    value: Any
    element: int = 0


@dataclass
class Tensor:
    """A line of the tensor table; ``shape`` has the row length first."""

    name: bytes
    shape: list[int]
    type_number: int
    offset: int


@dataclass
class GGUFFile:
    """Everything in a file. Counts are written as they are unless ``n_entries`` or ``n_tensors`` says otherwise."""

    entries: list[Entry] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: int = 3
    n_entries: int | None = None
    n_tensors: int | None = None

    def copy(self) -> GGUFFile:
        return deepcopy(self)

    def __getitem__(self, key: str) -> Entry:
        return {entry.key: entry for entry in self.entries}[key.encode()]

    def tensor(self, name: str) -> Tensor:
        return {tensor.name: tensor for tensor in self.tensors}[name.encode()]

    def set(self, key: str, kind: int, value: Any, element: int = 0) -> None:
        """Replace an entry, or add one."""
        self.remove(key)
        self.entries.append(Entry(key.encode(), kind, value, element))

    def remove(self, key: str) -> None:
        self.entries = [entry for entry in self.entries if entry.key != key.encode()]

    def header(self) -> bytes:
        out = bytearray(self.magic)
        out += struct.pack("<I", self.version)
        out += struct.pack("<Q", len(self.tensors) if self.n_tensors is None else self.n_tensors)
        out += struct.pack("<Q", len(self.entries) if self.n_entries is None else self.n_entries)
        for entry in self.entries:
            out += _string(entry.key) + struct.pack("<I", entry.kind) + _value(entry.kind, entry.value, entry.element)
        for tensor in self.tensors:
            out += _string(tensor.name) + struct.pack("<I", len(tensor.shape))
            out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
            out += struct.pack("<IQ", tensor.type_number, tensor.offset)
        return bytes(out)

    def to_bytes(self) -> bytes:
        header = self.header()
        return header + bytes(-len(header) % ALIGNMENT) + self.data

    def write(self, path: Path) -> Path:
        path.write_bytes(self.to_bytes())
        return path


def _string(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any, element: int) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY:
        head = struct.pack("<IQ", element, len(value))
        return head + b"".join(_value(element, each, 0) for each in value)
    return struct.pack(SCALARS.get(kind, "<I"), value)


def read_gguf(path: Path) -> GGUFFile:
    """Take apart a well-formed file."""
    reader = _Reader(path.read_bytes())
    reader.position = 8
    n_tensors, n_entries = reader.unpack("<Q"), reader.unpack("<Q")
    entries = []
    for _ in range(n_entries):
        key, kind = reader.string(), reader.unpack("<I")
        element = reader.unpack("<I") if kind == ARRAY else 0
        value = [reader.value(element) for _ in range(reader.unpack("<Q"))] if kind == ARRAY else reader.value(kind)
        entries.append(Entry(key, kind, value, element))
    tensors = []
    for _ in range(n_tensors):
        name = reader.string()
        shape = [reader.unpack("<Q") for _ in range(reader.unpack("<I"))]
        tensors.append(Tensor(name, shape, reader.unpack("<I"), reader.unpack("<Q")))
    start = -(-reader.position // ALIGNMENT) * ALIGNMENT
    return GGUFFile(entries, tensors, reader.raw[start:])


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.position = 0

    def unpack(self, code: str) -> Any:
        (value,) = struct.unpack_from(code, self.raw, self.position)
        self.position += struct.calcsize(code)
        return value

    def string(self) -> bytes:
        length = self.unpack("<Q")
        self.position += length
        return self.raw[self.position - length : self.position]

    def value(self, kind: int) -> Any:
        return self.string() if kind == STRING else self.unpack(SCALARS[kind])
