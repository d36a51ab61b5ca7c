"""Decisions on an emulated older CPU: with a portable build of llama.cpp, and with this environment's.

    python -m tools.measure.older_cpu --portable PYTHON

PYTHON is the interpreter of a virtual environment with archroute-edge's dependencies and a portable build of llama.cpp
(docs/apps.md has the recipe); the package itself is taken from this clone. With that build, each model must decide. This
environment's own build, compiled for a newer CPU than the emulated one, must end with one line and exit status 2. Exits with 1
otherwise. Needs qemu-x86_64 7.2 or newer (Debian: apt install qemu-user).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from archroute_edge.engine import describe_features, features_beyond_portable

_CLONE = Path(__file__).parents[2]
_MESSAGE = "my test fails with an IndexError"
_TIME_LIMIT_S = 1800
# The emulator's own messages: features of the CPU that it lacks, and the signal that ended the program.
_OF_QEMU = ("qemu-x86_64: warning: ", "qemu: uncaught target signal ")
_LOOK = """
import json, sys
from archroute_edge.engine.cpu_build import compiler_of_build, features_of_build
print(json.dumps([sys.prefix, sys.base_prefix, sys.executable, features_of_build(), compiler_of_build()]))
"""


@dataclass(frozen=True)
class Environment:
    """A Python with a llama.cpp, and the CPU features and the compiler of that."""

    prefix: Path
    base: Path
    executable: Path
    features: tuple[str, ...]
    compiler: str | None


@dataclass(frozen=True)
class Run:
    """The result of a command. ``errors``: its lines on stderr, without the emulator's own; a signal is a negative status."""

    output: str
    errors: tuple[str, ...]
    status: int
    seconds: float


def look_at(python: str) -> Environment:
    """What there is to know of an interpreter and its llama.cpp, which is not run."""
    done = _run(python, "-c", _LOOK)
    if done.status != 0:
        raise click.ClickException(f"{python} cannot import archroute-edge: {done.errors[-1] if done.errors else done.status}")
    prefix, base, executable, features, compiler = json.loads(done.output)
    if features is None:
        raise click.ClickException(f"{python}: its libggml-cpu.so does not say for which CPUs it was compiled")
    return Environment(Path(prefix), Path(base), Path(executable), tuple(features), compiler)


def emulated_python(environment: Environment, emulator: list[str], folder: Path) -> Path:
    """An interpreter with the packages of this one that runs emulated, and so do those that it starts.

    An emulator runs one program, and what that starts runs on the real CPU. So ``sys.executable`` has to be a script that
    starts the emulator: Python takes it from ``argv[0]``, and finds its packages by what lies beside it.
    """
    script = folder / "bin" / "python"
    script.parent.mkdir(parents=True)
    (folder / "lib").symlink_to(environment.prefix / "lib")
    (folder / "pyvenv.cfg").write_text(f"home = {environment.base / 'bin'}\n")
    real = shlex.quote(str(environment.executable.resolve()))
    script.write_text(f'#!/bin/sh\nexec {shlex.join(emulator)} -0 "$0" {real} "$@"\n')
    script.chmod(0o755)
    return script


def decide(python: Path, model: str, cache: Path) -> Run:
    """Run ``archroute route``. The cache folder is the emulated CPU's own, with its verdict on the kernels."""
    arguments = ("-m", "archroute_edge.cli", "route", _MESSAGE, "--model", model, "--json")
    return _run(str(python), *arguments, ARCHROUTE_CACHE_DIR=str(cache))


def problem_of_decision(run: Run) -> str | None:
    """Why this is no decision; None if it is one."""
    try:
        decided = run.status == 0 and isinstance(json.loads(run.output)["route"], str)
    except (ValueError, KeyError, TypeError):
        decided = False
    return None if decided else _describe(run)


def problem_of_refusal(run: Run) -> str | None:
    """Why this is not one line of error and exit status 2; None if it is."""
    one_line = len(run.errors) == 1 and run.errors[0].startswith("archroute: error: ")
    return None if run.status == 2 and one_line and not run.output else _describe(run)


def _decision(run: Run) -> str:
    decision = json.loads(run.output)
    return f"{decision['route']}, confidence {decision['confidence']:.2f}"


def _describe(run: Run) -> str:
    ended = f"signal {-run.status}" if run.status < 0 else f"exit status {run.status}"
    return f"{ended}, stdout {run.output!r}, stderr {list(run.errors)}"


def _run(*command: str, **variables: str) -> Run:
    started = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(_CLONE), **variables},
        timeout=_TIME_LIMIT_S,
        check=False,
    )
    errors = tuple(line for line in done.stderr.splitlines() if line and not line.startswith(_OF_QEMU))
    return Run(done.stdout, errors, done.returncode, time.perf_counter() - started)


@click.command()
@click.option("--portable", required=True, metavar="PYTHON", help="The interpreter beside a portable build of llama.cpp.")
@click.option("--cpu", default="Haswell", show_default=True, help="The CPU to emulate: qemu-x86_64 -cpu help.")
@click.option("--model", "models", multiple=True, default=("mini", "tiny"), show_default=True, help="Models to decide with.")
def main(portable: str, cpu: str, models: tuple[str, ...]) -> None:
    """Decide on an older CPU with both builds; exit with 1 if either does not do as it should."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        raise click.ClickException("qemu-x86_64 is not installed (Debian: apt install qemu-user)")
    builds = {"portable": look_at(portable), "native": look_at(sys.executable)}
    for name, environment in builds.items():
        if bool(features_beyond_portable(environment.features)) != (name == "native"):
            raise click.ClickException(
                f"{environment.executable} was to have a {name} build of llama.cpp; it has one described as "
                f"{describe_features(environment.features)!r}"
            )
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, environment in builds.items():
            print(f"{name} build ({environment.compiler}), {describe_features(environment.features)}")
            folder = Path(scratch) / name
            python = emulated_python(environment, [emulator, "-cpu", cpu], folder)
            for model in models:
                run = decide(python, model, folder / "cache")
                problem = problem_of_refusal(run) if name == "native" else problem_of_decision(run)
                failed = failed or problem is not None
                outcome = f"WRONG: {problem}" if problem else run.errors[0] if name == "native" else _decision(run)
                print(f"  {model} on {cpu}, {run.seconds:.0f} s: {outcome}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
