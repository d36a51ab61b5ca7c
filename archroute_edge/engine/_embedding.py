"""Sentence vectors: many texts, as sequences, in one evaluation.

Both libraries abort the process if an encoder gets more tokens than a batch may hold, or a text with more positions than it was
made for. So texts are cut here, and batches are filled below that bound.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import llama_cpp
import numpy as np
import numpy.typing as npt

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._batch import BatchArrays
from archroute_edge.engine._cancellation import ABORT_CALLBACK, Cancellation
from archroute_edge.engine._context import LlamaContext, context_params, parts
from archroute_edge.engine._loaded_model import LoadedModel
from archroute_edge.engine._model_check import control_tokens
from archroute_edge.engine._tokenizer import read_tokenizer
from archroute_edge.errors import EngineError, ModelLoadError

N_UBATCH: Final = 512
"""Most tokens in one evaluation. Attention is computed between all of them, other texts' included, so more is no faster."""

N_TEXTS: Final = 64
"""Most texts in one evaluation."""

_FEWEST_TILED: Final = 64
"""llama.cpp's flash attention computes fewer tokens than these one by one on a CPU, and takes longer than without it."""

Vectors = npt.NDArray[np.float32]
"""(texts, width), each row of length 1."""


@dataclass(frozen=True)
class EncodedText:
    """The token ids of a text, those that stand around every text included; ``cut`` says that its end was left out."""

    tokens: tuple[int, ...]
    cut: bool


def batches(texts: Sequence[EncodedText]) -> Iterator[Sequence[EncodedText]]:
    """``texts`` in parts that :meth:`EmbeddingEngine.embed` takes one evaluation for."""
    return parts(texts, N_TEXTS, lambda text: len(text.tokens), N_UBATCH)


class Encoder(Protocol):
    """What a library computes vectors with. Not thread-safe: one caller at a time."""

    def evaluate(self, batch: BatchArrays, n_texts: int, cancellation: Cancellation) -> list[Any]:
        """Evaluate texts, sequence by sequence; a pointer to the vector of each, valid until the next evaluation.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: the library failed, or gave no vector.
        """

    def state_key(self) -> dict[str, object]:
        """Everything but the texts that decides whether kept vectors are those that would be computed."""

    def close(self) -> None:
        """Free the contexts; the model stays."""


class EmbeddingEngine:
    """Turns texts into vectors with a loaded encoder, in the library that has its weights.

    From any thread; evaluations take turns.

    Args:
        model: a sentence encoder; it stays open when the engine is closed.
        n_threads: threads for evaluation.
        most_tokens: at most so many tokens of a text are read; fewer if the model has fewer positions.

    Raises:
        ModelLoadError: the library could not make the context.
    """

    def __init__(self, model: LoadedModel, n_threads: int, most_tokens: int = N_UBATCH) -> None:
        if model.kind != "encoder":
            raise ModelLoadError(f"{model.path}: is no sentence encoder")
        self.model = model
        width = model.header.integer(f"{model.header.architecture}.embedding_length")
        assert width is not None  # The file was checked.
        self.width: int = width
        self._most_tokens = min(N_UBATCH, model.n_ctx_train, max(most_tokens, 2))
        self._first, self._last, _ = control_tokens(model.header)
        self._tokenizer = read_tokenizer(model.header)
        self._evaluating, self._next = threading.Lock(), threading.Lock()
        self._encoder: Encoder = _open_encoder(model, n_threads)

    def encode(self, text: str) -> EncodedText:
        """The tokens of ``text``, without its end if it has more than are read."""
        room = self._most_tokens - 2
        inner = list(islice(self._tokenizer.tokenize(text), room + 1))
        return EncodedText((self._first, *inner[:room], self._last), len(inner) > room)

    def embed(self, texts: Sequence[EncodedText], cancellation: Cancellation | None = None) -> Vectors:
        """The vectors of ``texts``, in their order.

        Raises:
            DecisionCancelledError: ``cancellation`` was set.
            EngineError: the library failed, or the model computed something that is no direction.
        """
        cancellation = cancellation or Cancellation()
        parts = [self._evaluate([text.tokens for text in batch], cancellation) for batch in batches(texts)]
        return np.concatenate(parts) if parts else np.empty((0, self.width), np.float32)

    def n_evaluations(self, texts: Sequence[EncodedText]) -> int:
        """How many evaluations :meth:`embed` takes for ``texts``."""
        return sum(1 for _ in batches(texts))

    def _evaluate(self, texts: Sequence[Sequence[int]], cancellation: Cancellation) -> Vectors:
        # Also here: backends that run on a GPU never look at it.
        cancellation.check()
        lengths = [len(text) for text in texts]
        n_tokens = sum(lengths)
        # The process dies of more; nothing above lets that happen.
        assert n_tokens <= N_UBATCH and len(texts) <= N_TEXTS and max(lengths) <= self._most_tokens
        batch = BatchArrays(
            np.concatenate([np.array(text, np.int32) for text in texts]),
            np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            np.ones(n_tokens, np.int32),
            np.repeat(np.arange(len(texts), dtype=np.int32), lengths),
            np.ones(n_tokens, np.int8),
        )
        with self._turn(cancellation):
            return self._evaluate_batch(batch, len(texts), cancellation)

    @contextmanager
    def _turn(self, cancellation: Cancellation) -> Iterator[None]:
        """A turn to evaluate. A thread that waits has the next one, so that one with many evaluations keeps none out."""
        with ExitStack() as evaluating:
            with cancellation.holding(self._next):
                evaluating.enter_context(cancellation.holding(self._evaluating))
            yield

    def _evaluate_batch(self, batch: BatchArrays, n_texts: int, cancellation: Cancellation) -> Vectors:
        rows = self._encoder.evaluate(batch, n_texts, cancellation)
        vectors = np.stack([np.ctypeslib.as_array(row, (self.width,)) for row in rows])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise EngineError(f"{self.model.path}: the model computed a vector that has no direction; the file is damaged")
        unit: Vectors = vectors / lengths
        return unit

    def close(self) -> None:
        """Free the contexts, which no thread may be using; the model stays."""
        self._encoder.close()

    def state_key(self) -> dict[str, object]:
        """Everything but the texts that decides whether kept vectors are those that this engine would compute."""
        return {"what": "sentence vectors", **self._encoder.state_key()}


