"""This machine's CPU: what tells it from another, and how much of it this process may use.

Nothing here runs a line of llama.cpp.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

_LIBRARY_PATH: Final = "LLAMA_CPP_LIB_PATH"
_LEAVES: Final = 3
_PROCESSOR_FEATURES: Final = 64
_MOUNTS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


def is_library_named() -> bool:
    """Whether the environment names the folder of llama.cpp's libraries."""
    return bool(os.environ.get(_LIBRARY_PATH))


def library_folder() -> Path | None:
    """The folder of llama.cpp's libraries; None if ``llama_cpp`` is not installed."""
    return Path(os.environ[_LIBRARY_PATH]) if is_library_named() else folder_in_package("llama_cpp")


def folder_in_package(package: str) -> Path | None:
    """The folder ``lib`` of an installed package, which is not imported; None if there is no such package."""
    try:
        spec = find_spec(package)
    except ValueError:
        # A module that a program has put in its place.
        return None
    return Path(spec.origin).parent / "lib" if spec is not None and spec.origin else None


def libraries(folder: Path | None = None) -> tuple[tuple[str, int, int], ...]:
    """The libraries in a folder, llama.cpp's by default: (file name, size in bytes, modification time in ns)."""
    folder = folder or library_folder()
    if folder is None or not folder.is_dir():
        return ()
    # A bundled program of one file unpacks its libraries at every start; they are as old as it is.
    packed_at = Path(sys.executable).stat().st_mtime_ns if getattr(sys, "frozen", False) else None
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                status = entry.stat()
                found.append((entry.name, status.st_size, packed_at or status.st_mtime_ns))
    return tuple(sorted(found))


def cpu() -> list[str]:
    """The CPU's model, and the instructions that it and the system allow, as far as this system tells."""
    known = [platform.machine()]
    if sys.platform == "linux":
        known += _linux_cpu()
    elif sys.platform == "darwin":
        names = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features", "hw.cpufamily")
        known += [_sysctl(name) for name in names]
    elif sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        known += [platform.processor(), "".join(str(int(bool(present(each)))) for each in range(_PROCESSOR_FEATURES))]
    return known


def _linux_cpu() -> list[str]:
    try:
        with Path("/proc/cpuinfo").open("rb", buffering=0) as file:
            # The first processor's part is enough, and the kernel writes no more of it than is read.
            first = file.read(8192).partition(b"\n\n")[0].decode("utf-8", "replace")
    except OSError:
        first = ""
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    lines = [line for line in first.splitlines() if line.startswith(wanted)]
    # An emulator shows its host's cpuinfo. What glibc (2.33) has read from the processor itself is what programs meet.
    read_leaf = getattr(ctypes.CDLL(None), "__x86_get_cpuid_feature_leaf", None)
    if read_leaf is not None:
        read_leaf.restype = ctypes.POINTER(ctypes.c_uint32 * 8)
        leaves = [read_leaf(ctypes.c_uint(leaf)) for leaf in range(_LEAVES)]
        # The first byte of leaf 1's EBX is the number of the core that asks.
        lines += [" ".join(f"{word:x}" for place, word in enumerate(leaf.contents) if place % 4 != 1 or number) for number, leaf
                  in enumerate(leaves) if leaf]  # fmt: skip
    return lines


def _sysctl(name: str) -> str:
    size = ctypes.c_size_t(4096)
    buffer = ctypes.create_string_buffer(size.value)
    if ctypes.CDLL(None).sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, 0) != 0:
        return ""
    return buffer.raw[: size.value].hex()


def cpu_limit(mounts: Path = _MOUNTS, membership: Path = _MEMBERSHIP) -> int | None:
    """Whole CPUs that the limits of this process's groups allow, at least 1; None without a limit.

    A limit holds for all groups below the one that has it. Versions 1 and 2 of the interface are read.

    Args:
        mounts: where the trees of groups are mounted.
        membership: the file that says which groups this process is in.
    """
    limits = [limit for folder in _groups(mounts, membership) if (limit := _limit_of(folder)) is not None]
    return max(1, int(min(limits))) if limits else None


def _groups(mounts: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of all above them.

    In a container a group's path may be the host's, of which the container sees its own group as the root.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in ("0::/", "1:cpu:/", *lines):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            trees = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            trees = [mounts / "cpu", mounts / "cpu,cpuacct", mounts / "cpuacct,cpu"]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        if ".." not in inner.parts:
            for tree in trees:
                yield from (tree / group for group in (inner, *inner.parents))


def _limit_of(folder: Path) -> float | None:
    """CPUs that a group may use; None if it has no limit, which is written as ``max`` or -1."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return _ratio(quota, period)
    except (OSError, ValueError):
        pass
    try:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return _ratio(quota, period)
    except (OSError, ValueError):
        return None


def _ratio(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
