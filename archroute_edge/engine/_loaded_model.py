"""A model's weights and vocabulary in memory."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._cancellation import Cancellation
from archroute_edge.engine._engine_names import EngineName
from archroute_edge.engine._gguf_header import GGUFHeader
from archroute_edge.engine._model_check import ModelKind, check_model_file, model_fingerprint, model_kind
from archroute_edge.engine._tokenizer_overrides import without_tokenizer
from archroute_edge.engine._vocabulary import Vocabulary
from archroute_edge.errors import EngineError, ForkedProcessError, ModelFileError, ModelLoadError
from archroute_edge.system import OwnProcess

if TYPE_CHECKING:
    from archroute_edge.engine._ik_weights import IkWeights


class LoadedModel:
    """A model's weights and vocabulary in memory; contexts are made from it.

    Args:
        path: the GGUF file.
        n_gpu_layers: layers to put on the GPU; negative means all.
        vocabulary_only: load no weights; enough to write prompts, not to evaluate them.
        needs_weights: whether the file must have weights all the same.
        engine: the library that has the weights and evaluates them, or what chooses it by the checked header. The vocabulary is
            llama.cpp's in any case, so that prompts and answers are the same tokens with every engine.
        wanted: the kind of model that will do.
        cancellation: stops the loading.

    Raises:
        DecisionCancelledError: ``cancellation`` was set.
        ModelNotFoundError: there is no such file.
        ModelFileError: the file is damaged or of another kind.
        ModelLoadError: llama.cpp or ik_llama.cpp refused it; the message has its reason.
        EngineError: ik_llama.cpp is asked for, and not here.
        ForkedProcessError: this build computes on GPUs, and was used before this process was forked.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        n_gpu_layers: int = -1,
        vocabulary_only: bool = False,
        needs_weights: bool = True,
        wanted: ModelKind | None = "generative",
        engine: EngineName | Callable[[GGUFHeader], EngineName] = "llama.cpp",
        cancellation: Cancellation | None = None,
    ) -> None:
        self.path = Path(path)
        self.header: GGUFHeader = check_model_file(self.path, wanted, needs_weights=needs_weights or not vocabulary_only)
        self.kind: ModelKind = model_kind(self.header)
        self.fingerprint = model_fingerprint(self.header)
        self.engine: EngineName = engine(self.header) if callable(engine) else engine
        if backend.was_used_before_fork() and backend.build().gpu_offload:
            raise ForkedProcessError(
                "llama.cpp was used before this process was forked, and its GPU cannot be used here; "
                "start processes with spawn, or make no router before the fork"
            )
        backend.initialise()
        backend.note_use()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers if backend.build().gpu_offload and self.engine == "llama.cpp" else 0
        params.vocab_only = vocabulary_only or self.engine != "llama.cpp"
        self.n_gpu_layers = int(params.n_gpu_layers)
        n_tokens = self.header.length("tokenizer.ggml.tokens") or 0
        # Ours is used for encoders.
        overrides = without_tokenizer(llama_cpp, self.header.architecture, n_tokens) if self.kind == "encoder" else None
        if overrides is not None:
            params.kv_overrides = overrides
        cancellation = cancellation or Cancellation()
        # llama.cpp asks before each tensor. A model that was begun before the end of the program has nobody
        # waiting for it any more; one that a function registered with atexit asks for has.
        was_ending = backend.is_ending()
        params.progress_callback = llama_cpp.llama_progress_callback(
            lambda _progress, _data: not (cancellation.cancelled or backend.is_ending() != was_ending)
        )
        backend.take_last_error()
        with backend.making():
            self._handle: Any = llama_cpp.llama_model_load_from_file(os.fsencode(self.path), params)
        if not self._handle:
            cancellation.check()
            reason = backend.take_last_error() or "no reason given"
            raise ModelLoadError(f"{self.path}: llama.cpp cannot load it: {reason}")
        # Also frees the weights when the last reference goes.
        self._free = weakref.finalize(self, _free_model, self._handle, OwnProcess())
        # Threads that are daemons may be using it then. A GPU wants its memory back, or ends the process with an error.
        self._free.atexit = backend.build().gpu_offload
        for kind in ("recurrent", "hybrid", "diffusion"):
            if getattr(llama_cpp, f"llama_model_is_{kind}")(self._handle):
                self._free()
                raise ModelFileError(f"{self.path}: a {kind} model, whose cache cannot be cut back; use a plain transformer")
        self.vocabulary = Vocabulary(llama_cpp.llama_model_get_vocab(self._handle))
        # Without weights llama.cpp does not read it.
        n_ctx_train = self.header.integer(f"{self.header.architecture}.context_length") if params.vocab_only else None
        self.n_ctx_train: int = n_ctx_train or llama_cpp.llama_model_n_ctx_train(self._handle)
        self._ik_weights: IkWeights | None = None
        if self.engine == "ik":
            try:
                self._ik_weights = _load_ik_weights(self.path, cancellation, self.vocabulary.n_tokens, overrides)
            except BaseException:
                self.close()
                raise

    @property
    def ik_weights(self) -> IkWeights:
        """The weights in ik_llama.cpp.

        Raises:
            EngineError: the model has been closed, or another engine has them.
        """
        if self._ik_weights is None:
            state = "the model has been closed" if not self._handle else "ik_llama.cpp has no weights of it"
            raise EngineError(f"{self.path}: {state}")
        return self._ik_weights

    @property
    def chat_template(self) -> str | None:
        """The Jinja template stored in the file, or None."""
        return self.header.text("tokenizer.chat_template")

    @property
    def handle(self) -> Any:
        """The ``llama_model *``.

        Raises:
            EngineError: the model has been closed.
        """
        if not self._handle:
            raise EngineError(f"{self.path}: the model has been closed")
        return self._handle

    def close(self) -> None:
        """Free the weights. Every context made from the model must be closed before."""
        if self._ik_weights is not None:
            self._ik_weights.close()
            self._ik_weights = None
        self._free()
        self._handle = None
        self.vocabulary.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _load_ik_weights(path: Path, cancellation: Cancellation, n_tokens: int, overrides: Any) -> IkWeights:
    # An extra installs it.
    from archroute_edge.engine._ik_weights import IkWeights

    return IkWeights(path, cancellation, n_tokens, overrides)


def _free_model(handle: Any, process: OwnProcess) -> None:
    # In a forked process it is a copy; a GPU's memory is not even that.
    if process.is_this:
        with backend.making():
            llama_cpp.llama_model_free(handle)
