"""Which library evaluates a model: asked for, ruled out, measured; and that nothing changes where the extra is missing."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from filelock import FileLock

import archroute_edge.engine as engine_room
from archroute_edge import Router
from archroute_edge.engine import (
    Cancellation,
    EngineChoice,
    GGUFHeader,
    _model_check,
    check_model_file,
    choose_engine,
    ik_status,
    model_fingerprint,
    read_header,
    soundness,
)
from archroute_edge.engine import _backend as backend
from archroute_edge.engine import _engine_choice as engine_choice
from archroute_edge.engine import _ik_binding as ik_binding
from archroute_edge.engine import _trials as trials
from archroute_edge.engine._engine_choice import try_engine
from archroute_edge.engine._engine_trial_worker import gain_on
from archroute_edge.engine._trials import TrialRun
from archroute_edge.errors import DecisionCancelledError, EngineError, SettingsError
from archroute_edge.system import cache_folder
from tests.conftest import EXAMPLE_ROUTES
from tests.gate import PATIENCE_S


def forget() -> None:
    """Be as another process: nothing was tried or measured in this one."""
    engine_choice._verdicts.clear()


@pytest.fixture
def header(bundled_model: Path) -> Any:
    return check_model_file(bundled_model)


@pytest.fixture
def untried() -> Iterator[None]:
    """This process has not tried ik_llama.cpp yet. What it knew comes back: else the next test would try it, for seconds."""
    known = dict(engine_choice._verdicts)
    forget()
    yield
    forget()
    engine_choice._verdicts.update(known)


@pytest.fixture
def large(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is too small for a measurement, and nothing was measured yet in this process."""
    monkeypatch.setattr(engine_choice, "SMALLEST_BYTES", 0)


def test_the_installed_build_computes_as_llama_cpp_does(untried: None, tried_kernels: None) -> None:
    """In a real child, that of ``kernel_verdict``. Would break with a build whose kernels are wrong on this CPU."""
    (kept,) = cache_folder().glob("ik-*.json")
    assert json.loads(kept.read_bytes()) == {"unsound": ""}
    assert soundness() is None
    status = ik_status()
    assert (status.version, status.refused) == (ik_binding.TESTED_VERSION, None)
    assert "AVX" in status.features


@pytest.mark.usefixtures("tried_kernels")
def test_what_is_asked_for_is_taken(header: Any) -> None:
    assert choose_engine(header, "llama.cpp", n_threads=1) == EngineChoice("llama.cpp", "asked for")
    assert choose_engine(header, "ik", n_threads=1) == EngineChoice("ik", "asked for")


def test_a_small_model_is_not_measured(header: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "run_trial", lambda *_arguments: pytest.fail("a child was started"))
    assert choose_engine(header, n_threads=1).engine == "llama.cpp"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kv_type": "q8_0"}, "KV cache of f16 here, not q8_0"),
        ({"flash_attention": True}, "flash attention"),
    ],
)
def test_what_it_does_not_do_is_left_to_llama_cpp(header: Any, large: None, settings: dict[str, Any], said: str) -> None:
    choice = choose_engine(header, n_threads=1, **settings)
    assert choice.engine == "llama.cpp"
    assert said in choice.reason
    with pytest.raises(SettingsError, match=said) as caught:
        choose_engine(header, "ik", n_threads=1, **settings)
    assert str(caught.value).startswith(f"{header.path}: ")


def test_layers_on_a_gpu_are_llama_cpps(header: Any) -> None:
    with pytest.raises(SettingsError, match="layers on the GPU"):
        choose_engine(header, "ik", n_threads=1, n_gpu_layers=3)
    # All layers, if there is a GPU: what is asked for by default.
    assert choose_engine(header, "ik", n_threads=1, n_gpu_layers=-1).engine == "ik"


@pytest.mark.parametrize(
    ("lists", "said"),
    [({"IK_ARCHITECTURES": ("llama",)}, "the architecture qwen2"), ({"IK_TYPES": ("F32",)}, "weights of Q8_0")],
)
def test_models_that_it_was_not_tested_with(
    header: Any, large: None, monkeypatch: pytest.MonkeyPatch, lists: dict[str, tuple[str, ...]], said: str
) -> None:
    for name, value in lists.items():
        monkeypatch.setattr(engine_choice, name, value)
    assert said in choose_engine(header, n_threads=1).reason
    with pytest.raises(SettingsError, match=said):
        choose_engine(header, "ik", n_threads=1)


