"""Which library evaluates a model: llama.cpp, or ik_llama.cpp where it is installed, sound here and faster.

Nothing is taken on trust. The first time a build of ik_llama.cpp meets a CPU, a child process evaluates the bundled models with
both libraries and compares what they compute. The first time a model is loaded beside it, a child measures both with that
model. Both verdicts are kept in the user's cache folder.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from archroute_edge.engine import _backend as backend
from archroute_edge.engine._cancellation import Cancellation
from archroute_edge.engine._cpu import libraries
from archroute_edge.engine._engine_names import EngineName, WantedEngine
from archroute_edge.engine._gguf_header import DEFAULT_KV_TYPE, TENSOR_TYPES, GGUFHeader
from archroute_edge.engine._ik_binding import ik_libraries, loading_problem, refusal
from archroute_edge.engine._model_check import model_fingerprint, model_kind
from archroute_edge.engine._trials import TrialLock, TrialRun, keep, kept_in, run_trial, turn_among_processes
from archroute_edge.errors import EngineError, SettingsError
from archroute_edge.system import bundled_folder

logger = logging.getLogger(__name__)

IK_ARCHITECTURES: Final = ("qwen2", "bert")
"""Architectures that ik_llama.cpp was compared with llama.cpp on."""

IK_TYPES: Final = ("F32", "F16", "BF16", "Q4_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
"""Types of weights that it was compared on."""

SMALLEST_BYTES: Final = 128 << 20
"""Of a smaller file ``auto`` leaves the evaluation to llama.cpp: a measurement takes longer than it could ever save."""

# For so long a measurement counts that other programs may have disturbed.
_A_DAY_S: Final = 24 * 3600.0
# Counts up when it is measured otherwise.
_MEASUREMENT: Final = 2
# Two measurements of one library differ by less.
_LEAST_GAIN: Final = 1.05
_WORKER: Final = "archroute_edge.engine._engine_trial_worker"
_MODELS: Final = {"generative": "tiny-Q8_0.gguf", "encoder": "mini-Q8_0.gguf"}
# Counts up when the trial finds what it did not find before.
_TRIAL: Final = 3
_UNTRIED: Final = "it was not tried"


@dataclass(frozen=True)
class EngineChoice:
    """Which library evaluates a model, and why.

    Args:
        engine: the library.
        reason: in a few words.
        gain: how many times as fast as llama.cpp ik_llama.cpp is on this model here; None if that was not measured.
        until: when it is to be measured again, in seconds since 1970; None if what was measured stays.
    """

    engine: EngineName
    reason: str
    gain: float | None = None
    until: float | None = field(default=None, compare=False)


def choose_engine(
    header: GGUFHeader,
    wanted: WantedEngine = "auto",
    *,
    n_threads: int,
    n_gpu_layers: int = 0,
    kv_type: str = DEFAULT_KV_TYPE,
    flash_attention: bool | None = None,
    cancellation: Cancellation | None = None,
) -> EngineChoice:
    """The library for a model.

    Args:
        header: of the model's file, checked.
        wanted: one of :data:`archroute_edge.engine.ENGINES`.
        n_threads: threads that it will be evaluated with.
        n_gpu_layers: layers for the GPU, if llama.cpp has one; negative means all.
        kv_type: number type of keys and values; says nothing about an encoder.
        flash_attention: whether it is asked for, or must not be used; says nothing about an encoder.
        cancellation: stops a trial or a measurement, and the wait for its turn. Nothing of it is kept.

    Raises:
        DecisionCancelledError: ``cancellation`` was set.
        SettingsError: ik_llama.cpp is asked for, together with what it does not do here.
        EngineError: it is asked for, and is not installed, not the tested version, or not sound here.
    """
    if wanted == "llama.cpp":
        return EngineChoice("llama.cpp", "asked for")
    missing = refusal()
    against = _unfit(header, kv_type, flash_attention)
    if wanted == "ik":
        if against is None and n_gpu_layers > 0:
            against = "ik_llama.cpp evaluates on the CPU, and layers on the GPU were asked for"
        if missing is not None:
            raise EngineError(missing)
        if against is not None:
            raise SettingsError(f"{header.path}: {against}; leave the engine out, or name llama.cpp")
        unsound = soundness(cancellation)
        if unsound is not None:
            raise EngineError(f"ik_llama.cpp cannot be used here: {unsound}; name another engine")
        return EngineChoice("ik", "asked for")
    if missing is not None or against is not None:
        return EngineChoice("llama.cpp", missing or against or "")
    if header.file_size < SMALLEST_BYTES:
        return EngineChoice("llama.cpp", f"a model of less than {SMALLEST_BYTES >> 20} MiB is not worth a measurement")
    if n_gpu_layers != 0 and backend.build().gpu_offload:
        return EngineChoice("llama.cpp", "it has a GPU")
    unsound = soundness(cancellation)
    if unsound is not None:
        return EngineChoice("llama.cpp", f"ik_llama.cpp was ruled out: {unsound}")
    # llama.cpp is slower without its kernels for repacked weights.
    about = model_fingerprint(header), n_threads, backend.build().kernels
    choice = _once(
        (header.path, *about),
        lambda: kept_in("engine", _MEASUREMENT, *about, ik_libraries(), libraries()),
        _kept_choice,
        partial(_measure, header.path, n_threads),
        cancellation,
    )
    # An earlier process may have come to it, which could load what it needs.
    problem = loading_problem() if choice.engine == "ik" else None
    return choice if problem is None else EngineChoice("llama.cpp", problem, choice.gain)


def fits_ik(header: GGUFHeader) -> bool:
    """Whether ik_llama.cpp was compared with llama.cpp on such a model."""
    return _unfit(header, DEFAULT_KV_TYPE, None) is None


def _unfit(header: GGUFHeader, kv_type: str, flash_attention: bool | None) -> str | None:
    """Why ik_llama.cpp does not evaluate such a model in such a way here; None if it does."""
    if header.architecture not in IK_ARCHITECTURES:
        return f"ik_llama.cpp was not tested with the architecture {header.architecture}"
    names = {number: name for number, (name, _, _) in TENSOR_TYPES.items()}
    types = {names.get(tensor.type_number, str(tensor.type_number)) for tensor in header.tensors.values()}
    untested = sorted(types - set(IK_TYPES))
    if untested:
        return f"ik_llama.cpp was not tested with weights of {', '.join(untested)}"
    if model_kind(header) == "encoder":
        return None
    if kv_type != DEFAULT_KV_TYPE:
        return f"ik_llama.cpp is used with a KV cache of {DEFAULT_KV_TYPE} here, not {kv_type}"
    if flash_attention:
        return "ik_llama.cpp is used without flash attention here"
    return None


def soundness(cancellation: Cancellation | None = None) -> str | None:
    """What is wrong with ik_llama.cpp on this machine, proved now or by an earlier process; None if it is sound.

    Raises:
        DecisionCancelledError: ``cancellation`` was set.
    """
    return _once("soundness", _soundness_file, _kept_soundness, _try_soundness, cancellation) or None


_lock: Final = TrialLock()
"""Held during a trial or a measurement: two at once would spoil each other."""
_verdicts: Final[dict[Hashable, Any]] = {}
"""What this process has found."""

Verdict = TypeVar("Verdict")


def _once(
    key: Hashable,
    file: Callable[[], Path | None],
    kept: Callable[[Mapping[str, Any]], Verdict | None],
    find: Callable[[Path | None, Cancellation], Verdict],
    cancellation: Cancellation | None,
) -> Verdict:
    """A verdict of this process or of an earlier one, for which nobody waits; else the one that a trial comes to, in its turn.

    Args:
        key: names the verdict in this process.
        file: where it is kept.
        kept: reads what is there; None if that is no verdict.
        find: comes to it, and keeps it in the file.
        cancellation: stops that, and the wait for the turn.

    Raises:
        DecisionCancelledError: ``cancellation`` was set.
    """
    verdict: Verdict | None = _found(key)
    if verdict is None:
        path = file()
        verdict = kept(_read(path))
        if verdict is None:
            cancellation = cancellation or Cancellation()
            with _lock.taken(cancellation):
                # The thread that had the turn before may have found it.
                verdict = _found(key)
                if verdict is None:
                    with turn_among_processes(path, cancellation):
                        verdict = kept(_read(path))
                        if verdict is None:
                            verdict = find(path, cancellation)
                    _verdicts[key] = verdict
        _verdicts[key] = verdict
    return verdict


def _found(key: Hashable) -> Any:
    """What this process has found, if it still holds."""
    verdict = _verdicts.get(key)
    return None if isinstance(verdict, EngineChoice) and not _holds(verdict.until) else verdict


def _holds(until: object) -> bool:
    """Whether what counts until then does; not where the clock was set back."""
    return until is None or (isinstance(until, float) and 0 < until - time.time() <= _A_DAY_S)


def _soundness_file() -> Path | None:
    return kept_in("ik", _TRIAL, ik_libraries(), libraries())


def _kept_soundness(kept: Mapping[str, Any]) -> str | None:
    """What is wrong with it; empty if nothing is."""
    unsound = kept.get("unsound")
    return unsound if isinstance(unsound, str) else None


def _try_soundness(path: Path | None, cancellation: Cancellation) -> str:
    logger.debug("trying ik_llama.cpp on this CPU")
    unsound = try_engine(partial(run_trial, cancellation=cancellation))
    # What else runs here may hang a child, kill it, or keep it from being started.
    by_chance = unsound is not None and (unsound.startswith(_UNTRIED) or "hung" in unsound or "SIGKILL" in unsound)
    if path is not None and not by_chance:
        keep(path, {"unsound": unsound or ""})
    return unsound or ""


def try_engine(start: Callable[[str, Mapping[str, Any]], TrialRun | None]) -> str | None:
    """Evaluate the bundled models in a child process; what is wrong with ik_llama.cpp, or None."""
    run = start(_WORKER, {"compare": {kind: str(bundled_folder() / name) for kind, name in _MODELS.items()}})
    if run is None or not run.began:
        return f"{_UNTRIED} " + (f"({run.steps['failed']['what']})" if run and "failed" in run.steps else "(no child)")
    return None if "compared" in run.steps else run.end


def _kept_choice(kept: Mapping[str, Any]) -> EngineChoice | None:
    gain, until = kept.get("gain"), kept.get("until")
    return _by_gain(gain, until) if isinstance(gain, float) and _holds(until) else None


def _measure(model: Path, n_threads: int, path: Path | None, cancellation: Cancellation) -> EngineChoice:
    logger.info("measuring once whether llama.cpp or ik_llama.cpp evaluates %s faster; this takes some seconds", model.name)
    run = run_trial(_WORKER, {"measure": str(model), "n_threads": n_threads}, cancellation)
    if run is None or not run.began or "measured" not in run.steps:
        why = f"no measurement came to an end ({run.end if run else 'no child process'})"
        return EngineChoice("llama.cpp", why, until=time.time() + _A_DAY_S)
    measured = run.steps["measured"]
    choice = _by_gain(float(measured["gain"]), None)
    # On busy cores ik_llama.cpp loses more.
    is_final = measured["is_quiet"] and (choice.engine == "ik" or n_threads == 1)
    choice = choice if is_final else replace(choice, until=time.time() + _A_DAY_S)
    if path is not None:
        keep(path, {"gain": choice.gain, **({} if choice.until is None else {"until": choice.until})})
    return choice


def _by_gain(gain: float, until: float | None) -> EngineChoice:
    if gain >= _LEAST_GAIN:
        return EngineChoice("ik", f"measured to be {gain:.2f} times as fast as llama.cpp", gain, until)
    return EngineChoice("llama.cpp", f"ik_llama.cpp was measured to be {gain:.2f} times as fast", gain, until)


def _read(path: Path | None) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_bytes()) if path is not None else None
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
