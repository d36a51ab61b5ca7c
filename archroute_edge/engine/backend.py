"""llama.cpp's process-wide side: initialisation, its log, the build and the devices it can use."""

from __future__ import annotations

import ctypes
import functools
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import psutil

logger = logging.getLogger("archroute_edge.llama_cpp")

# ggml_log_level
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUATION = 5
_last_level = logging.DEBUG
_last_error = ""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    """Pass llama.cpp's messages on to logging, errors as debug too: a caller gets them inside an exception."""
    global _last_level, _last_error
    message = text.decode("utf-8", "replace").strip()
    if level != _CONTINUATION:
        _last_level = _LEVELS.get(level, logging.DEBUG)
    # The first error has the reason; those that follow say that something failed because of it.
    if message and _last_level >= logging.ERROR and not _last_error:
        _last_error = message
    if message and message != ".":
        logger.log(min(_last_level, logging.DEBUG), "%s", message)


@functools.cache
def initialise() -> None:
    """Start llama.cpp's backends once for the process, and send its log to ``logging`` instead of stderr."""
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


def take_last_error() -> str:
    """What llama.cpp complained of since the last call, in its words, or an empty string."""
    global _last_error
    message, _last_error = _last_error, ""
    return message


@dataclass(frozen=True)
class Device:
    """A device llama.cpp can compute on. Memory in bytes; 0 where the backend does not say."""

    name: str
    description: str
    memory_free: int
    memory_total: int


@dataclass(frozen=True)
class Build:
    """Which llama.cpp this is. ``libraries`` holds (file name, size in bytes, modification time in ns)."""

    binding_version: str
    llama_cpp_version: str
    libraries: tuple[tuple[str, int, int], ...]
    system_info: str
    gpu_offload: bool


@functools.cache
def build() -> Build:
    """Describe the llama.cpp build that is loaded in this process."""
    initialise()
    folder = Path(llama_cpp.__file__).parent / "lib"
    # A bundled program of one file unpacks its libraries at every start; they are as old as it is.
    packed_at = Path(sys.executable).stat().st_mtime_ns if getattr(sys, "frozen", False) else None
    libraries = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            stat = path.stat()
            libraries.append((path.name, stat.st_size, packed_at or stat.st_mtime_ns))
    return Build(
        binding_version=llama_cpp.__version__,
        llama_cpp_version=llama_cpp.llama_version().decode(),
        libraries=tuple(libraries),
        system_info=llama_cpp.llama_print_system_info().decode().strip(),
        gpu_offload=bool(llama_cpp.llama_supports_gpu_offload()),
    )


def devices() -> list[Device]:
    """The devices of all backends in this build, in llama.cpp's order."""
    initialise()
    from llama_cpp._ggml import libggml

    found = []
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    base = ctypes.CDLL(str(next(path for path in (Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base*"))))
    for function in (base.ggml_backend_dev_name, base.ggml_backend_dev_description):
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p]
    base.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
    for index in range(libggml.ggml_backend_dev_count()):
        handle = libggml.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        name, description = base.ggml_backend_dev_name(handle), base.ggml_backend_dev_description(handle)
        found.append(Device(name.decode(), description.decode(), free.value, total.value))
    return found


@functools.cache
def physical_cores() -> int:
    """Cores this process may use, hyper-threads not counted; at least 1."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        cores = min(cores, len(process.cpu_affinity()))
    quota = _cpu_quota()
    return max(1, min(cores, quota) if quota else cores)


def _cpu_quota() -> int | None:
    """Whole CPUs that a container's limit (cgroup v2) allows, or None where there is no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        # No such file, or "max" for no limit.
        return None
