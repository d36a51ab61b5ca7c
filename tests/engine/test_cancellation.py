"""The flag that llama.cpp reads: what it does to an evaluation, and what is left afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from archroute_edge.engine import (
    BatchToken,
    Cancellation,
    CompletionEngine,
    EngineSettings,
    LlamaEngine,
    LoadedModel,
    Logits,
    open_engine,
    sequence_batch,
)
from archroute_edge.engine._cancellation import ABORT_CALLBACK
from archroute_edge.engine._completion import GPU_N_BATCH
from archroute_edge.errors import DecisionCancelledError, EvaluationStoppedError
from tests.gate import our_threads

TOKENS = list(range(5, 605))


def evaluate(engine: CompletionEngine, tokens: Sequence[int], start: int = 0) -> Logits:
    return engine.evaluate(sequence_batch(0, tokens, start, [len(tokens) - 1]))


def test_the_c_function_reads_the_flag() -> None:
    """Would break on a C library whose strlen is not found, or is none."""
    flag = Cancellation()
    assert not ABORT_CALLBACK(flag.address)
    flag.cancel()
    assert ABORT_CALLBACK(flag.address)


def test_an_engine_stops_at_the_flag(each_loaded: LoadedModel) -> None:
    """Within a piece: would break if only the border of two pieces were one at which to stop."""
    engine = open_engine(each_loaded, EngineSettings(1024, 1))
    flag = Cancellation()
    piece = sequence_batch(0, TOKENS[:100], 0, [99])
    with engine.stopped_by(flag):
        flag.cancel()
        assert engine._evaluate_piece(piece) is None
    # Without the flag the same evaluation goes through: nothing is left in the cache, nothing set in the context.
    (row,) = evaluate(engine, TOKENS[:100])
    fresh = open_engine(each_loaded, EngineSettings(1024, 1))
    assert (row == evaluate(fresh, TOKENS[:100])[0]).all()
    for each in (engine, fresh):
        each.close()


def test_a_long_evaluation_is_left_long_before_its_end(each_loaded: LoadedModel) -> None:
    """Would break if a thread that sits in C could not be stopped from another one."""
    engine = open_engine(each_loaded, EngineSettings(8192, 1))
    tokens = [5 + index % 600 for index in range(6000)]
    started = time.perf_counter()
    evaluate(engine, tokens)
    whole_s = time.perf_counter() - started
    # The least of some tries: while other tests run, the thread that cancels may get a core late.
    stopped_s = min(_stopped_after(engine, tokens, whole_s / 20) for _ in range(5))
    assert stopped_s < 0.7 * whole_s
    engine.close()


def _stopped_after(engine: CompletionEngine, tokens: Sequence[int], seconds: float) -> float:
    """The seconds that an evaluation took which was cancelled after so many."""
    engine.truncate(0, 0)
    flag = Cancellation()
    timer = threading.Timer(seconds, flag.cancel)
    with engine.stopped_by(flag), pytest.raises(EvaluationStoppedError):
        started = time.perf_counter()
        timer.start()
        evaluate(engine, tokens)
    stopped_s = time.perf_counter() - started
    timer.join()
    return stopped_s


@pytest.mark.parametrize("abortable", [True, False])
def test_finished_pieces_are_kept_and_going_on_from_them_is_exact(
    random_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, abortable: bool
) -> None:
    """With the callback and, as on a GPU, without it: would break if cells of the stopped piece were left behind."""
    n_piece = 512 if abortable else GPU_N_BATCH
    engine = open_engine(random_loaded, EngineSettings(2048, 1, abortable=abortable))
    whole = evaluate(engine, TOKENS)
    engine.truncate(0, 0)
    flag = Cancellation()
    evaluate_piece = LlamaEngine._evaluate_piece
    n_pieces = 0

    def stop_in_the_second(self: LlamaEngine, piece: Sequence[BatchToken]) -> Logits | None:
        nonlocal n_pieces
        n_pieces += 1
        if n_pieces == 2:
            flag.cancel()
        return evaluate_piece(self, piece)

    with monkeypatch.context() as patch, engine.stopped_by(flag), pytest.raises(EvaluationStoppedError) as caught:
        patch.setattr(LlamaEngine, "_evaluate_piece", stop_in_the_second)
        evaluate(engine, TOKENS)
    # What cannot be aborted is stopped behind the piece that was under way.
    n_finished = caught.value.n_finished
    assert (n_finished, n_pieces) == ((n_piece, 2) if abortable else (2 * n_piece, 2))
    engine.truncate(0, n_finished)
    again = evaluate(engine, TOKENS[n_finished:], n_finished)
    assert np.abs(again - whole).max() < 1e-4
    engine.close()


def test_a_deadline_sets_the_flag_by_itself() -> None:
    with Cancellation().until(0.05) as limited:
        assert limited.has_deadline
        with pytest.raises(DecisionCancelledError, match="at its deadline"):
            limited.wait_until(lambda seconds: time.sleep(seconds))
        assert limited.timed_out
    assert not our_threads()


def test_a_flag_sets_those_that_come_from_it() -> None:
    """Also where it was set before they were made; it is not set by theirs."""
    flag = Cancellation()
    with flag.derived() as derived:
        with flag.until(0.01) as limited, pytest.raises(DecisionCancelledError):
            limited.wait_until(lambda seconds: time.sleep(seconds))
        assert not flag.cancelled
        flag.cancel()
        assert derived.cancelled
    with flag.until(60) as limited:
        assert limited.cancelled
        assert not limited.timed_out
