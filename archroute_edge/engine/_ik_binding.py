"""ik_llama.cpp, a fork of llama.cpp with faster kernels for CPUs, through the package ik-llama-cpp-python.

The package declares structures and a part of the functions; what else is needed is declared here, from ``include/llama.h`` of
the source that the package carries. Neither promises that it stays as it is. So a version that was not tested is refused, and
the sizes and defaults of its structures are compared with those of the header before anything is computed.

Beside llama.cpp it is a library of its own in the process: loaded for itself, so that neither finds the other's functions.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from archroute_edge.engine._cpu import folder_in_package, libraries
from archroute_edge.engine._openmp import load_openmp
from archroute_edge.errors import EngineError

PACKAGE: Final = "ik-llama-cpp-python"
_MODULE: Final = "ik_llama_cpp"
_LIBRARY: Final = "IK_LLAMA_CPP_LIB_PATH"
"""The environment's variable by which the package loads another library than its own."""
TESTED_VERSION: Final = "0.1.5"
"""The one version whose ABI is known here."""

CMAKE_FILE: Final = Path(__file__).parents[1] / "data" / "ik_llama_cpp.cmake"
"""What cmake has to read to compile it: see the file."""

_POINTER: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_INT: Final = ctypes.c_int32
_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)
LogCallback: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
"""``ggml_log_callback``."""


class CacheView(ctypes.Structure):
    """``llama_kv_cache_view``, whose cells are no more than their positions; an empty cell's is negative."""

    _fields_ = (
        ("n_cells", ctypes.c_int32),
        ("n_seq_max", ctypes.c_int32),
        ("token_count", ctypes.c_int32),
        ("used_cells", ctypes.c_int32),
        ("max_contiguous", ctypes.c_int32),
        ("max_contiguous_idx", ctypes.c_int32),
        ("cells", ctypes.POINTER(ctypes.c_int32)),
        ("cells_sequences", ctypes.POINTER(ctypes.c_int32)),
    )


# As in include/llama.h of the source in the package. ``llama_state_seq_flags`` is an uint32_t.
_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "llama_log_set": (None, [LogCallback, _POINTER]),
    "llama_print_system_info": (ctypes.c_char_p, []),
    "llama_n_vocab": (_INT, [_POINTER]),
    "llama_n_ctx": (ctypes.c_uint32, [_POINTER]),
    "llama_n_batch": (ctypes.c_uint32, [_POINTER]),
    "llama_set_n_threads": (None, [_POINTER, ctypes.c_uint32, ctypes.c_uint32]),
    "llama_set_abort_callback": (None, [_POINTER, _POINTER, _POINTER]),
    "llama_kv_cache_seq_rm": (ctypes.c_bool, [_POINTER, _INT, _INT, _INT]),
    "llama_kv_cache_seq_cp": (None, [_POINTER, _INT, _INT, _INT, _INT]),
    "llama_get_kv_cache_used_cells": (_INT, [_POINTER]),
    "llama_kv_cache_defrag": (None, [_POINTER]),
    "llama_kv_cache_update": (_INT, [_POINTER]),
    "llama_kv_cache_view_init": (CacheView, [_POINTER, _INT]),
    "llama_kv_cache_view_update": (None, [_POINTER, ctypes.POINTER(CacheView)]),
    "llama_kv_cache_view_free": (None, [ctypes.POINTER(CacheView)]),
    "llama_state_seq_get_size": (_SIZE, [_POINTER, _INT, ctypes.c_uint32]),
    "llama_state_seq_get_data": (_SIZE, [_POINTER, _BYTES, _SIZE, _INT, ctypes.c_uint32]),
    "llama_state_seq_set_data": (_SIZE, [_POINTER, _BYTES, _SIZE, _INT, ctypes.c_uint32]),
}
# ``sizeof`` by a C++ compiler, on 64-bit systems.
_SIZES: Final = {"llama_model_params": 168, "llama_context_params": 216, "llama_batch": 72, "llama_model_kv_override": 264}
# Members from the beginning, the middle and the end of each structure, with what the library sets them to.
_MODEL_DEFAULTS: Final = {
    "max_ctx_size": 0,
    "use_mmap": True,
    "vocab_only": False,
    "repack_tensors": False,
    "dry_run": False,
    "flash_attn": True,
}
_CONTEXT_DEFAULTS: Final = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "yarn_ext_factor": -1.0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "n_k_first": -1,
    "logits_all": False,
    "offload_kqv": True,
    "flash_attn": True,
    "mla_attn": 3,
    "graph_reuse": True,
    "min_experts": -1,
    "mtp": False,
    "offload_policy": None,
    "cuda_params": None,
}


