"""A model's weights in ik_llama.cpp, and that library's log."""

from __future__ import annotations

import ctypes
import logging
import os
import weakref
from typing import Any, Final

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._cancellation import Cancellation
from archroute_edge.engine._cpu import cpu
from archroute_edge.engine._ik_binding import TESTED_VERSION, LogCallback, binding, ik_libraries
from archroute_edge.errors import EngineError, ModelLoadError
from archroute_edge.system import OwnProcess

logger = logging.getLogger("archroute_edge.ik_llama_cpp")

_ERROR: Final = 4
_last_error = ""


@LogCallback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _user_data: object) -> None:
    """Pass messages on to logging as debug; of errors the first has the reason."""
    global _last_error
    message = text.decode("utf-8", "replace").strip()
    if level == _ERROR and message and not _last_error:
        _last_error = message
    if message and message != ".":
        logger.debug("%s", message)


def take_last_error() -> str:
    """What ik_llama.cpp complained of since the last call, in its words, or an empty string."""
    global _last_error
    message, _last_error = _last_error, ""
    return message


_is_initialised = False


def initialised() -> Any:
    """The binding, with its log sent to ``logging``."""
    global _is_initialised
    api = binding()
    if not _is_initialised:
        api.llama_log_set(_on_log, None)
        api.llama_backend_init()
        _is_initialised = True
    return api


class IkWeights:
    """A model's weights, interleaved for this engine's kernels; engines are made from it.

    Args:
        path: a checked GGUF.
        cancellation: stops the loading.
        n_tokens: the size of the vocabulary that llama.cpp read from the same file.
        overrides: replace some of the file's metadata: an array of ``llama_model_kv_override``, which both libraries share.

    Raises:
        DecisionCancelledError: ``cancellation`` was set.
        EngineError: ik_llama.cpp is not here, or not the tested version.
        ModelLoadError: it refused the model; the message has its reason.
    """

    def __init__(self, path: str | os.PathLike[str], cancellation: Cancellation, n_tokens: int, overrides: Any = None) -> None:
        self._api = api = initialised()
        params = api.llama_model_default_params()
        if overrides is not None:
            params.kv_overrides = ctypes.cast(overrides, type(params.kv_overrides))
        params.n_gpu_layers = 0
        params.flash_attn = False
        # Of weights that lie in the file, each evaluation would interleave rows again.
        params.repack_tensors, params.use_mmap = True, False
        was_ending = backend.is_ending()
        params.progress_callback = api.llama_progress_callback(
            lambda _progress, _data: not (cancellation.cancelled or backend.is_ending() != was_ending)
        )
        take_last_error()
        with backend.making():
            self._handle: Any = api.llama_model_load_from_file(os.fsencode(path), params)
        if not self._handle:
            cancellation.check()
            raise ModelLoadError(f"{path}: ik_llama.cpp cannot load it: {take_last_error() or 'no reason given'}")
        self._free = weakref.finalize(self, free_here, api.llama_free_model, self._handle, None, OwnProcess())
        # Threads that are daemons may be using it when the program ends.
        self._free.atexit = False
        found = api.llama_n_vocab(self._handle)
        if found != n_tokens:
            self.close()
            raise ModelLoadError(f"{path}: ik_llama.cpp reads {found} tokens in its vocabulary, and llama.cpp {n_tokens}")

    @property
    def handle(self) -> Any:
        """The ``llama_model *``.

        Raises:
            EngineError: closed.
        """
        if not self._handle:
            raise EngineError("the model has been closed")
        return self._handle

    def close(self) -> None:
        """Free the weights. Every engine made from them must be closed before."""
        self._free()
        self._handle = None


def build_key(fingerprint: str) -> dict[str, object]:
    """What of a model, this library and the CPU decides whether what was computed before would be computed again."""
    return {
        "engine": "ik_llama.cpp",
        "model": fingerprint,
        "binding": TESTED_VERSION,
        "libraries": [list(library) for library in ik_libraries()],
        "cpu": cpu(),
    }


def free_here(free: Any, handle: Any, _kept: object, process: OwnProcess) -> None:
    """Call ``free`` with ``handle``, in the process that made it; what is ``_kept`` lives until then."""
    # In a forked process it is a copy, perhaps in the middle of an evaluation.
    if process.is_this:
        with backend.making():
            free(handle)
