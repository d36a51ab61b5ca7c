"""Labelled cases run through models: what ``archroute eval`` and ``archroute calibrate`` share."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from archroute_edge import __version__
from archroute_edge.cli.help import Command, option
from archroute_edge.cli.options import router_settings
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.config import load_config
from archroute_edge.deciders import Calibration, find_models, identify
from archroute_edge.engine import build
from archroute_edge.errors import SettingsError
from archroute_edge.evaluation import (
    Case,
    CaseResult,
    Journal,
    cases_digest,
    evaluate,
    finished_results,
    largest_table,
    read_cases,
    shipped_cases,
)
from archroute_edge.models import ModelFile
from archroute_edge.routing import Router

cases_argument = click.argument("file", type=click.Path(path_type=Path), required=False)
routes_option = option("--routes", metavar="CONFIG", help="Configuration with routes for cases that have none.")
resume_option = option("--resume", is_flag=True, help="Continue an interrupted run of the same command.")

SHIPPED = "the cases that come with archroute-edge"


def file_option(names: str, what: str) -> Callable[[Any], Any]:
    """An option that names a file."""
    return option(*names.split(), type=click.Path(path_type=Path), metavar="FILE", help=what)


class RecordedCommand(Command):
    """A command whose report says how it was called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments for :func:`made`."""
        ctx.meta["arguments"] = tuple(args)
        return super().parse_args(ctx, args)


def made(ctx: click.Context) -> str:
    """When and how a report was made: date, command, versions."""
    versions = f"archroute-edge {__version__}, llama.cpp {build().llama_cpp_version}"
    command = shlex.join([*ctx.command_path.split(), *ctx.meta["arguments"]])
    return f"{datetime.date.today().isoformat()} · {command} · {versions}"


@dataclass(frozen=True)
class Cases:
    """Labelled cases and where they are from."""

    source: str
    cases: Sequence[Case]


# Of the router's settings, those that decisions depend on.
_DECIDING = ("decoder", "n_ctx", "gpu_layers", "budget", "flash_attention", "kv_type", "engine", "switch_over")


@dataclass(frozen=True)
class Candidate:
    """A model to run over cases, known well enough to tell its runs from those of any other."""

    label: str
    file: ModelFile
    fingerprint: str
    prompt_format: str
    settings: Mapping[str, Any]

    def open(self, cases: Sequence[Case]) -> Router:
        """A router that is large enough for every case."""
        return Router(largest_table(cases), **self.settings)

    def deciding(self) -> dict[str, Any]:
        """All that its decisions depend on, beside the routes and conversations, as JSON values."""
        calibration = self.settings["calibration"]
        return {
            "model": self.fingerprint,
            "prompt_format": self.prompt_format,
            "calibration": None if calibration is None else asdict(calibration),
            **{name: self.settings.get(name) for name in _DECIDING},
        }


def load_cases(file: Path | None, routes: str | None, limit: int | None = None) -> Cases:
    """The cases of ``file``, or those of the package; the first ``limit`` of them.

    Raises:
        SettingsError: ``routes`` has nothing to be used for: every case carries its own.
        CaseError: the file cannot be used.
    """
    table = load_config(routes).table if routes is not None else None
    found = shipped_cases() if file is None else read_cases(file, table)
    if routes is not None and not any(case.table is table for case in found):
        raise SettingsError(f"--routes {routes} is for cases without routes, and here each has its own; leave it out")
    return Cases(SHIPPED if file is None else str(file), found[:limit])


def candidate(options: Mapping[str, Any], without: Collection[str] = ()) -> Candidate:
    """The model that the shared options name, checked as far as can be without loading it.

    Args:
        without: options that are for another model.

    Raises:
        ModelError: it cannot be found or is no usable GGUF.
        CalibrationError: ``--calibration`` is another model's.
    """
    settings = {name: value for name, value in router_settings(options).items() if name not in without}
    files = find_models(settings["model"])
    known = identify(files, options["prompt_format"])
    if settings["calibration"] is not None:
        settings["calibration"] = Calibration.load(settings["calibration"])
        judged = known.first or known
        settings["calibration"].check(judged.name, judged.fingerprint, judged.prompt_format)
    return Candidate(known.name, files[0], known.fingerprint, known.prompt_format, settings)


def open_journal(command: str, cases: Cases, candidates: Sequence[Candidate], *, resume: bool) -> Journal:
    """The journal of this command over these cases and models; says on stderr what it goes on with."""
    run = {
        "command": command,
        "archroute_edge": __version__,
        "cases": cases_digest(cases.cases),
        "models": [each.deciding() for each in candidates],
    }
    journal = Journal(run, resume=resume)
    if resume:
        n_all = len(cases.cases) * len(candidates)
        click.echo(f"{len(journal.parts)} of {n_all} decisions are there from an interrupted run", err=True)
    return journal


def run_candidates(
    cases: Cases, candidates: Sequence[Candidate], journal: Journal, line: ProgressLine
) -> tuple[list[dict[int, CaseResult]], bool]:
    """The results of each candidate by place among the cases, and whether an interrupt left some out."""
    interrupted = False
    left = [
        (number, each)
        for number, each in enumerate(candidates)
        if len(finished_results(cases.cases, journal, str(number))) < len(cases.cases)
    ]
    try:
        for _, each in left[1:]:
            # What it refuses should not be found out after the first has decided for an hour.
            each.open(cases.cases).close()
        for number, each in left:
            with each.open(cases.cases) as router:
                evaluate(
                    router,
                    cases.cases,
                    source=cases.source,
                    journal=journal,
                    run=str(number),
                    on_progress=lambda done, total, label=each.label: line(f"{label}: {total} cases", done, total),  # type: ignore[misc]
                )
    except KeyboardInterrupt:
        interrupted = True
    line.clear()
    found = [finished_results(cases.cases, journal, str(number)) for number in range(len(candidates))]
    if interrupted:
        n_done, n_all = sum(map(len, found)), len(cases.cases) * len(candidates)
        click.echo(f"interrupted after {n_done} of {n_all} decisions; the same command with --resume goes on", err=True)
    return found, interrupted


def check_can_write(*paths: Path | None) -> None:
    """Make sure before a long run that there is a folder for what it will write.

    Raises:
        SettingsError: there is none, or a folder has that name.
    """
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise SettingsError(f"{path}: cannot be written, there is no folder {path.parent}")
        # Not ``resolve``, which ends in an error of its own where links lead in a circle.
        led_to = Path(os.path.realpath(path)) if path is not None and path.is_symlink() else None
        if led_to is not None and not led_to.parent.is_dir():
            raise SettingsError(f"{path}: cannot be written, it leads to {led_to}, and there is no folder {led_to.parent}")
        if path is not None and path.is_dir():
            raise SettingsError(f"{path}: a folder, not a file to write to")
