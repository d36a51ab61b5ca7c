"""Which of llama.cpp's CPU kernels are safe on this machine: tried in a child process before this one depends on them.

A build of llama.cpp may hold instructions that this CPU lacks, or kernels that a compiler has spoilt (gcc before 13.3 and
AMX). Such code ends the process with a signal. So the first time a build meets a CPU, a child process multiplies weights of
every common type and evaluates the bundled models. If it dies, the next safer kernels are tried. The verdict is kept in the
user's cache folder.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from archroute_edge.engine._cpu import libraries
from archroute_edge.engine._gguf_header import read_header
from archroute_edge.engine._model_check import ENCODER
from archroute_edge.engine._trials import TrialLock, TrialRun, keep, kept_in, run_trial
from archroute_edge.errors import ArchRouteError, EngineError, SettingsError
from archroute_edge.system import bundled_folder

logger = logging.getLogger(__name__)

KERNELS: Final = ("amx", "repack", "plain")
"""amx: all kernels that the build has, llama.cpp's own choice; repack: all but those for AMX; plain: for weights as they lie
in the file, and no others."""

VARIABLE: Final = "ARCHROUTE_CPU_KERNELS"
AUTO: Final = "auto"

_MODELS: Final = ("mini-Q8_0.gguf", "tiny-Q8_0.gguf")
_WORKER: Final = "archroute_edge.engine._kernel_trial_worker"


@dataclass(frozen=True)
class KernelVerdict:
    """Which kernels are used, and what became of the others.

    Args:
        kernels: one of :data:`KERNELS`, or empty if none can be used.
        proved: whether a child process has computed with them.
        ruled_out: other kernels, each with the reason.
        buffers: llama.cpp's buffers for weights beside ordinary memory, if a child came to list them.
        features: llama.cpp's own line on the instructions that it was compiled for.
    """

    kernels: str
    proved: bool
    ruled_out: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    features: str = ""


def run_worker(kernels: str, amx_as_well: bool) -> TrialRun | None:
    """Try ``kernels`` (and AMX behind them) in a child process, and wait for its end; None if none can be started."""
    paths = [path for path in (bundled_folder() / name for name in _MODELS) if path.is_file()]
    models = [(str(path), _encoder_tokens(path)) for path in paths]
    return run_trial(_WORKER, {"kernels": kernels, "amx_as_well": amx_as_well, "models": models})


def _encoder_tokens(path: Path) -> int | None:
    """The size of an encoder's vocabulary; None for a language model, and for a file that cannot be read."""
    try:
        header = read_header(path)
    except ArchRouteError:
        return None
    return header.length("tokenizer.ggml.tokens") if header.architecture == ENCODER else None


def try_kernels(wanted: str = AUTO, start: Callable[[str, bool], TrialRun | None] = run_worker) -> KernelVerdict:
    """Find the fastest kernels that a child process survives.

    Args:
        wanted: kernels to prove and use, whatever else there is; :data:`AUTO` goes from repack to plain, and takes AMX if
            it is sound and faster.
    """
    ruled_out: dict[str, str] = {}
    told: Mapping[str, Any] = {}
    for kernels in ("repack", "plain") if wanted == AUTO else (wanted,):
        run = start(kernels, wanted == AUTO and kernels == "repack")
        if run is None or not run.began:
            reason = run.steps["failed"]["what"] if run is not None and "failed" in run.steps else "no child process"
            untried = ("amx", "repack") if wanted == AUTO else ()
            safest = "plain" if wanted == AUTO else wanted
            return KernelVerdict(safest, proved=False, ruled_out=dict.fromkeys(untried, f"not tried ({reason})"))
        told = run.steps.get("library", told)
        if "models" not in run.steps:
            ruled_out[kernels] = run.end
            continue
        if wanted == AUTO and told["has_amx"]:
            race = run.steps.get("amx")
            if kernels != "repack":
                ruled_out["amx"] = "not tried"
            elif race is None:
                ruled_out["amx"] = run.end
            elif race["faster"]:
                kernels = "amx"
            else:
                ruled_out["amx"] = f"not faster ({race['gain']:.2f} times as fast)"
        return KernelVerdict(kernels, True, ruled_out, tuple(told["buffers"]), told["features"])
    return KernelVerdict("", True, ruled_out, tuple(told.get("buffers", ())), told.get("features", ""))


def wanted_kernels() -> str:
    """What the environment asks for.

    Raises:
        SettingsError: it is none of those.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower() or AUTO
    if wanted not in (AUTO, *KERNELS):
        raise SettingsError(f"{VARIABLE} is {wanted!r}; it can be {', '.join((AUTO, *KERNELS[:-1]))} or {KERNELS[-1]}")
    return wanted


_lock: Final = TrialLock()


def chosen_kernels() -> KernelVerdict:
    """The kernels to use in this process: proved now, or by an earlier one.

    Raises:
        EngineError: llama.cpp's evaluation ends the process with every choice; the message has the command that rebuilds it.
        SettingsError: the environment asks for kernels that do not exist.
    """
    with _lock:
        verdict = _verdict_for(wanted_kernels())
    if not verdict.kernels:
        raise EngineError(_no_kernels(verdict))
    return verdict


@functools.cache
def _verdict_for(wanted: str) -> KernelVerdict:
    path = _kept_in(wanted)
    verdict = _read(path) if path is not None else None
    if verdict is None:
        logger.info("trying llama.cpp's kernels on this CPU")
        verdict = try_kernels(wanted)
        # No child process may be due to what this program is embedded in, and a hang or a kill of all to what else runs here.
        by_chance = not verdict.kernels and any("hung" in end or "SIGKILL" in end for end in verdict.ruled_out.values())
        if path is not None and verdict.proved and not by_chance:
            _write(path, verdict)
    return verdict


def _kept_in(wanted: str) -> Path | None:
    """The file of the verdict on this build, on this CPU; None if there is no folder for it that can be trusted."""
    return kept_in("kernels", wanted, libraries())


def _read(path: Path) -> KernelVerdict | None:
    try:
        values = json.loads(path.read_bytes())
        verdict = KernelVerdict(**{**values, "buffers": tuple(values["buffers"]), "ruled_out": dict(values["ruled_out"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return verdict if verdict.kernels in ("", *KERNELS) else None


def _write(path: Path, verdict: KernelVerdict) -> None:
    keep(path, asdict(verdict))


def rebuild_command() -> str:
    """The command that compiles llama.cpp again, for the CPU of this machine."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        pinned = f"llama-cpp-python=={version('llama-cpp-python')}"
    except PackageNotFoundError:
        pinned = "llama-cpp-python"
    return f"pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python {pinned}"


def _no_kernels(verdict: KernelVerdict) -> str:
    ends = list(dict.fromkeys(verdict.ruled_out.values()))
    said = f"llama.cpp cannot compute on this machine: it ends in its first evaluation ({', '.join(ends)})"
    wanted = wanted_kernels()
    if wanted not in (AUTO, "plain"):
        return f"{said} with {VARIABLE}={wanted}; unset {VARIABLE}"
    from archroute_edge.engine._cpu_build import features_beyond_portable, features_of_build

    beyond = features_beyond_portable(features_of_build() or ())
    needed = f", one with {', '.join(beyond)}" if beyond else ""
    cause = f"it was compiled for another CPU{needed}, or by a compiler with a known defect"
    if getattr(sys, "frozen", False):
        return f"{said}; {cause}; this program has to be bundled with a portable build of llama-cpp-python"
    return f"{said}; {cause}; build it on this machine: {rebuild_command()}"
