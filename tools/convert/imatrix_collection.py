"""Collect an importance matrix: the inputs of each weight matrix while the model reads calibration text.

Counts and sums are defined as in llama.cpp's ``llama-imatrix`` (tools/imatrix): each matrix product of a ``blk.*`` weight is
watched through ``llama_context_params.cb_eval``, and the squares of its inputs are summed per channel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from archroute_edge.engine import LoadedModel
from archroute_edge.engine import _backend as backend
from archroute_edge.errors import EngineError, ImatrixError, ModelLoadError
from archroute_edge.quantize import Imatrix, Importance
from tools.convert.graph_tensors import GraphTensor, is_f32, operation_name, read_rows, weight_name
from tools.convert.routing_prompts import CALIBRATION, prompt_builder, read_cases, shipped_cases, tokenize_cases

CHUNK_TOKENS: Final = 512
"""Plain text is read in pieces of this size, as ``llama-imatrix`` does unless told otherwise."""

Progress = Callable[[int, int], None]
"""Called with tokens done and tokens in all."""


class InputSquares:
    """Sums of squares of the inputs of each watched matrix, in double precision, and how many rows there were.

    ``failure`` is what went wrong inside the callback, which must not raise: llama.cpp is the caller.
    """

    def __init__(self) -> None:
        self.sums: dict[str, npt.NDArray[np.float64]] = {}
        self.counts: dict[str, int] = {}
        self.failure: BaseException | None = None

    def __call__(self, address: int, ask: bool, _user_data: Any) -> bool:
        """Say which nodes are wanted (``ask``), and take their inputs once they are computed."""
        try:
            return self._watch(ctypes.cast(address, ctypes.POINTER(GraphTensor)), ask)
        except BaseException as exc:  # noqa: BLE001 - an interrupt, too, is raised when llama.cpp has returned
            self.failure = exc
            return False

    def _watch(self, node: Any, ask: bool) -> bool:
        operation = operation_name(node.contents.op)
        if not operation.startswith("MUL_MAT"):
            return False
        weight, inputs = node.contents.src[0].contents, node.contents.src[1]
        name = weight_name(weight)
        if not (name.startswith("blk.") and name.endswith(".weight")) or not is_f32(inputs.contents):
            return False
        if operation != "MUL_MAT" or weight.ne[2] * weight.ne[3] != 1:
            raise ImatrixError(f"{name} is a stack of experts, which cannot be watched here; llama.cpp's llama-imatrix can")
        if not ask:
            self.add(name, read_rows(inputs))
        return True

    def add(self, name: str, rows: npt.NDArray[np.float32]) -> None:
        """Count ``rows`` (rows, channels) for a matrix."""
        squares = np.einsum("rc,rc->c", rows, rows, dtype=np.float64)
        if not np.isfinite(squares).all():
            raise ImatrixError(f"the inputs of {name} are not numbers; the model is damaged")
        self.sums[name] = self.sums.get(name, 0.0) + squares
        self.counts[name] = self.counts.get(name, 0) + len(rows)

    def imatrix(self, dataset: str, chunk_size: int) -> Imatrix:
        """The counts, in the shape of the file."""
        entries = {
            name: Importance(sums.astype(np.float32)[None, :], np.array([self.counts[name]], np.float32))
            for name, sums in self.sums.items()
        }
        if not entries:
            raise ImatrixError("no matrix product of a blk.* weight was seen; this model cannot be calibrated here")
        return Imatrix(entries, (dataset,), max(self.counts.values()) // chunk_size, chunk_size)


def calibration_sequences(model: LoadedModel, calibration: Path | None, prompt_format: str) -> tuple[str, list[list[int]]]:
    """The data set's name, and the token ids to read, each list from an empty context.

    Args:
        calibration: a .jsonl file of routing prompts, or plain text; None means the routing prompts that come with this.

    Raises:
        ImatrixError: the file cannot be used, or is too short.
    """
    if calibration is not None and calibration.suffix.lower() != ".jsonl":
        return calibration.name, _chunks(model, calibration)
    cases = shipped_cases(CALIBRATION) if calibration is None else read_cases(calibration)
    prompts = tokenize_cases(model, prompt_builder(model, prompt_format), cases)
    return (calibration or CALIBRATION).name, [each.prompt + each.answer for each in prompts]


def _chunks(model: LoadedModel, path: Path) -> list[list[int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ImatrixError(f"{path}: cannot be read ({exc})") from exc
    bos = model.vocabulary.bos_tokens
    tokens = bos + model.vocabulary.tokenize(text)
    chunks = [tokens[start : start + CHUNK_TOKENS] for start in range(0, len(tokens) - CHUNK_TOKENS + 1, CHUNK_TOKENS)]
    if not chunks:
        raise ImatrixError(f"{path}: has {len(tokens)} tokens, and at least {CHUNK_TOKENS} are needed")
    return [bos + chunk[len(bos) :] for chunk in chunks]


def collect(
    model: LoadedModel,
    sequences: Sequence[Sequence[int]],
    dataset: str,
    *,
    threads: int | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Imatrix:
    """Evaluate ``sequences``, each from an empty context, and return the importance matrix of their inputs.

    Raises:
        ImatrixError: a mixture of experts, or a model that computes something that is not a number.
        ModelLoadError: llama.cpp could not make a context.
        EngineError: llama.cpp failed.
    """
    squares = InputSquares()
    # Kept in a variable of its own: ctypes does not keep a callback alive for a structure.
    callback = llama_cpp.ggml_backend_sched_eval_callback(squares)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = max(len(sequence) for sequence in sequences)
    params.n_batch = params.n_ubatch = params.n_outputs_max = CHUNK_TOKENS
    params.n_threads = params.n_threads_batch = threads or backend.physical_cores()
    params.cb_eval = callback
    params.no_perf = True
    backend.take_last_error()
    context = llama_cpp.llama_init_from_model(model.handle, params)
    if not context:
        raise ModelLoadError(f"{model.path}: no context could be made: {backend.take_last_error() or 'no reason given'}")
    total, done = sum(map(len, sequences)), 0
    try:
        for sequence in sequences:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
            for start in range(0, len(sequence), CHUNK_TOKENS):
                piece = sequence[start : start + CHUNK_TOKENS]
                _evaluate(context, piece, start, squares)
                done += len(piece)
                on_progress(done, total)
    finally:
        llama_cpp.llama_free(context)
    return squares.imatrix(dataset, CHUNK_TOKENS)


def _evaluate(context: Any, tokens: Sequence[int], start: int, squares: InputSquares) -> None:
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, start + place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            # Without this the last layer would compute the last token only.
            batch.logits[place] = True
        status = llama_cpp.llama_decode(context, batch)
    finally:
        llama_cpp.llama_batch_free(batch)
    if squares.failure is not None:
        raise squares.failure
    if status:
        raise EngineError(f"llama.cpp failed to evaluate {len(tokens)} tokens ({status}): {backend.take_last_error()}")