def test_the_faster_one_is_found_by_a_measurement_and_kept(
    header: Any, large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if every process measured anew, or if a measurement were taken for another model or number of threads."""
    monkeypatch.setattr(engine_choice, "soundness", lambda _cancellation: None)
    gains, started = iter([1.7, 0.9]), []

    def measure(_module: str, task: Mapping[str, Any], _cancellation: Cancellation) -> TrialRun:
        started.append(task)
        return TrialRun({"python": {}, "measured": {"gain": next(gains), "is_quiet": True}}, 0)

    monkeypatch.setattr(engine_choice, "run_trial", measure)
    expected = EngineChoice("ik", "measured to be 1.70 times as fast as llama.cpp", 1.7)
    assert choose_engine(header, n_threads=2) == expected
    # Another process.
    forget()
    assert choose_engine(header, n_threads=2) == expected
    assert [task["measure"] for task in started] == [str(header.path)]
    assert choose_engine(header, n_threads=1).engine == "llama.cpp"
    assert [task["n_threads"] for task in started] == [2, 1]


@pytest.mark.parametrize(("n_threads", "is_quiet"), [(1, False), (2, True)])
def test_a_measurement_that_others_may_have_disturbed_counts_for_a_day(
    header: Any, large: None, monkeypatch: pytest.MonkeyPatch, n_threads: int, is_quiet: bool
) -> None:
    """Would break if what ran beside the first load decided for good, or if every process on a busy machine measured anew."""
    monkeypatch.setattr(engine_choice, "soundness", lambda _cancellation: None)
    measured = iter([{"gain": 0.9, "is_quiet": is_quiet}, {"gain": 1.7, "is_quiet": True}])
    monkeypatch.setattr(engine_choice, "run_trial", lambda *_: TrialRun({"python": {}, "measured": next(measured)}, 0))
    now = time.time()
    for hours, expected in ((0, "llama.cpp"), (23, "llama.cpp"), (25, "ik"), (1000, "ik")):
        monkeypatch.setattr(time, "time", lambda hours=hours: now + 3600 * hours)
        forget()
        assert choose_engine(header, n_threads=n_threads).engine == expected


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_process_measures_again_when_the_day_is_over(
    header: Any, large: None, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    """Would break if a server that was started in a busy moment kept the slower library until its end."""
    monkeypatch.setattr(engine_choice, "soundness", lambda _cancellation: None)
    if not is_kept:
        monkeypatch.setattr(engine_choice, "kept_in", lambda *_: None)
    measured = iter([{"gain": 0.9, "is_quiet": False}, {"gain": 1.7, "is_quiet": True}])
    monkeypatch.setattr(engine_choice, "run_trial", lambda *_: TrialRun({"python": {}, "measured": next(measured)}, 0))
    now = time.time()
    for hours, expected in ((0, "llama.cpp"), (23, "llama.cpp"), (25, "ik"), (1000, "ik")):
        monkeypatch.setattr(time, "time", lambda hours=hours: now + 3600 * hours)
        assert choose_engine(header, n_threads=1).engine == expected


@pytest.mark.parametrize("is_another_process", [False, True])
def test_a_measurement_is_about_the_kernels_of_llama_cpp(
    header: Any, large: None, tried_kernels: None, monkeypatch: pytest.MonkeyPatch, is_another_process: bool
) -> None:
    """Would break if one load with ARCHROUTE_CPU_KERNELS=plain, to try something, made ik_llama.cpp the faster one for good."""
    build = backend.build()
    for kernels, gain in (("plain", 1.7), ("repack", 0.9)):
        run = TrialRun({"python": {}, "measured": {"gain": gain, "is_quiet": True}}, 0)
        monkeypatch.setattr(engine_choice, "run_trial", lambda *_arguments, run=run: run)
        monkeypatch.setattr(backend, "build", lambda kernels=kernels: replace(build, kernels=kernels))
        assert choose_engine(header, n_threads=1).gain == gain
        if is_another_process:
            forget()


def test_a_real_measurement_comes_to_an_end(header: Any, large: None, tried_kernels: None) -> None:
    choice = choose_engine(header, n_threads=1)
    assert choice.gain is not None
    assert choice.gain > 0.1
    assert choice.engine == ("ik" if choice.gain >= engine_choice._LEAST_GAIN else "llama.cpp")


def test_what_else_runs_does_not_decide(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break with a measurement by the clock: the verdict of a busy moment is kept for all that follow."""

    def open_slowed(model: Any, settings: Any) -> Any:
        computing, waiting = (0.02, 0.1) if model.engine == "ik" else (0.04, 0.0)

        def evaluate(batch: object) -> None:
            time.sleep(waiting)
            until = time.process_time() + computing
            while time.process_time() < until:
                pass

        return SimpleNamespace(evaluate=evaluate, truncate=lambda *_: None, close=lambda: None)

    monkeypatch.setattr(engine_room, "open_engine", open_slowed, raising=False)
    gain, is_quiet = gain_on(str(random_model), 1)
    assert gain > 1.5
    assert not is_quiet


class Measuring:
    """A measurement in a real child, which goes on until it is ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def children(self) -> list[int]:
        """Those that were started, by their ids."""
        return [int(path.name) for path in self._folder.glob("[0-9]*")]

    def wait_for_child(self) -> int:
        give_up_at = time.monotonic() + PATIENCE_S
        while not self.children:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        return self.children[-1]


@pytest.fixture
def measuring(large: None, tried_kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Measuring]:
    (tmp_path / "endless.py").write_text(
        "import os, pathlib, sys, time\n"
        'print(\'{"step": "python"}\', flush=True)\n'
        "pathlib.Path(__file__).with_name(str(os.getpid())).touch()\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(engine_choice, "_WORKER", "endless")
    started = Measuring(tmp_path)
    yield started
    left = [pid for pid in started.children if psutil.pid_exists(pid)]
    for pid in left:
        psutil.Process(pid).kill()
    assert not left


def test_a_measurement_ends_with_the_load_that_it_is_for(header: Any, measuring: Measuring) -> None:
    """So does the wait for another one's end. Would break if either kept a router from closing, or the child outlived it."""
    flags = [Cancellation(), Cancellation()]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(choose_engine, header, n_threads=1, cancellation=flags[0])
        child = measuring.wait_for_child()
        second = pool.submit(choose_engine, header, n_threads=2, cancellation=flags[1])
        for flag, future in zip(reversed(flags), (second, first), strict=True):
            assert not future.done()
            flag.cancel()
            with pytest.raises(DecisionCancelledError):
                future.result(PATIENCE_S)
    assert measuring.children == [child]
    assert not psutil.pid_exists(child)
    assert not list(cache_folder().glob("engine-*"))
    assert [*engine_choice._verdicts] == ["soundness"]


def test_nobody_waits_for_another_models_measurement(
    header: Any, measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a model of which everything is known was loaded minutes later, since one beside it is measured."""
    run = TrialRun({"python": {}, "measured": {"gain": 1.7, "is_quiet": True}}, 0)
    with monkeypatch.context() as patch:
        patch.setattr(engine_choice, "run_trial", lambda *_arguments: run)
        choose_engine(header, n_threads=2)
        choose_engine(header, n_threads=3)
    # Of these verdicts one is another process's.
    del engine_choice._verdicts[header.path, model_fingerprint(header), 3, backend.build().kernels]
    flag = Cancellation()
    with ThreadPoolExecutor() as pool:
        measured = pool.submit(choose_engine, header, n_threads=1, cancellation=flag)
        measuring.wait_for_child()
        try:
            known = [pool.submit(choose_engine, header, n_threads=number) for number in (2, 3)]
            assert [each.result(PATIENCE_S).gain for each in known] == [1.7, 1.7]
            asked = [pool.submit(choose_engine, header, name, n_threads=1) for name in ("ik", "llama.cpp")]
            assert [each.result(PATIENCE_S).engine for each in asked] == ["ik", "llama.cpp"]
            assert pool.submit(ik_status).result(PATIENCE_S).refused is None
            assert not measured.done()
        finally:
            flag.cancel()


def test_measurements_take_turns(header: Any, large: None, tried_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And two that want the same make one. Would break if they ran side by side and spoilt each other's times."""
    running, most, started = [0], [0], []

    def measure(_module: str, task: Mapping[str, Any], _cancellation: Cancellation) -> TrialRun:
        started.append(task["n_threads"])
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return TrialRun({"python": {}, "measured": {"gain": 1.0 + task["n_threads"], "is_quiet": True}}, 0)

    monkeypatch.setattr(engine_choice, "run_trial", measure)
    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(choose_engine, header, n_threads=number) for number in (1, 2, 3, 1, 2, 3)]
        assert [each.result(PATIENCE_S).gain for each in found] == [2.0, 3.0, 4.0] * 2
    assert (sorted(started), most) == ([1, 2, 3], [1])


def test_processes_take_turns(header: Any, large: None, tried_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if servers that start together measured at once, or each anew, or if one that is stopped held up others."""
    monkeypatch.setattr(engine_choice, "soundness", lambda _cancellation: None)
    runs: list[int] = []

    def measure(_module: str, task: Mapping[str, Any], _cancellation: Cancellation) -> TrialRun:
        runs.append(task["n_threads"])
        return TrialRun({"python": {}, "measured": {"gain": 1.7, "is_quiet": True}}, 0)

    monkeypatch.setattr(engine_choice, "run_trial", measure)
    # Its verdict is taken from the file once this process has forgotten it, and put back when the other process is done.
    choose_engine(header, n_threads=2)
    forget()
    (kept,) = cache_folder().glob("engine-*")
    verdict = kept.read_bytes()
    kept.unlink()
    flag = Cancellation()
    with ThreadPoolExecutor() as pool, FileLock(cache_folder() / trials._LOCK_NAME) as others:
        waiting = pool.submit(choose_engine, header, n_threads=2)
        with pytest.raises(FutureTimeoutError):
            waiting.result(0.2)
        stopped = pool.submit(choose_engine, header, n_threads=3, cancellation=flag)
        flag.cancel()
        with pytest.raises(DecisionCancelledError):
            stopped.result(PATIENCE_S)
        kept.write_bytes(verdict)
        others.release()
        assert waiting.result(PATIENCE_S).gain == 1.7
    assert runs == [2]
    monkeypatch.setattr(trials, "TIME_LIMIT_S", 0.1)
    with FileLock(cache_folder() / trials._LOCK_NAME):
        assert choose_engine(header, n_threads=4).gain == 1.7
    assert runs == [2, 4]


@pytest.mark.parametrize(("silent_s", "n_said"), [(60.0, 0), (0.1, 1)])
def test_a_wait_for_another_process_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, silent_s: float, n_said: int
) -> None:
    """Would break if a router that waits for two minutes said nothing, or one that waits for a moment did."""
    monkeypatch.setattr(trials, "_SILENT_WAIT_S", silent_s)
    others = FileLock(tmp_path / trials._LOCK_NAME, thread_local=False)
    others.acquire()
    threading.Timer(0.5, others.release).start()
    with (
        caplog.at_level("INFO", logger="archroute_edge"),
        trials.turn_among_processes(tmp_path / "verdict.json", Cancellation()),
    ):
        pass
    said = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert len(said) == n_said
    assert all(re.search(r"another process .* waiting for it, at most 120 s .*trials\.lock", text) for text in said)


def test_without_locks_among_processes_it_is_measured(
    header: Any, large: None, tried_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems. The lock's file is a folder here, which cannot be opened."""
    monkeypatch.setattr(engine_choice, "soundness", lambda _cancellation: None)
    run = TrialRun({"python": {}, "measured": {"gain": 1.7, "is_quiet": True}}, 0)
    monkeypatch.setattr(engine_choice, "run_trial", lambda *_arguments: run)
    (cache_folder() / trials._LOCK_NAME).mkdir(parents=True)
    assert choose_engine(header, n_threads=2).gain == 1.7


def test_closing_a_router_ends_the_measurement_of_its_second_model(
    measuring: Measuring, bundled_model: Path, random_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that waits for it has the encoder's answer at its deadline, as while the model is loaded."""
    monkeypatch.setattr(engine_choice, "SMALLEST_BYTES", random_encoder.stat().st_size + 1)
    model = f"{random_encoder}+{bundled_model}"
    with Router(config=_config(), model=model, prefix_cache=False, threads=1, switch_over=1.0) as router:
        assert router.route("fix this bug", deadline=1.0).reason == "deadline"
        child = measuring.wait_for_child()
        cancellation = Cancellation()
        with ThreadPoolExecutor() as pool:
            cancelled = pool.submit(router.route, "fix that bug", cancellation=cancellation)
            cancellation.cancel()
            with pytest.raises(DecisionCancelledError):
                cancelled.result(PATIENCE_S)
        assert psutil.pid_exists(child)
        closing = threading.Thread(target=router.close, daemon=True)
        closing.start()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
    assert measuring.children == [child]
    assert not psutil.pid_exists(child)


def test_a_program_that_ends_ends_its_measurement(measuring: Measuring, bundled_model: Path, tmp_path: Path) -> None:
    code = f"""
import threading, time
from pathlib import Path
from archroute_edge import Route, Router
from archroute_edge.engine import _engine_choice as engine_choice
engine_choice.SMALLEST_BYTES, engine_choice._WORKER = 0, "endless"
settings = dict(model={str(bundled_model)!r}, prefix_cache=False, threads=1)
threading.Thread(target=Router, args=([Route("a", "b")],), kwargs=settings, daemon=True).start()
while not list(Path({str(tmp_path)!r}).glob("[0-9]*")):
    time.sleep(0.01)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)
    assert not psutil.pid_exists(measuring.wait_for_child())


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (TrialRun({"python": {}}, -4), "SIGILL"),
        (TrialRun({"python": {}}, -9, hung=True), "hung"),
        (TrialRun({"python": {}, "unsound": {"what": "its logits differ"}}, 0), "logits differ"),
        (TrialRun({"python": {}, "failed": {"what": "OSError: no file"}}, 0), "not tried (OSError: no file)"),
        (None, "not tried"),
    ],
)
def test_a_build_that_does_not_survive_a_child(
    header: Any, large: None, untried: None, monkeypatch: pytest.MonkeyPatch, run: TrialRun | None, said: str
) -> None:
    """Would break if it were used all the same, or if its end were this process's."""
    monkeypatch.setattr(engine_choice, "try_engine", lambda _start: try_engine(lambda _module, _task: run))
    choice = choose_engine(header, n_threads=1)
    assert choice.engine == "llama.cpp"
    assert said in choice.reason
    with pytest.raises(EngineError, match="cannot be used here") as caught:
        choose_engine(header, "ik", n_threads=1)
    assert said in str(caught.value)
    assert said in str(ik_status().refused)


NO_NUMBERS = "IkEngine._evaluate_piece = lambda self, piece: np.full((1, self._n_vocab), np.nan, np.float32)"


@pytest.mark.parametrize(
    ("fault", "said", "is_kept"),
    [
        (NO_NUMBERS, "it fails where llama.cpp does not: .* logits that are not numbers", True),
        ('IkWeights.__init__ = refusing("unknown type of tensor")', "llama.cpp does not: .*unknown type", True),
        ('IkWeights.__init__ = refusing("unable to allocate CPU buffer")', "it was not tried .*allocate", False),
        ('binding.binding = refusing("libgomp.so.1: no such file")', "it was not tried .*libgomp", False),
    ],
    ids=["no numbers", "no model", "no memory", "no library"],
)
def test_a_build_that_fails_is_ruled_out_once(
    untried: None, tried_kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str, is_kept: bool
) -> None:
    """In a real child. Would break if each process that loads a model tried it again, unless another cause may pass."""
    (tmp_path / "failing.py").write_text(f"""
import numpy as np
from archroute_edge.engine import _engine_trial_worker as worker
from archroute_edge.engine import _ik_binding as binding
from archroute_edge.engine._ik_engine import IkEngine
from archroute_edge.engine._ik_weights import IkWeights
from archroute_edge.engine._kernel_trial_worker import serve
from archroute_edge.errors import ModelLoadError
def refusing(why):
    def refuse(*_arguments):
        raise ModelLoadError(why)
    return refuse
{fault}
serve(worker.run)
""")
    for path in cache_folder().glob("ik-*"):
        path.unlink()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(engine_choice, "_WORKER", "failing")
    found = soundness()
    assert found is not None
    assert re.search(said, found)
    assert len(list(cache_folder().glob("ik-*"))) == is_kept


def test_what_was_not_tried_is_tried_again(untried: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Would break if a machine that could start no child once, or had too little memory, did without it for ever."""
    monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_choice, "try_engine", lambda _start: try_engine(lambda *_arguments: None))
    assert soundness() == "it was not tried (no child)"
    forget()
    monkeypatch.setattr(engine_choice, "try_engine", lambda _start: None)
    assert soundness() is None


def test_a_library_that_the_environment_names_is_another_build(
    header: Any, large: None, tried_kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if one that was never tried ran in this process, by the verdict on the package's own."""
    runs = [TrialRun({"python": {}, "measured": {"gain": 1.7, "is_quiet": True}}, 0)]
    monkeypatch.setattr(engine_choice, "run_trial", lambda *_arguments, **_settings: runs.pop())
    assert choose_engine(header, n_threads=1).engine == "ik"
    forget()
    assert choose_engine(header, n_threads=1).engine == "ik"
    for name in ("libllama.so", "libother.so"):
        (tmp_path / name).write_bytes(b"another")
    for number, name in enumerate(("libllama.so", "libother.so")):
        monkeypatch.setenv("IK_LLAMA_CPP_LIB_PATH", str(tmp_path / name))
        runs.append(TrialRun({"python": {}}, -4 - number))
        forget()
        assert choose_engine(header, n_threads=1).engine == "llama.cpp"
        assert runs == []


@pytest.mark.parametrize("what", ["no file", "no library that it needs"])
def test_a_build_that_can_no_longer_be_loaded_is_left_alone(
    header: Any, large: None, tried_kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Would break if a machine whose verdicts are kept made no router any more, and doctor had no report for it."""
    run = TrialRun({"python": {}, "measured": {"gain": 1.7, "is_quiet": True}}, 0)
    with monkeypatch.context() as patch:
        patch.setattr(engine_choice, "run_trial", lambda *_arguments: run)
        assert choose_engine(header, n_threads=1).engine == "ik"
    forget()
    if what == "no file":
        said = f"{tmp_path / 'libllama.so'}: no such file, though IK_LLAMA_CPP_LIB_PATH names it"
        monkeypatch.setenv("IK_LLAMA_CPP_LIB_PATH", str(tmp_path / "libllama.so"))
        with pytest.raises(EngineError, match="no such file"):
            choose_engine(header, "ik", n_threads=1)
    else:
        said = "ik-llama-cpp-python cannot be loaded (OSError: libgomp.so.1: no such file); install it again"

        def cannot_be_loaded() -> Any:
            raise EngineError(said)

        monkeypatch.setattr(ik_binding, "binding", cannot_be_loaded)
    assert (choose_engine(header, n_threads=1).engine, choose_engine(header, n_threads=1).reason) == ("llama.cpp", said)
    assert ik_status().refused == said


def test_a_version_that_was_not_tested_is_refused(header: Any, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ik_binding, "version", lambda _package: "0.2.0")
    assert "0.2.0 was not tested" in choose_engine(header, n_threads=1).reason
    with pytest.raises(EngineError, match=r"ik-llama-cpp-python 0\.2\.0 was not tested; install ik-llama-cpp-python==0\.1\.5"):
        choose_engine(header, "ik", n_threads=1)


@pytest.mark.parametrize("what", ["size", "default"])
def test_structures_that_are_laid_out_otherwise_are_refused(what: str) -> None:
    api: Any = ik_binding.binding()
    changed = {name: getattr(api, name) for name in (*ik_binding._SIZES, "llama_context_default_params")}
    if what == "size":
        changed["llama_batch"] = type("llama_batch", (ctypes.Structure,), {"_fields_": [("n_tokens", ctypes.c_int32)]})
    changed["llama_model_default_params"] = lambda: SimpleNamespace(**{**ik_binding._MODEL_DEFAULTS, "use_mmap": False})
    with pytest.raises(EngineError, match="tested"):
        ik_binding._check_layout(SimpleNamespace(**changed))


def test_without_the_extra_nothing_changes(bundled_model: Path, tried_kernels: None) -> None:
    """In a process that does not find the package. Would break if it were imported, or asked for, unasked."""
    code = f"""
import json, sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ik_llama_cpp":
            raise ModuleNotFoundError(name)
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ik_llama_cpp" else find_spec(name, package)
sys.meta_path.insert(0, Missing())
from archroute_edge import Router, load_config
from archroute_edge.errors import EngineError
config = load_config({str(EXAMPLE_ROUTES)!r})
with Router(config=config, model={str(bundled_model)!r}, prefix_cache=False, threads=1) as router:
    engine = router.route("fix this bug").engine
try:
    Router(config=config, model={str(bundled_model)!r}, engine="ik")
except EngineError as exc:
    said = str(exc)
print(json.dumps([engine, said, [name for name in sys.modules if "ik" in name.split(".")[-1]]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    engine, said, modules = json.loads(done.stdout)
    assert engine == "llama.cpp"
    assert said == "ik_llama.cpp is not installed; install archroute-edge[ik]"
    assert not [name for name in modules if name.startswith("ik_llama_cpp") or name.endswith(("_ik_engine", "_ik_weights"))]


def test_a_router_on_either_engine_decides_alike_and_says_which(bundled_model: Path) -> None:
    decisions = {}
    for engine in ("llama.cpp", "ik"):
        with Router(config=_config(), model=bundled_model, threads=1, prefix_cache=False, engine=engine) as router:
            decisions[engine] = router.route("fix the IndexError in my loop", scores=True)
    ours, theirs = decisions["ik"], decisions["llama.cpp"]
    assert (ours.engine, theirs.engine) == ("ik", "llama.cpp")
    assert ours.route == theirs.route == "bug_fixing"
    assert ours.scores is not None
    assert theirs.scores is not None
    assert max(abs(ours.scores[name] - theirs.scores[name]) for name in theirs.scores) < 0.02


@pytest.mark.parametrize("model", ["tiny", "mini"])
def test_what_one_has_saved_of_a_table_is_not_read_by_the_other(tmp_path: Path, model: str) -> None:
    n_saved = []
    for engine in ("llama.cpp", "ik", "llama.cpp", "ik"):
        with Router(config=_config(), model=model, threads=1, prefix_cache=tmp_path, engine=engine) as router:
            decision = router.route("fix this bug")
        assert (decision.engine, decision.route) == (engine, "bug_fixing")
        n_saved.append(sum(1 for path in tmp_path.rglob("*") if path.is_file()))
    assert n_saved[0] < n_saved[1] == n_saved[2] == n_saved[3]


def test_both_models_of_a_cascade_are_evaluated_by_the_engine_that_was_asked_for(
    random_encoder: Path, random_model: Path
) -> None:
    cascade = f"{random_encoder}+{random_model}"
    for switch_over in (0.0, 1.0):
        with Router(
            config=_config(), model=cascade, threads=1, prefix_cache=False, engine="ik", switch_over=switch_over
        ) as router:
            assert router.route("fix this bug").engine == "ik"


def test_an_encoder_that_ik_was_not_tested_with_keeps_no_cascade_from_it(
    random_encoder: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header says so, which is read once: a vocabulary takes a while."""
    monkeypatch.setattr(engine_choice, "IK_ARCHITECTURES", ("qwen2",))
    found, read = [], []

    def read_and_note(path: str | Path) -> GGUFHeader:
        read.append(Path(path))
        return read_header(path)

    monkeypatch.setattr(_model_check, "read_header", read_and_note)
    for switch_over in (0.0, 1.0):
        model = f"{random_encoder}+{random_model}"
        settings: dict[str, Any] = {"threads": 1, "prefix_cache": False, "switch_over": switch_over}
        with Router(config=_config(), model=model, engine="ik", **settings) as router:
            found.append(router.route("fix this bug").engine)
    assert found == ["llama.cpp", "ik"]
    assert read == [random_encoder, random_encoder, random_model]


def test_settings_of_a_kv_cache_say_nothing_about_an_encoder(random_encoder: Path) -> None:
    header = check_model_file(random_encoder)
    assert choose_engine(header, "ik", n_threads=1, kv_type="q8_0", flash_attention=True).engine == "ik"


def _config() -> Any:
    from archroute_edge import load_config

    return load_config(EXAMPLE_ROUTES)
