"""``archroute doctor``, which decides with each model in a process of its own before it says that all is well."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import psutil

from archroute_edge import __version__
from archroute_edge.cli.help import examples
from archroute_edge.cli.options import json_option, shown_size
from archroute_edge.decoding import folder_problem, inspect_folder
from archroute_edge.engine import (
    IkStatus,
    KernelVerdict,
    chosen_kernels,
    compiler_of_build,
    describe_features,
    features_of_build,
    ik_status,
    rebuild_command,
    required_features,
    unused_gpus,
)
from archroute_edge.engine import _backend as backend
from archroute_edge.errors import ArchRouteError, SettingsError
from archroute_edge.models import BUNDLED, ModelFile, model_folders, models_on_this_machine, read_catalogue
from archroute_edge.system import bundled_folder, cache_folder, expanded, is_folder_here, start_module

_COMPUTES_WITH = {
    "amx": "all that the build has, AMX among them",
    "repack": "repacked weights, without AMX",
    "plain": "weights as they are in the file",
}

TIME_LIMIT_S: Final = 300.0
"""A large model may have to be read from a slow disk."""

_MESSAGE: Final = "my test fails with an IndexError"
# llama.cpp's log: the buffer of the weights, which shows the kernels.
_BUFFER_LINE: Final = re.compile(r"load_tensors: +(\S+) model buffer size = +([\d.]+) MiB")
_ERROR_LINE: Final = "archroute: error: "


@click.command(epilog=examples("archroute doctor", "archroute doctor --json"))
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show the build, try each model, and report problems.

    Also lists devices, models and caches. Each model decides in a process of its own. Exits with status 2 if there is a
    problem.
    """
    problems: list[str] = []
    verdict = _verdict(problems)
    computes = verdict is not None
    devices = backend.devices() if computes else []
    # It is compared with llama.cpp.
    ik = ik_status() if computes else None
    report = {
        "archroute_edge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "llama_cpp": _build(verdict),
        "kernels": _kernels(verdict),
        "ik_llama_cpp": _ik(ik),
        "devices": [f"{each.name}: {each.description}" for each in devices],
        "threads": backend.physical_cores(),
        "memory": shown_size(psutil.virtual_memory().total),
        "models": _models(problems, decide=computes),
        "saved_prefixes": _prefixes(problems),
        "advice": [
            *_advice([each.name for each in devices], gpu_offload=computes and backend.build().gpu_offload),
            *([ik.advice] if ik is not None and ik.advice is not None else ()),
        ],
        "problems": problems,
    }
    if as_json:
        click.echo(json.dumps(report))
    else:
        for key, value in report.items():
            _print(key.replace("_", " "), value)
    ctx.exit(2 if problems else 0)


def _verdict(problems: list[str]) -> KernelVerdict | None:
    """Which kernels are used; None, and a problem, if there are none."""
    try:
        return chosen_kernels()
    except ArchRouteError as exc:
        problems.append(str(exc))
        return None


def _build(verdict: KernelVerdict | None) -> dict[str, Any]:
    compiled_for = features_of_build()
    told = {}
    if verdict is not None:
        # llama.cpp's own words come from code that not every CPU can run.
        build = backend.build()
        told = {
            "llama.cpp": build.llama_cpp_version,
            "GPU offload": "yes" if build.gpu_offload else "no, this build computes on the CPU",
            "features": build.system_info,
        }
        compiled_for = compiled_for or required_features(build.system_info)
    return {
        "llama-cpp-python": backend.binding_version(),
        **told,
        "compiled": describe_features(compiled_for) if compiled_for else "for which CPUs is not known",
        "compiler": compiler_of_build() or "not known",
    }


def _kernels(verdict: KernelVerdict | None) -> dict[str, str]:
    if verdict is None:
        return {"used": "none"}
    proof = "" if verdict.proved else "; not proved, since no child process could try them"
    return {
        "used": f"{verdict.kernels}: {_COMPUTES_WITH[verdict.kernels]}{proof}",
        **{f"ruled out: {name}": reason for name, reason in verdict.ruled_out.items()},
    }


