"""The process in which engines are tried and measured: ``python -m archroute_edge.engine._engine_trial_worker TASK``.

TASK is a JSON object with ``compare``, a model of each kind to evaluate with both libraries, or ``measure``, a model to time
both with. Each step that it passes is a line of JSON on stdout, which shows how far it came before a library ended the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.engine._kernel_trial_worker import UnsoundError, serve
from archroute_edge.errors import EngineError, ModelLoadError

if TYPE_CHECKING:
    from archroute_edge.engine import CompletionEngine, EngineName, LoadedModel

# A routing prompt with an unseen table takes some 185 tokens, one with a known table some 60.
_N_MEASURED: Final = 96
_ROUNDS: Final = 3
# A slow machine with a large model is not kept waiting for the last round.
_ENOUGH_S: Final = 6.0
# Windows counts processor time in such steps.
_TICK_S: Final = 1 / 64
# The share of the processor time that the threads could have had. Undisturbed it is 0.85 and more.
_QUIET: Final = 0.75
_LENGTHS: Final = (200, 1, 33)
# Over ten routing prompts the largest difference of a logit was 0.09, at a standard deviation of 3.
_MOST_DIFFERENCE: Final = 0.5
# Over 400 texts the least was 0.997; tokens at random, as here, have 0.999 and more.
_LEAST_COSINE: Final = 0.98
# Kernels differ in how they treat what is left of a row beyond whole blocks. Fewer than 16 tokens get company.
_TEXT_LENGTHS: Final = (2, 16, 17, 19, 20, 23, 24, 33)
# In what the libraries, or this package, say when there is too little.
_WORDS_OF_MEMORY: Final = ("alloc", "memory")


def compare(path: str) -> None:
    """Evaluate a language model with both: prompts and single tokens, sequences cut and copied, with one and two threads.

    Raises:
        UnsoundError: the logits differ by more than rounding, or ik_llama.cpp has none.
        EngineError: ik_llama.cpp cannot be loaded, or llama.cpp failed.
        ModelLoadError: llama.cpp cannot load the model, or there is too little memory for it.
    """
    import numpy as np

    for ours, theirs in zip(*_by_both(path, _logits), strict=True):
        most = float(np.abs(ours - theirs).max())
        if not most <= _MOST_DIFFERENCE:
            raise UnsoundError(f"its logits differ from llama.cpp's by {most:.2g}")


def compare_vectors(path: str) -> None:
    """Evaluate an encoder with both: texts of many lengths, alone and together, with one and two threads.

    Raises:
        UnsoundError: the vectors differ by more than rounding, or ik_llama.cpp has none.
        EngineError: as :func:`compare`.
        ModelLoadError: as :func:`compare`.
    """
    for ours, theirs in zip(*_by_both(path, _vectors), strict=True):
        least = float((ours * theirs).sum(axis=1).min())
        if not least >= _LEAST_COSINE:
            raise UnsoundError(f"its vectors have a cosine of {least:.3f} to llama.cpp's")


def _by_both(path: str, evaluate: Callable[[str, EngineName], list[Any]]) -> tuple[list[Any], list[Any]]:
    """What ik_llama.cpp and llama.cpp make of a model."""
    from archroute_edge.engine._ik_binding import binding

    expected = evaluate(path, "llama.cpp")
    # A library that is missing says nothing about how it computes.
    binding()
    try:
        return evaluate(path, "ik"), expected
    except (EngineError, ModelLoadError) as exc:
        if any(word in str(exc) for word in _WORDS_OF_MEMORY):
            raise
        raise UnsoundError(f"it fails where llama.cpp does not: {exc}") from exc


def _logits(path: str, name: EngineName) -> list[Any]:
    from archroute_edge.engine import EngineSettings, LoadedModel, open_engine, sequence_batch

    found = []
    with LoadedModel(Path(path), n_gpu_layers=0, engine=name) as model:
        for n_threads in (1, 2):
            engine = open_engine(model, EngineSettings(512, n_threads, flash_attention=False))
            start = 0
            for length in _LENGTHS:
                tokens = [200 + (start + index) * 7919 % (model.vocabulary.n_tokens - 300) for index in range(length)]
                found.append(engine.evaluate(sequence_batch(0, tokens, start, [length - 1]))[0])
                start += length
            found += _cut_and_copied(engine, model.vocabulary.n_tokens)
            engine.close()
    return found


def _cut_and_copied(engine: CompletionEngine, n_tokens: int) -> list[Any]:
    """Logits of sequences that share the cache, after one was cut so that empty cells lie below used ones."""
    from archroute_edge.engine import sequence_batch

    tokens = [200 + index * 104729 % (n_tokens - 300) for index in range(80)]
    engine.truncate(0, 0)
    engine.evaluate(sequence_batch(0, tokens[:64], 0))
    engine.evaluate(sequence_batch(1, tokens[:4], 0))
    engine.truncate(0, 60)
    rows = [engine.evaluate(sequence_batch(1, tokens[4:9], 4, [4]))[0]]
    engine.copy(0, 2, 0, 60)
    rows.append(engine.evaluate(sequence_batch(2, tokens[60:63], 60, [2]))[0])
    return rows


def _vectors(path: str, name: EngineName) -> list[Any]:
    from archroute_edge.engine import EmbeddingEngine, EncodedText, LoadedModel

    found = []
    with LoadedModel(Path(path), n_gpu_layers=0, wanted="encoder", engine=name) as model:
        tokens = [200 + index * 7919 % (model.vocabulary.n_tokens - 300) for index in range(max(_TEXT_LENGTHS))]
        for n_threads, lengths in ((1, _TEXT_LENGTHS), (2, (5, 17))):
            engine = EmbeddingEngine(model, n_threads)
            texts = [EncodedText(tuple(tokens[:length]), cut=False) for length in lengths]
            found += [engine.embed(texts), *(engine.embed([text]) for text in texts)]
            engine.close()
    return found


def gain_on(path: str, n_threads: int) -> tuple[float, bool]:
    """How many times as fast as llama.cpp ik_llama.cpp evaluates a text with a model, and whether nothing disturbed that.

    By processor time, over all threads, which a wait for another program's turn does not lengthen. But ik_llama.cpp's threads
    wait for each other by spinning, so it may look slower than it is where the cores are busy. One of the two is in memory at a
    time.
    """
    from archroute_edge.engine import LoadedModel, physical_cores

    n_together = min(n_threads, physical_cores())

    best, is_quiet = {}, True
    for name in ("llama.cpp", "ik"):
        with LoadedModel(Path(path), n_gpu_layers=0, wanted=None, engine=name) as model:
            times: list[tuple[float, float]] = []
            with _evaluating(model, n_threads) as evaluate:
                # The first evaluation reads the weights from the disk.
                evaluate(33)
                while len(times) < _ROUNDS and sum(passed for _, passed in times) < _ENOUGH_S:
                    at, used = time.perf_counter(), time.process_time()
                    evaluate(_N_MEASURED)
                    times.append((time.process_time() - used, time.perf_counter() - at))
        used, passed = min(times)
        # Where the clock is too coarse for a model, the two are alike.
        best[name] = max(used, _TICK_S)
        is_quiet = is_quiet and used >= _QUIET * n_together * passed
    return best["llama.cpp"] / best["ik"], is_quiet


@contextmanager
def _evaluating(model: LoadedModel, n_threads: int) -> Iterator[Callable[[int], object]]:
    """What evaluates so many tokens with a model, or as many as an encoder reads."""
    from archroute_edge.engine import EmbeddingEngine, EncodedText, EngineSettings, open_engine, sequence_batch

    tokens = [200 + index * 7919 % (model.vocabulary.n_tokens - 300) for index in range(_N_MEASURED)]
    if model.kind == "encoder":
        with closing(EmbeddingEngine(model, n_threads)) as encoder:
            most = len(encoder.encode("a " * _N_MEASURED).tokens)
            yield lambda length: encoder.embed([EncodedText(tuple(tokens[: min(length, most)]), cut=False)])
        return
    with closing(open_engine(model, EngineSettings(512, n_threads))) as engine:

        def evaluate(length: int) -> None:
            engine.truncate(0, 0)
            engine.evaluate(sequence_batch(0, tokens[:length], 0, [length - 1]))

        yield evaluate


def run(task: dict[str, Any], report: Callable[..., None]) -> None:
    """Do what ``task`` asks for, and ``report`` it.

    Raises:
        UnsoundError: as :func:`compare`.
    """
    if "compare" in task:
        compare(task["compare"]["generative"])
        compare_vectors(task["compare"]["encoder"])
        report("compared")
    else:
        gain, is_quiet = gain_on(task["measure"], task["n_threads"])
        report("measured", gain=gain, is_quiet=is_quiet)


if __name__ == "__main__":
    serve(run)
