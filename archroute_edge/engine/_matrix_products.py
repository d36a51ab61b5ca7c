"""Single matrix products in llama.cpp's CPU backend: weights of one type, in one buffer, times vectors.

They show whether a kernel gives right numbers, and how fast it is, without a model that has weights of its type.
No numpy here: a process that lasts for a tenth of a second would take as long again to import it.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from archroute_edge.engine._ggml import CPU_DEVICE, InitParams, ggml

WEIGHT_TYPES: Final = {
    "F32": 0, "F16": 1, "BF16": 30, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8,
    "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23,
}  # fmt: skip
"""Types of weights that common levels are made of: name, number in ``ggml_type``."""

N_THREADS: Final = 2

_F32: Final = WEIGHT_TYPES["F32"]
_CONTEXT_BYTES: Final = 1 << 20
# Buffers interleave up to 32 rows.
_FEWEST_ROWS: Final = 64


class Product:
    """``weights`` (rows, columns) times ``vectors`` (n, columns), ready to be computed any number of times.

    Args:
        weight_type: one of :data:`WEIGHT_TYPES`; the weights are quantized to it.
        buffer_type: the address of the buffer type to keep the weights in; None is ordinary memory.
        weights: row after row, single precision.
        vectors: vector after vector, single precision.
        n_columns: a multiple of 256.
        n_copies: how often the rows are there, one set after another.
        fill: whether the weights are put into the buffer; else nothing can be computed.
    """

    def __init__(
        self,
        weight_type: str,
        buffer_type: int | None,
        weights: ctypes.Array[ctypes.c_float],
        vectors: ctypes.Array[ctypes.c_float],
        n_columns: int,
        n_copies: int = 1,
        *,
        fill: bool = True,
    ) -> None:
        number = WEIGHT_TYPES[weight_type]
        n_rows, n_vectors = len(weights) // n_columns * n_copies, len(vectors) // n_columns
        with ExitStack() as stack:
            device = ggml("ggml_backend_dev_by_type")(CPU_DEVICE)
            self._backend = ggml("ggml_backend_dev_init")(device, None)
            stack.callback(ggml("ggml_backend_free"), self._backend)
            _use_threads(device, self._backend)
            ordinary = ggml("ggml_backend_dev_buffer_type")(device)
            held = stack.enter_context(_context())
            matrix = ggml("ggml_new_tensor_2d")(held, number, n_columns, n_rows)
            stack.enter_context(_allocated(held, buffer_type or ordinary))
            work = stack.enter_context(_context())
            inputs = ggml("ggml_new_tensor_2d")(work, _F32, n_columns, n_vectors)
            self._result = ggml("ggml_mul_mat")(work, matrix, inputs)
            stack.enter_context(_allocated(work, ordinary))
            self._graph = ggml("ggml_new_graph")(work)
            ggml("ggml_build_forward_expand")(self._graph, self._result)
            self.supported: bool = ggml("ggml_backend_supports_op")(self._backend, self._result)
            # A buffer aborts the process when it is handed weights of a type that it does not support.
            if self.supported and fill:
                data = n_copies * _quantized(weights, number, n_columns)
                ggml("ggml_backend_tensor_set")(matrix, data, 0, len(data))
                ggml("ggml_backend_tensor_set")(inputs, vectors, 0, ctypes.sizeof(vectors))
            self._output = (ctypes.c_float * (n_rows * n_vectors))()
            self._stack = stack.pop_all()

    @classmethod
    def supports(cls, weight_type: str, buffer_type: int, n_columns: int) -> bool:
        """Whether the buffer takes weights of this type; nothing is quantized for the answer."""
        empty = (ctypes.c_float * (_FEWEST_ROWS * n_columns))()
        with cls(weight_type, buffer_type, empty, (ctypes.c_float * n_columns)(), n_columns, fill=False) as product:
            return product.supported

    def compute(self) -> list[float]:
        """The result, vector after vector."""
        if ggml("ggml_backend_graph_compute")(self._backend, self._graph) != 0:
            raise ArithmeticError("llama.cpp could not compute a matrix product")
        ggml("ggml_backend_tensor_get")(self._result, self._output, 0, ctypes.sizeof(self._output))
        return list(self._output)

    def seconds(self, rounds: int) -> float:
        """The least time of ``rounds`` computations."""
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            ggml("ggml_backend_graph_compute")(self._backend, self._graph)
            times.append(time.perf_counter() - begun)
        return min(times)

    def __enter__(self) -> Product:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()


def numbers(count: int, seed: int) -> ctypes.Array[ctypes.c_float]:
    """``count`` numbers between -1 and 1, always the same for a seed (a linear congruential generator)."""
    state = itertools.accumulate(itertools.repeat(seed, count), lambda value, _: (1664525 * value + 1013904223) % 2**32)
    return (ctypes.c_float * count)(*(value / 2**31 - 1 for value in state))


def repeated(values: ctypes.Array[ctypes.c_float], n_copies: int) -> ctypes.Array[ctypes.c_float]:
    """``values``, ``n_copies`` times."""
    return (ctypes.c_float * (n_copies * len(values))).from_buffer_copy(n_copies * bytes(values))


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """The cosine between two vectors; 0 if it is not a number."""
    norms = math.sqrt(math.fsum(each * each for each in first) * math.fsum(each * each for each in second))
    value = math.fsum(a * b for a, b in zip(first, second, strict=True)) / norms if norms else 0.0
    return value if math.isfinite(value) else 0.0


def _quantized(weights: ctypes.Array[ctypes.c_float], number: int, n_columns: int) -> bytes:
    if number == _F32:
        return bytes(weights)
    n_rows = len(weights) // n_columns
    data = ctypes.create_string_buffer(ggml("ggml_row_size")(number, n_columns) * n_rows)
    ggml("ggml_quantize_chunk")(number, weights, data, 0, n_rows, n_columns, None)
    return data.raw


def _use_threads(device: int, backend: int) -> None:
    """Compute on two threads: what is allowed to one may not be to another, as with the tiles of AMX."""
    registry = ggml("ggml_backend_dev_backend_reg")(device)
    address = ggml("ggml_backend_reg_get_proc_address")(registry, b"ggml_backend_set_n_threads")
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(address)(backend, N_THREADS)


@contextmanager
def _context() -> Iterator[int]:
    context = ggml("ggml_init")(InitParams(_CONTEXT_BYTES, None, True))
    try:
        yield context
    finally:
        ggml("ggml_free")(context)


@contextmanager
def _allocated(context: int, buffer_type: int) -> Iterator[None]:
    buffer = ggml("ggml_backend_alloc_ctx_tensors_from_buft")(context, buffer_type)
    if not buffer:
        raise MemoryError("llama.cpp could not allocate a matrix")
    try:
        yield
    finally:
        ggml("ggml_backend_buffer_free")(buffer)
