"""llama.cpp's process-wide side: initialisation, its log, the build, the devices and threads that it can use.

GNU OpenMP keeps a pool of threads for each thread that has computed with several. In a forked process the thread that forked
goes on with its pool, whose threads are not there, and would wait for them for ever. Alone it needs none, and every other
thread makes a pool of its own. A GPU cannot be used at all in a process that was forked after its first use.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import llama_cpp
import psutil

from archroute_edge.engine._cpu import cpu_limit, libraries
from archroute_edge.engine._ggml import ggml, use_kernels
from archroute_edge.engine._kernel_trial import chosen_kernels

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
    """Start llama.cpp's backends once for the process, with kernels that are safe here, its log sent to ``logging``.

    Nothing that runs code compiled for a certain CPU may be called before: llama.cpp's own description of itself does.

    Raises:
        EngineError: llama.cpp cannot compute on this machine.
        SettingsError: the environment asks for kernels that do not exist.
    """
    kernels = chosen_kernels().kernels
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    use_kernels(kernels)


def take_last_error() -> str:
    """What llama.cpp complained of since the last call, in its words, or an empty string."""
    global _last_error
    message, _last_error = _last_error, ""
    return message


@dataclass(frozen=True)
class Device:
    """A device llama.cpp can compute on. Memory in bytes; 0 if the backend does not say."""

    name: str
    description: str
    memory_free: int
    memory_total: int


@dataclass(frozen=True)
class Build:
    """Which llama.cpp this is. ``libraries`` holds (file name, size in bytes, modification time in ns).

    ``kernels`` are those that weights on the CPU are computed with (see :mod:`archroute_edge.engine._kernel_trial`).
    """

    binding_version: str
    llama_cpp_version: str
    libraries: tuple[tuple[str, int, int], ...]
    system_info: str
    gpu_offload: bool
    kernels: str


def binding_version() -> str:
    """The version of llama-cpp-python."""
    return str(llama_cpp.__version__)


@functools.cache
def build() -> Build:
    """Describe the llama.cpp build that is loaded in this process."""
    initialise()
    return Build(
        binding_version=binding_version(),
        llama_cpp_version=llama_cpp.llama_version().decode(),
        libraries=libraries(),
        system_info=llama_cpp.llama_print_system_info().decode().strip(),
        gpu_offload=bool(llama_cpp.llama_supports_gpu_offload()),
        kernels=chosen_kernels().kernels,
    )


def devices() -> list[Device]:
    """The devices of all backends in this build, in llama.cpp's order."""
    initialise()
    found = []
    for index in range(ggml("ggml_backend_dev_count")()):
        handle = ggml("ggml_backend_dev_get")(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml("ggml_backend_dev_memory")(handle, ctypes.byref(free), ctypes.byref(total))
        name, description = ggml("ggml_backend_dev_name")(handle), ggml("ggml_backend_dev_description")(handle)
        found.append(Device(name.decode(), description.decode(), free.value, total.value))
    return found


@functools.cache
def physical_cores() -> int:
    """Cores this process may use, hyper-threads not counted; at least 1."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        cores = min(cores, len(process.cpu_affinity()))
    limit = cpu_limit()
    return max(1, min(cores, limit) if limit else cores)


_thread = threading.local()
_used_in: int | None = None


def note_use() -> None:
    """llama.cpp is used in this process from now on."""
    global _used_in
    if _used_in is None:
        _used_in = os.getpid()


def was_used_before_fork() -> bool:
    """Whether llama.cpp was in use already when this process was forked."""
    return _used_in is not None and _used_in != os.getpid()


def usable_threads(wanted: int) -> int:
    """``wanted``; in the thread that a forked process began with, 1."""
    return 1 if getattr(_thread, "has_forked", False) else wanted


def _note_fork() -> None:
    if _used_in is not None:
        _thread.has_forked = True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)


# Seconds that the end of a program waits for models that are being loaded or freed.
_PATIENCE_AT_END_S: Final = 5.0
_making = threading.Condition()
_n_making = 0
_is_ending = False


@contextmanager
def making() -> Iterator[None]:
    """Around calls that make or free models and contexts: none of them is under way when the program ends.

    llama.cpp uses global tables there, which the end of a program destroys while threads that are daemons still run; such a
    thread would end it with a segmentation fault. Once the program ends, threads wait here, and are gone with it.
    """
    global _n_making
    # A finalizer may run in the middle of another such call of its thread.
    is_inner = getattr(_thread, "is_making", False)
    with _making:
        if _is_ending and not is_inner and threading.current_thread() is not threading.main_thread():
            # A function registered with atexit may wait for this thread, so not for ever.
            _making.wait_for(lambda: False, _PATIENCE_AT_END_S)
        _n_making += 1
    _thread.is_making = True
    try:
        yield
    finally:
        _thread.is_making = is_inner
        with _making:
            _n_making -= 1
            _making.notify_all()


def is_ending() -> bool:
    """Whether the program ends: the functions registered with atexit before this module's own are all that still runs."""
    return _is_ending


def _end() -> None:
    global _is_ending
    with _making:
        _is_ending = True
        _making.wait_for(lambda: not _n_making, _PATIENCE_AT_END_S)


def _renew() -> None:
    """In a forked process, whose other threads are gone."""
    global _making, _n_making
    _making, _n_making = threading.Condition(), 0


atexit.register(_end)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)
