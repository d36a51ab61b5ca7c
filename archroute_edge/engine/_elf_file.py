"""A shared library of Linux read as a file: its sections, and the machine code of the functions that it exports."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

X86_64: Final = 62
AARCH64: Final = 183

_HEADER: Final = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_64_BITS: Final = 2
_LITTLE_ENDIAN: Final = 1


class NotElfError(ValueError):
    """Not an ELF file of a 64-bit little-endian machine, or a damaged one."""


@dataclass(frozen=True)
class _Section:
    name: int
    address: int
    offset: int
    size: int


class ElfFile:
    """An ELF file whose parts are found by name.

    Raises:
        NotElfError: as its name says.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        try:
            self.machine, self._sections, self._names = self._read_sections()
        except (struct.error, OverflowError) as exc:
            raise NotElfError("its table of sections lies outside the file") from exc

    def _read_sections(self) -> tuple[int, list[_Section], bytes]:
        magic, bits, order, _, machine, _, _, _, start, _, _, _, _, size, count, names = _HEADER.unpack_from(self._content)
        if (magic, bits, order) != (b"\x7fELF", _64_BITS, _LITTLE_ENDIAN):
            raise NotElfError("no ELF file of a 64-bit little-endian machine")
        sections = []
        for index in range(count):
            name, _, _, address, offset, length, *_ = _SECTION.unpack_from(self._content, start + index * size)
            sections.append(_Section(name, address, offset, length))
        return machine, sections, self._bytes(sections[names]) if names < count else b""

    def section(self, name: str) -> bytes:
        """The bytes of a section, or none if the file lacks it."""
        found = (each for each in self._sections if _text(self._names, each.name) == name)
        return b"".join(map(self._bytes, found))

    def exported_code(self, prefix: str) -> dict[str, bytes]:
        """The machine code of each exported function whose name starts with this."""
        names, symbols = self.section(".dynstr"), self.section(".dynsym")
        found = {}
        for name_at, _, _, section, address, size in _SYMBOL.iter_unpack(
            symbols[: len(symbols) // _SYMBOL.size * _SYMBOL.size]
        ):
            name = _text(names, name_at)
            # Section 0 stands for a function of another library.
            if name.startswith(prefix) and 0 < section < len(self._sections):
                home = self._sections[section]
                start = home.offset + address - home.address
                found[name] = self._content[start : start + size]
        return found

    def _bytes(self, section: _Section) -> bytes:
        return self._content[section.offset : section.offset + section.size]


def _text(table: bytes, start: int) -> str:
    end = table.find(b"\0", start)
    return table[start : end if end >= 0 else None].decode("ascii", "replace")
