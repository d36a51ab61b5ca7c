"""What contexts for completion and for embedding share: making and freeing one, running a batch, and its key."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import llama_cpp

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._batch import BatchArrays
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.errors import EngineError, ModelLoadError
from archroute_edge.system import OwnProcess

Item = TypeVar("Item")


def context_params(n_ctx: int, n_batch: int, n_sequences: int) -> Any:
    """llama.cpp's parameters for a context whose sequences share ``n_ctx`` cells."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = n_batch
    params.n_seq_max = n_sequences
    params.kv_unified = params.no_perf = True
    return params


def parts(items: Sequence[Item], most: int, weigh: Callable[[Item], int], most_weight: int) -> Iterator[Sequence[Item]]:
    """``items`` cut into parts of at most ``most``, whose weights are together at most ``most_weight``."""
    start = weight = 0
    for index, item in enumerate(items):
        if index - start == most or weight + weigh(item) > most_weight:
            yield items[start:index]
            start, weight = index, 0
        weight += weigh(item)
    if start < len(items):
        yield items[start:]


class LlamaContext:
    """A llama.cpp context. Not thread-safe: one caller at a time.

    Args:
        model: stays open when the context is closed.
        params: see :func:`context_params`.
        n_threads: threads for evaluation.
        what: ends the error "no context ... could be made".

    Raises:
        ModelLoadError: llama.cpp could not make it.
    """

    def __init__(self, model: LoadedModel, params: Any, n_threads: int, what: str) -> None:
        self.model = model
        self._n_threads = params.n_threads = params.n_threads_batch = n_threads
        backend.take_last_error()
        with backend.making():
            self._handle: Any = llama_cpp.llama_init_from_model(model.handle, params)
        if not self._handle:
            reason = backend.take_last_error() or "no reason given"
            raise ModelLoadError(f"{model.path}: no context {what} could be made: {reason}")
        # The finalizer holds the model, so that it outlives the context even if the garbage collector takes both.
        self._free = weakref.finalize(self, _free_context, self._handle, model, OwnProcess())
        # Threads that are daemons may be using it then. A GPU wants its memory back, or ends the process with an error.
        self._free.atexit = backend.build().gpu_offload

    def _open(self) -> Any:
        if not self._handle:
            raise EngineError(f"{self.model.path}: the engine has been closed")
        return self._handle

    def _run(self, evaluate: Callable[[Any, Any], int], batch: BatchArrays) -> int:
        """``llama_decode`` or ``llama_encode`` on a batch; returns its status."""
        n_threads = backend.usable_threads(self._n_threads)
        llama_cpp.llama_set_n_threads(self._open(), n_threads, n_threads)
        backend.take_last_error()
        return evaluate(self._handle, batch.structure(llama_cpp.llama_batch))

    def state_key(self) -> dict[str, object]:
        """Everything but the input that decides whether what was computed before is what this context would compute."""
        build = backend.build()
        return {
            "model": self.model.fingerprint,
            "binding": build.binding_version,
            "libraries": [list(library) for library in build.libraries],
            "system": build.system_info,
            "kernels": build.kernels,
            "devices": [[device.name, device.description] for device in backend.devices()],
            "n_gpu_layers": self.model.n_gpu_layers,
        }

    def close(self) -> None:
        """Free the context; the model stays."""
        self._free()
        self._handle = None


def _free_context(handle: Any, _model: LoadedModel, process: OwnProcess) -> None:
    # A copy in a forked process may have been in the middle of an evaluation, and a GPU's memory is no copy.
    if process.is_this:
        with backend.making():
            llama_cpp.llama_free(handle)
