"""The process that measures: its answers, and that its death is an error and not a hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from archroute_edge.bench._measuring_process import MeasuringProcess
from archroute_edge.errors import BenchmarkError, MeasuringProcessError

ROUTES = [["bug_fixing", "fixing errors in code"], ["travel", "planning trips"]]
SETTINGS = {"threads": 1, "prefix_cache": False}


@pytest.fixture(scope="module")
def shared(random_model: Path, kernel_verdict: Path) -> Iterator[MeasuringProcess]:
    with pytest.MonkeyPatch.context() as patch:
        # The folders of a test are for its own processes alone.
        patch.setenv("ARCHROUTE_CACHE_DIR", str(kernel_verdict.parent))
        process = MeasuringProcess("Q0")
    with process:
        opened = process.ask("open", model=str(random_model), routes=ROUTES, settings=SETTINGS)
        assert opened["prefix_evaluated"] == opened["prefix_tokens"] > 0
        assert (opened["threads"], opened["kv_type"]) == (1, "f16")
        shared = process.ask("decide", seed=0, count=1, n_turns=1, primed=False, n_warmup=0)["reused"]
        assert shared == [opened["prefix_tokens"]]
        yield process


def test_later_turns_reuse_what_the_turn_before_evaluated(shared: MeasuringProcess) -> None:
    """Would break if a later turn were timed on a conversation that was never seen."""
    primed = shared.ask("decide", seed=1, count=3, n_turns=4, primed=True)
    unseen = shared.ask("decide", seed=101, count=3, n_turns=4, primed=False)
    assert len(primed["ms"]) == len(primed["before_ms"]) == len(unseen["ms"]) == 3
    assert "before_ms" not in unseen
    assert min(primed["reused"]) > max(unseen["reused"])
    assert max(primed["evaluated"]) < min(unseen["evaluated"])


def test_a_message_of_one_turn_finds_nothing_but_the_prefix_in_the_cache(shared: MeasuringProcess, random_model: Path) -> None:
    opened = shared.ask("open", model=str(random_model), routes=ROUTES, settings=SETTINGS)
    found = shared.ask("decide", seed=301, count=8, n_turns=1, primed=False)
    # What every prompt has before the message, and a first digit or two that may be another message's too.
    wrapping = len('"role": "user", "content": "')
    assert all(opened["prefix_tokens"] <= reused <= opened["prefix_tokens"] + wrapping for reused in found["reused"])


def test_rates_and_callers_are_counted(shared: MeasuringProcess) -> None:
    rates = shared.ask("rates", seed=0)
    assert rates["prefill_tokens_per_s"] > rates["decode_tokens_per_s"] > 0
    assert shared.ask("callers", seed=401, callers=4, count=8)["decisions_per_s"] > 0


def test_an_error_there_is_an_error_here_and_the_process_goes_on(
    shared: MeasuringProcess, random_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(BenchmarkError, match=r"^Q0: .*no\.gguf: no such model file"):
        shared.ask("open", model=str(tmp_path / "no.gguf"), routes=ROUTES, settings=SETTINGS)
    with pytest.raises(BenchmarkError, match="no KV cache type"):
        shared.ask("open", model=str(tmp_path / "no.gguf"), routes=3, settings={**SETTINGS, "kv_type": "q9"})
    opened = shared.ask("open", model=str(random_model), routes=ROUTES, settings=SETTINGS)
    assert opened["prefix_evaluated"] == opened["prefix_tokens"] > 0


def test_a_process_that_is_killed_is_an_error() -> None:
    """Would break if a process that the system kills for its memory left the benchmark waiting."""
    with MeasuringProcess("Q0") as process:
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(
            MeasuringProcessError, match=r"^Q0: the measuring process was ended by signal 9 \(out of memory\?\)$"
        ):
            process.ask("rates", seed=0)


def test_what_a_dying_process_says_is_in_the_error() -> None:
    with (
        MeasuringProcess("Q0") as process,
        pytest.raises(MeasuringProcessError, match="ended with status 1: AssertionError: open comes first"),
    ):
        process.ask("rates", seed=0)