def _open_encoder(model: LoadedModel, n_threads: int) -> Encoder:
    if model.engine == "ik":
        # An extra installs it.
        from archroute_edge.engine._ik_encoder import IkEncoder

        return IkEncoder(model, n_threads, N_UBATCH, N_TEXTS)
    return _LlamaEncoder(model, n_threads)


class _LlamaEncoder(LlamaContext):
    """An :class:`Encoder` over contexts of llama.cpp: on a CPU a second one for few tokens.

    Raises:
        ModelLoadError: llama.cpp could not make one.
    """

    def __init__(self, model: LoadedModel, n_threads: int) -> None:
        params = context_params(N_UBATCH, N_UBATCH, N_TEXTS)
        params.embeddings = True
        super().__init__(model, params, n_threads, "for embeddings")
        self._few: LlamaContext | None = None
        if model.n_gpu_layers == 0:
            few = context_params(_FEWEST_TILED, _FEWEST_TILED, N_TEXTS)
            few.embeddings, few.flash_attn_type = True, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
            self._few = LlamaContext(model, few, n_threads, "for embeddings")

    def evaluate(self, batch: BatchArrays, n_texts: int, cancellation: Cancellation) -> list[Any]:
        """As :meth:`Encoder.evaluate` says."""
        n_tokens = len(batch.tokens)
        context: LlamaContext = self if self._few is None or n_tokens >= _FEWEST_TILED else self._few
        handle = context._open()
        llama_cpp.llama_set_abort_callback(handle, ABORT_CALLBACK, cancellation.address)
        status = context._run(llama_cpp.llama_encode, batch)
        if status != 0:
            # An evaluation that was stopped is one that failed.
            cancellation.check()
            raise EngineError(f"llama.cpp failed to encode {n_tokens} tokens ({status}): {backend.take_last_error()}")
        rows = [llama_cpp.llama_get_embeddings_seq(handle, number) for number in range(n_texts)]
        if not all(rows):
            raise EngineError(f"{self.model.path}: llama.cpp gave no vector for a text")
        return rows

    def close(self) -> None:
        """Free both."""
        if self._few is not None:
            self._few.close()
        super().close()

    def state_key(self) -> dict[str, object]:
        """As :meth:`Encoder.state_key` says."""
        return {"attention": "plain below 64 tokens", **super().state_key()}