def _ik(status: IkStatus | None) -> dict[str, str] | str:
    if status is None or status.version is None:
        return "not installed" if status is not None else "not tried"
    if status.refused is not None:
        return {"ik-llama-cpp-python": status.version, "not used": status.refused}
    return {
        "ik-llama-cpp-python": status.version,
        "used": "where it is faster than llama.cpp, for models of at least 128 MiB",
        "features": status.features,
    }


def _models(problems: list[str], *, decide: bool) -> dict[str, str]:
    found = {}
    try:
        catalogue = read_catalogue()
        for file in models_on_this_machine():
            found[file.name] = f"{file.path} ({shown_size(file.path.stat().st_size)})"
            if decide:
                found[file.name] += f": {_decide(file, problems)}"
        for entry in catalogue.values():
            if not any(name.split(":")[0] == entry.name for name in found):
                found[entry.name] = "not on this machine"
                if entry.name in BUNDLED:
                    problems.append(f"{entry.file} is missing from {bundled_folder()}; install archroute-edge again")
    except ArchRouteError as exc:
        problems.append(str(exc))
    override = os.environ.get("ARCHROUTE_MODELS_DIR")
    if override and not is_folder_here(expanded(override)):
        problems.append(f"{override}: no such folder, though ARCHROUTE_MODELS_DIR names it")
    found["looked in"] = ", ".join(str(folder) for folder in model_folders()) + ", and the hub's cache"
    return found


def _decide(file: ModelFile, problems: list[str]) -> str:
    if sys.stderr.isatty():
        click.echo(f"deciding with {file.name} ...", err=True)
    decision = decide_with(file.path)
    if decision.problem is not None:
        named = decision.problem.startswith(str(file.path))
        problems.append(decision.problem if named else f"{file.path}: {decision.problem}")
    return str(decision)


def _advice(devices: list[str], *, gpu_offload: bool) -> list[str]:
    return [
        f"this machine has an {vendor.name} GPU and llama.cpp was compiled without {vendor.backend}; to build it so: "
        f"CMAKE_ARGS={vendor.cmake_flag} {rebuild_command()} (see docs/install.md)"
        if not gpu_offload
        else f"this machine has an {vendor.name} GPU and llama.cpp finds no device on it; is its driver installed?"
        for vendor in unused_gpus(devices)
    ]


def _prefixes(problems: list[str]) -> str:
    folder = cache_folder()
    saved = inspect_folder(folder) if is_folder_here(folder) else []
    problems.extend(f"{each.problem}; delete it" for each in saved if each.problem)
    if problem := folder_problem(folder):
        problems.append(problem)
    return f"{len(saved)} in {folder} ({shown_size(sum(each.n_bytes for each in saved))})"


def _print(key: str, value: Any) -> None:
    if isinstance(value, dict):
        click.echo(f"{key}:")
        for name, text in value.items():
            click.echo(f"  {name}: {text}")
    elif isinstance(value, list):
        click.echo(f"{key}: {'none' if not value else ''}".rstrip())
        for text in value:
            click.echo(f"  {text}")
    else:
        click.echo(f"{key}: {value}")


@dataclass(frozen=True)
class TrialDecision:
    """Its result: a route, the decision's milliseconds, llama.cpp's buffers of the weights and the engine; or the problem."""

    route: str = ""
    milliseconds: float = 0.0
    buffers: tuple[str, ...] = ()
    engine: str = "llama.cpp"
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            return f"no decision: {self.problem}"
        with_engine = "with ik_llama.cpp" if self.engine == "ik" else f"weights in {', '.join(self.buffers)}"
        return f"decides in {self.milliseconds:.0f} ms, {with_engine}"


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
        found = tuple(f"{name} ({shown_size(float(size) * 2**20)})" for name, size in _BUFFER_LINE.findall(text))
        return TrialDecision(decision["route"], decision["timings"]["total_ms"], found, decision["engine"])
    except (ValueError, KeyError, TypeError):
        return TrialDecision(problem=_reason(process.returncode, text))


def _reason(exit_code: int, log: str) -> str:
    for line in reversed(log.splitlines()):
        if line.startswith(_ERROR_LINE):
            return line.removeprefix(_ERROR_LINE)
    if exit_code < 0:
        return f"the process ended with {signal.Signals(-exit_code).name}"
    return f"the process ended with exit code {exit_code}"
