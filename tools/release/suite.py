"""Run the tests with other Pythons, or with the oldest and the newest version of a dependency.

    python -m tools.release.suite [--python 3.10]... [--ends-of huggingface-hub] [-- PYTEST ARGUMENTS]

The default is the Python that runs this; ``--python all`` means every supported one on this machine. Each run has its own
environment, made anew under build/. The exit code is 0 if all passed, 1 if one failed, 2 if there was nothing to run.
"""

from __future__ import annotations

import importlib.metadata
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from packaging.requirements import Requirement

from tools.release.environments import make_environment, plain_environment
from tools.release.installed_wheel import WheelError
from tools.release.pythons import declared_versions, find_python

CLONE = Path(__file__).parents[2]
_TELL_VERSIONS = """
import importlib.metadata, platform, sys
print(f"Python {platform.python_version()}", *(f"{name} {importlib.metadata.version(name)}" for name in sys.argv[1:]), sep=", ")
"""


@dataclass(frozen=True)
class Run:
    """An interpreter, and a requirement beside the package's own (None: none)."""

    python: Path
    version: str
    beside: str | None

    @property
    def label(self) -> str:
        """The Python and versions of a run, for people."""
        return f"Python {self.version}, {self.beside or 'the newest of everything'}"

    @property
    def folder(self) -> Path:
        """Its environment."""
        name = f"python{self.version}" + (f"-{self.beside.replace('==', '-')}" if self.beside else "")
        return CLONE / "build" / "environments" / name


@dataclass(frozen=True)
class Outcome:
    """How a run went: ``summary`` is pytest's last line, or what failed before it; ``what`` names exact versions."""

    passed: bool
    what: str
    summary: str
    seconds: float


def oldest_allowed(package: str) -> str:
    """The requirement of exactly the oldest version of a dependency that the package's metadata allows.

    Raises:
        click.BadParameter: it is no dependency with an oldest version.
    """
    for line in importlib.metadata.requires("archroute-edge") or ():
        requirement = Requirement(line)
        bounds = [each.version for each in requirement.specifier if each.operator == ">="]
        if requirement.name == package and bounds and requirement.marker is None:
            return f"{package}=={bounds[0]}"
    raise click.BadParameter(f"archroute-edge does not require an oldest version of {package}")


def perform(run: Run, shown: Sequence[str], wheels: Path, arguments: Sequence[str]) -> Outcome:
    """Make a run's environment and run the tests in it; their output goes to standard output as it comes.

    Args:
        shown: packages whose versions the outcome names.
        wheels: a folder for llama-cpp-python's wheel, for all runs.
        arguments: pytest's.
    """
    begun = time.monotonic()
    try:
        beside = [run.beside] if run.beside else []
        python = make_environment(run.folder, run.python, ["--editable", f"{CLONE}[dev]", *beside], wheels)
        tell = [str(python), "-c", _TELL_VERSIONS, *shown]
        what = subprocess.run(tell, env=plain_environment(), capture_output=True, text=True, check=True).stdout.strip()
    except (subprocess.CalledProcessError, WheelError, OSError) as exc:
        return Outcome(False, run.label, f"the environment could not be made: {exc}", time.monotonic() - begun)
    command = [str(python), "-m", "pytest", *arguments]
    last = ""
    begun = time.monotonic()
    with subprocess.Popen(command, cwd=CLONE, env=plain_environment(), stdout=subprocess.PIPE, encoding="utf-8") as tests:
        assert tests.stdout
        for line in tests.stdout:
            click.echo(line, nl=False)
            last = line.strip() or last
    if tests.returncode < 0:
        last = f"ended by {signal.Signals(-tests.returncode).name} after {last}"
    return Outcome(tests.returncode == 0, what, last, time.monotonic() - begun)


def find_pythons(versions: Sequence[str]) -> dict[str, Path]:
    """The interpreters of minor versions, or of ``all`` supported ones; prints those that are missing.

    Raises:
        click.UsageError: a named version is not on this machine, or none is.
    """
    wanted = declared_versions() if "all" in versions else versions
    found = {version: path for version in wanted if (path := find_python(version)) is not None}
    missing = [version for version in wanted if version not in found]
    if missing and (not found or "all" not in versions):
        raise click.UsageError(f"Python {' and '.join(missing)} is neither on PATH nor installed by pyenv")
    for version in missing:
        click.echo(f"left out: Python {version} is not on this machine", err=True)
    return found


@click.command(help=__doc__)
@click.option("--python", "versions", multiple=True, metavar="3.N|all", help="Which Python; may be repeated.")
@click.option("--ends-of", metavar="PACKAGE", help="Run with the oldest version of it that is allowed, and with the newest.")
@click.argument("arguments", nargs=-1, metavar="[-- PYTEST ARGUMENTS]")
def main(versions: tuple[str, ...], ends_of: str | None, arguments: tuple[str, ...]) -> None:
    """Plan the runs, perform them, and print a table of how they went."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = find_pythons(versions) if versions else {here: Path(sys.executable)}
    besides = [oldest_allowed(ends_of), None] if ends_of else [None]
    runs = [Run(path, version, beside) for version, path in pythons.items() for beside in besides]
    outcomes = []
    with tempfile.TemporaryDirectory() as wheels:
        for run in runs:
            click.echo(f"{run.label}: installing ...", err=True)
            outcomes.append(perform(run, [ends_of] if ends_of else [], Path(wheels), arguments))
    click.echo(f"\npytest {' '.join(arguments)}")
    for each in outcomes:
        click.echo(f"{each.what}: {'passed' if each.passed else 'FAILED'} ({each.seconds:.0f} s): {each.summary}")
    sys.exit(0 if all(each.passed for each in outcomes) else 1)


if __name__ == "__main__":
    main()
