"""For which CPUs the installed llama.cpp was compiled, and by which compiler.

None of its code runs here, since the code of a build for another CPU ends the process: its libraries are read as files.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archroute_edge.engine._cpu import library_folder

X86_64: Final = 62
AARCH64: Final = 183

_HEADER: Final = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_64_BITS: Final = 2
_LITTLE_ENDIAN: Final = 1

# What -DGGML_NATIVE=OFF compiles for on x86-64, and what every 64-bit ARM has.
_PORTABLE: Final = frozenset({"SSE3", "SSSE3", "AVX", "AVX2", "F16C", "FMA", "BMI2", "NEON", "ARM_FMA"})
# The first Apple Silicon has these, and its compiler uses them unasked.
_PORTABLE_APPLE: Final = frozenset({"DOTPROD", "FP16_VA"})

# What llama_print_system_info names beside the CPU's features: libraries, kernels, and sizes of registers.
_NO_FEATURES: Final = frozenset({"LLAMAFILE", "ACCELERATE", "CPU_HBM", "OPENMP", "KLEIDIAI", "REPACK", "SVE_CNT", "RVV_VLEN"})

# libggml-cpu exports a function for each feature that returns 1 if it was compiled for it and 0 if not:
# "mov eax, 1; ret" or "xor eax, eax; ret", perhaps with a mark for jumps before it and a stack frame around it.
_ANSWERS: Final = "ggml_cpu_has_"
_X86_FRAME: Final = rb"(?:\xf3\x0f\x1e\xfa)?(?:\x55\x48\x89\xe5)?%b\x5d?\xc3"
_ARM_FRAME: Final = rb"(?:\x5f\x24\x03\xd5)?%b\xc0\x03\x5f\xd6"
_YES: Final = {X86_64: _X86_FRAME % rb"\xb8\x01\0\0\0", AARCH64: _ARM_FRAME % rb"\x20\0\x80\x52"}
_NO: Final = {
    X86_64: _X86_FRAME % rb"(?:\x31\xc0|\xb8\0\0\0\0)",
    AARCH64: _ARM_FRAME % rb"(?:\0\0\x80\x52|\xe0\x03\x1f\x2a)",
}


def compiler_of_build() -> str | None:
    """The compiler of llama.cpp's CPU kernels, as "gcc 12.2.0"; None if the library does not say (macOS, Windows)."""
    library = _cpu_library()
    return _compiler(library.section(".comment")) if library is not None else None


def features_of_build() -> tuple[str, ...] | None:
    """The CPU features that the kernels were compiled for, in llama.cpp's words; None if that cannot be read from the file."""
    library = _cpu_library()
    if library is None or library.machine not in _YES:
        return None
    found = []
    functions = library.exported_code(_ANSWERS)
    for function, code in functions.items():
        name = function.removeprefix(_ANSWERS).upper()
        if re.fullmatch(_YES[library.machine], code):
            if name not in _NO_FEATURES:
                found.append(name)
        elif not re.fullmatch(_NO[library.machine], code):
            return None
    return tuple(sorted(found)) if functions else None


def required_features(system_info: str) -> tuple[str, ...]:
    """The CPU features in what ``llama_print_system_info`` says; those of other backends are left out."""
    # "CUDA : ARCHS = 890 | CPU : SSE3 = 1 | AVX = 1 | ": one backend after another.
    _, _, words = system_info.partition("CPU : ")
    pairs = (word.partition(" = ") for word in words.split(" : ")[0].split("|"))
    return tuple(sorted(name.strip() for name, _, value in pairs if value.strip() == "1" and name.strip() not in _NO_FEATURES))


def features_beyond_portable(features: Iterable[str]) -> tuple[str, ...]:
    """Those that a build for any CPU of this architecture would do without."""
    portable = _PORTABLE | _PORTABLE_APPLE if sys.platform == "darwin" else _PORTABLE
    return tuple(name for name in features if name not in portable)


def describe_features(features: Iterable[str]) -> str:
    """One line about a build compiled for these: native or portable, and which CPUs it needs."""
    features = tuple(features)
    if beyond := features_beyond_portable(features):
        return f"native: needs a CPU with {', '.join(beyond)}"
    # Each includes those after it; llama.cpp has no name for SSE4.2, which is the step below AVX.
    steps = {"AVX2": "AVX2", "AVX": "AVX", "SSSE3": "SSE4.2"}
    newest = next((text for name, text in steps.items() if name in features), None)
    return f"portable: any x86-64 CPU with {newest}" if newest else "portable: any CPU of this architecture"


def _cpu_library() -> ElfFile | None:
    folder = library_folder()
    try:
        return ElfFile(folder / "libggml-cpu.so") if folder is not None else None
    except (OSError, NotElfError):
        return None


def _compiler(comment: bytes) -> str | None:
    """The compiler in a section of comments, in which the linker has gathered one of each object file."""
    texts = [text.decode("utf-8", "replace") for text in comment.split(b"\0") if text]
    clang = [f"clang {match[1]}" for text in texts if (match := re.search(r"clang version (\S+)", text))]
    gcc = [f"gcc {match[1]}" for text in texts if (match := re.match(r"GCC: \(.*\) (\S+)", text))]
    # The C library's objects were made by gcc, also where clang compiled everything else.
    return ", ".join(dict.fromkeys(clang or gcc or texts)) or None


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
