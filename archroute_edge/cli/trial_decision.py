"""A decision in a process of its own: what ``archroute doctor`` makes with each model before it says that all is well."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archroute_edge.errors import SettingsError
from archroute_edge.system import start_module

TIME_LIMIT_S: Final = 300.0
"""A large model may have to be read from a slow disk."""

_MESSAGE: Final = "my test fails with an IndexError"
# llama.cpp's log: where the weights are, and so with which kernels they are computed.
_BUFFER_LINE: Final = re.compile(r"load_tensors: +(\S+) model buffer size = +([\d.]+) MiB")
_ERROR_LINE: Final = "archroute: error: "


@dataclass(frozen=True)
class TrialDecision:
    """What came of it: a route, the milliseconds of the decision and where the weights were; or what went wrong."""

    route: str = ""
    milliseconds: float = 0.0
    buffers: tuple[str, ...] = ()
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            return f"no decision: {self.problem}"
        return f"decides in {self.milliseconds:.0f} ms, weights in {', '.join(self.buffers)}"


def decide_with(model: Path, seconds: float = TIME_LIMIT_S) -> TrialDecision:
    """Route a message with the model at ``model``, as ``archroute route`` does, and wait for its end."""
    arguments = ("-v", "route", _MESSAGE, "--model", str(model), "--json", "--no-prefix-cache")
    try:
        process = start_module(
            "archroute_edge.cli", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except (OSError, SettingsError) as exc:
        return TrialDecision(problem=f"no process for it can be started ({exc})")
    with process:
        try:
            output, log = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return TrialDecision(problem=f"it took more than {seconds:.0f} s")
        except BaseException:
            process.kill()
            raise
    text = log.decode("utf-8", "replace")
    try:
        decision = json.loads(output)
        found = tuple(f"{name} ({size} MiB)" for name, size in _BUFFER_LINE.findall(text))
        return TrialDecision(decision["route"], decision["timings"]["total_ms"], found)
    except (ValueError, KeyError, TypeError):
        return TrialDecision(problem=_reason(process.returncode, text))


def _reason(exit_code: int, log: str) -> str:
    for line in reversed(log.splitlines()):
        if line.startswith(_ERROR_LINE):
            return line.removeprefix(_ERROR_LINE)
    if exit_code < 0:
        return f"the process ended with {signal.Signals(-exit_code).name}"
    return f"the process ended with exit code {exit_code}"
