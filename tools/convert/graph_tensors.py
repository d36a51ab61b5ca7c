"""Read the tensors of llama.cpp's compute graph in its evaluation callback.

The structure is ``struct ggml_tensor`` of ggml.h in the llama.cpp that llama-cpp-python 0.3.36 is built from.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

_N_DIMENSIONS: Final = 4
_TYPE_F32: Final = 0


class GraphTensor(ctypes.Structure):
    """A node of the graph. ``ne`` are the lengths, row length first; ``nb`` the strides in bytes."""


GraphTensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * _N_DIMENSIONS),
    ("nb", ctypes.c_size_t * _N_DIMENSIONS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(GraphTensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


@functools.cache
def ggml_library() -> Any:
    """ggml's own functions, of the library that llama_cpp has loaded."""
    library = ctypes.CDLL(str(next(path for path in (Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base*"))))
    library.ggml_op_name.argtypes, library.ggml_op_name.restype = [ctypes.c_int], ctypes.c_char_p
    library.ggml_nbytes.argtypes, library.ggml_nbytes.restype = [ctypes.c_void_p], ctypes.c_size_t
    library.ggml_tensor_overhead.restype = ctypes.c_size_t
    library.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.ggml_backend_tensor_get.restype = None
    return library


@functools.cache
def operation_name(op: int) -> str:
    """What ggml calls an operation: MUL_MAT and the like."""
    return str(ggml_library().ggml_op_name(op).decode())


def weight_name(tensor: GraphTensor) -> str:
    """A tensor's name without the scheduler's additions: ``CUDA0#blk.0.attn_k.weight#0``."""
    name = bytes(tensor.name).decode("utf-8", "replace")
    parts = name.split("#")
    return parts[1] if len(parts) > 1 else name


def is_f32(tensor: GraphTensor) -> bool:
    """Whether its numbers are 32-bit floats."""
    return bool(tensor.type == _TYPE_F32)


def read_rows(pointer: Any) -> npt.NDArray[np.float32]:
    """A copy of an F32 tensor as (rows, row length), wherever it lies, in whatever order of strides."""
    tensor = pointer.contents
    library = ggml_library()
    n_bytes = library.ggml_nbytes(pointer)
    raw = np.empty(n_bytes, np.uint8)
    library.ggml_backend_tensor_get(pointer, raw.ctypes.data, 0, n_bytes)
    shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
    whole: npt.NDArray[np.float32] = np.ndarray(shape, np.float32, raw.data, 0, strides)
    rows: npt.NDArray[np.float32] = whole.reshape(-1, shape[-1])
    return rows
