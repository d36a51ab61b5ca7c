"""Functions of ggml, the library below llama.cpp, that the ``llama_cpp`` package does not declare."""

from __future__ import annotations

import ctypes
import functools
import os
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