def ik_version() -> str | None:
    """The version of ik-llama-cpp-python, which is not imported; None if it is not installed."""
    if find_spec(_MODULE) is None:
        return None
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        # A broken installation; bundled programs leave the package out.
        return "of unknown version"


def build_command() -> str:
    """The command that compiles it for this machine's CPU; the one on the package index knows AVX2 and no more."""
    settings = f"-DCMAKE_PROJECT_{_MODULE}_python_INCLUDE={CMAKE_FILE}"
    options = f"--force-reinstall --no-deps --no-cache-dir --no-binary {PACKAGE}"
    return f"CMAKE_ARGS={shlex.quote(settings)} pip install {options} {PACKAGE}=={TESTED_VERSION}"


def refusal() -> str | None:
    """Why this engine cannot be used here, before anything of it is loaded; None if nothing is known against it."""
    found = ik_version()
    if found is None:
        return "ik_llama.cpp is not installed; install archroute-edge[ik]"
    if found != TESTED_VERSION:
        return f"{PACKAGE} {found} was not tested; install {PACKAGE}=={TESTED_VERSION}"
    named = _named_library()
    if named is not None and not named.is_file():
        return f"{named}: no such file, though {_LIBRARY} names it"
    return None


def _named_library() -> Path | None:
    """The library that the environment names; None if it leaves that to the package."""
    named = os.environ.get(_LIBRARY)
    return Path(named) if named else None


def ik_libraries() -> tuple[tuple[str, int, int], ...]:
    """Its libraries: (file name, size in bytes, modification time in ns).

    Of one that the environment names, those beside it count as well: it may load them. It stands last again.
    """
    named = _named_library()
    if named is None:
        folder = folder_in_package(_MODULE)
        return libraries(folder) if folder is not None else ()
    file = named.resolve()
    folders = dict.fromkeys((file.parent, named.absolute().parent))
    beside = [each for folder in folders for each in libraries(folder) if _is_library(each[0]) or each[0] == file.name]
    return (*beside, *(each for each in beside if each[0] == file.name))


def _is_library(name: str) -> bool:
    return any(ending in name for ending in (".so", ".dylib", ".dll"))


@functools.cache
def binding() -> Any:
    """The package's module of structures and functions, with the functions that it lacks, checked.

    Raises:
        EngineError: it is not installed, not the tested version, cannot be loaded, or is laid out otherwise.
    """
    reason = refusal()
    if reason is not None:
        raise EngineError(reason)
    named = _named_library()
    folder = named.resolve().parent if named is not None else folder_in_package(_MODULE)
    load_openmp(folder, PACKAGE.replace("-", "_") if named is None else None)
    try:
        from ik_llama_cpp import _ctypes_api as api

        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(api._lib, name)
            function.restype, function.argtypes = result, arguments
            setattr(api, name, function)
        _check_layout(api)
    except (ImportError, OSError, AttributeError) as exc:
        remedy = "install it again" if _named_library() is None else f"{_LIBRARY} names its library; name another, or unset it"
        raise EngineError(f"{PACKAGE} cannot be loaded ({type(exc).__name__}: {exc}); {remedy}") from exc
    return api


def loading_problem() -> str | None:
    """Why it cannot be loaded into this process; None if it is."""
    try:
        binding()
    except EngineError as exc:
        return str(exc)
    return None


def _check_layout(api: Any) -> None:
    """Compare the structures with the header.

    Raises:
        EngineError: one differs.
    """
    for name, size in _SIZES.items():
        if ctypes.sizeof(getattr(api, name)) != size:
            raise EngineError(f"{PACKAGE}: {name} has not the size that was tested; install {PACKAGE}=={TESTED_VERSION}")
    for params, defaults in (
        (api.llama_model_default_params(), _MODEL_DEFAULTS),
        (api.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ):
        for member, expected in defaults.items():
            found = getattr(params, member)
            if found != expected:
                raise EngineError(
                    f"{PACKAGE}: {member} of {type(params).__name__} is {found!r} and not {expected!r}: another layout than "
                    f"the one that was tested; install {PACKAGE}=={TESTED_VERSION}"
                )
