"""ggml, the library below llama.cpp: functions that ``llama_cpp`` does not declare, and the buffers for weights on the CPU.

Beside ordinary memory llama.cpp has buffers that hold weights in an order of their own, each with kernels for it:
``CPU_REPACK`` (interleaved rows, for AVX2, AVX-512 and ARM) and ``AMX`` (tiles, on Intel's server CPUs). The loader gives
each weight to the first buffer in a list that supports its type and shape. So leaving a buffer out of that list keeps its
kernels from ever running, and changes nothing else.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llama_cpp.llama_cpp import _lib as _libllama

_POINTER: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_INT: Final = ctypes.c_int


class InitParams(ctypes.Structure):
    """``ggml_init_params``."""

    _fields_ = (("mem_size", _SIZE), ("mem_buffer", _POINTER), ("no_alloc", ctypes.c_bool))


# As in ggml.h, ggml-alloc.h, ggml-backend.h and ggml-cpu.h of the pinned llama.cpp.
_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "ggml_backend_dev_count": (_SIZE, []),
    "ggml_backend_dev_get": (_POINTER, [_SIZE]),
    "ggml_backend_dev_by_type": (_POINTER, [_INT]),
    "ggml_backend_dev_name": (ctypes.c_char_p, [_POINTER]),
    "ggml_backend_dev_description": (ctypes.c_char_p, [_POINTER]),
    "ggml_backend_dev_memory": (None, [_POINTER, ctypes.POINTER(_SIZE), ctypes.POINTER(_SIZE)]),
    "ggml_backend_dev_backend_reg": (_POINTER, [_POINTER]),
    "ggml_backend_dev_buffer_type": (_POINTER, [_POINTER]),
    "ggml_backend_dev_init": (_POINTER, [_POINTER, ctypes.c_char_p]),
    "ggml_backend_reg_get_proc_address": (_POINTER, [_POINTER, ctypes.c_char_p]),
    "ggml_backend_buft_name": (ctypes.c_char_p, [_POINTER]),
    "ggml_backend_supports_op": (ctypes.c_bool, [_POINTER, _POINTER]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_POINTER, [_POINTER, _POINTER]),
    "ggml_backend_tensor_set": (None, [_POINTER, _POINTER, _SIZE, _SIZE]),
    "ggml_backend_tensor_get": (None, [_POINTER, _POINTER, _SIZE, _SIZE]),
    "ggml_backend_graph_compute": (_INT, [_POINTER, _POINTER]),
    "ggml_backend_buffer_free": (None, [_POINTER]),
    "ggml_backend_free": (None, [_POINTER]),
    "ggml_init": (_POINTER, [InitParams]),
    "ggml_free": (None, [_POINTER]),
    "ggml_new_tensor_2d": (_POINTER, [_POINTER, _INT, ctypes.c_int64, ctypes.c_int64]),
    "ggml_mul_mat": (_POINTER, [_POINTER, _POINTER, _POINTER]),
    "ggml_new_graph": (_POINTER, [_POINTER]),
    "ggml_build_forward_expand": (None, [_POINTER, _POINTER]),
    "ggml_row_size": (_SIZE, [_INT, ctypes.c_int64]),
    "ggml_quantize_chunk": (_SIZE, [_INT, _POINTER, _POINTER, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _POINTER]),
}

CPU_DEVICE: Final = 0
"""``GGML_BACKEND_DEVICE_TYPE_CPU``."""

AMX: Final = "AMX"
"""The name of llama.cpp's buffer for AMX."""


@functools.cache
def ggml(name: str) -> Any:
    """The function ``name``, with the types of its arguments and result."""
    result, arguments = _SIGNATURES[name]
    function = getattr(_library_with(name), name)
    function.restype, function.argtypes = result, arguments
    return function


def _library_with(name: str) -> Any:
    """The loaded library that has the function ``name``.

    Elsewhere than on Windows a look-up in libllama goes on into the libraries that it was linked with. To open those by
    file would load them a second time: beside ``libggml.so.0``, which libllama needs, lies a copy called ``libggml.so``.
    """
    if os.name != "nt" or hasattr(_libllama, name):
        return _libllama
    folder = Path(_libllama._name).parent
    return next(library for library in map(ctypes.CDLL, map(str, folder.glob("*ggml*.dll"))) if hasattr(library, name))


def extra_buffers() -> dict[str, int]:
    """The buffers that the build has on this CPU, in llama.cpp's order of preference: name, address of the buffer type."""
    return {ggml("ggml_backend_buft_name")(address).decode(): address for address in _all_buffers()}


def use_kernels(kernels: str) -> None:
    """Let models that are loaded from now on use these kernels and no others.

    Args:
        kernels: one of :data:`archroute_edge.engine._kernel_trial.KERNELS`.

    llama.cpp keeps its list for the whole process, so this holds for models that other parts of the program load, too.
    """
    offered = buffers_for(kernels, extra_buffers())
    slots = _slots()
    for index, address in itertools.zip_longest(range(len(_all_buffers())), offered.values()):
        slots[index] = address


def buffers_for(kernels: str, buffers: Mapping[str, int]) -> dict[str, int]:
    """Those of ``buffers`` that a choice of kernels leaves, in their order."""
    if kernels == "plain":
        return {}
    return {name: address for name, address in buffers.items() if kernels == "amx" or name != AMX}


@functools.cache
def _all_buffers() -> tuple[int, ...]:
    """The list as llama.cpp made it."""
    slots = _slots()
    return tuple(itertools.takewhile(bool, (slots[index] for index in itertools.count()))) if slots else ()


def _slots() -> Any:
    """The list that llama.cpp's loader reads, in place: addresses, then a null. None if this build has no such list.

    It is what the CPU backend's ``ggml_backend_dev_get_extra_bufts`` points to (ggml/src/ggml-cpu/ggml-cpu.cpp), read by
    ``make_cpu_buft_list`` (src/llama-model.cpp).
    """
    device = ggml("ggml_backend_dev_by_type")(CPU_DEVICE)
    registry = ggml("ggml_backend_dev_backend_reg")(device)
    address = ggml("ggml_backend_reg_get_proc_address")(registry, b"ggml_backend_dev_get_extra_bufts")
    first = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(address)(device) if address else None
    return ctypes.cast(first, ctypes.POINTER(ctypes.c_void_p)) if first else None
