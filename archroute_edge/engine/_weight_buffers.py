"""Where llama.cpp keeps weights on the CPU, and so with which kernels it computes.

Beside ordinary memory llama.cpp has buffers that hold weights in an order of their own, each with kernels for it:
``CPU_REPACK`` (interleaved rows, for AVX2, AVX-512 and ARM) and ``AMX`` (tiles, on Intel's server CPUs). When it loads a
model it gives each weight to the first buffer in a list that supports the weight's type and shape. So leaving a buffer out
of that list keeps its kernels from ever running, and changes nothing else.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Mapping
from typing import Any, Final

from archroute_edge.engine._ggml_functions import CPU_DEVICE, ggml

AMX: Final = "AMX"
"""The name of llama.cpp's buffer for AMX."""


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
