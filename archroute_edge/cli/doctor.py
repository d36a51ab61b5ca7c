"""``archroute doctor``."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import click
import psutil

from archroute_edge import __version__
from archroute_edge.cli.options import json_option
from archroute_edge.engine import backend
from archroute_edge.engine.model_check import check_model_file
from archroute_edge.errors import ArchRouteError
from archroute_edge.folders import bundled_folder, cache_folder
from archroute_edge.model_store import BUNDLED, model_folders, models_on_this_machine, read_catalogue
from archroute_edge.saved_prefixes import folder_problem, inspect_folder


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show the build, devices, models and caches, and what is wrong.

    Exits with 2 where something is.
    """
    problems: list[str] = []
    report = {
        "archroute_edge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "llama_cpp": _build(),
        "devices": [f"{each.name}: {each.description}" for each in backend.devices()],
        "threads": backend.physical_cores(),
        "memory": _gigabytes(psutil.virtual_memory().total),
        "models": _models(problems),
        "saved_prefixes": _prefixes(problems),
        "problems": problems,
    }
    if as_json:
        click.echo(json.dumps(report))
    else:
        for key, value in report.items():
            _print(key.replace("_", " "), value)
    ctx.exit(2 if problems else 0)


def _build() -> dict[str, Any]:
    build = backend.build()
    return {
        "llama-cpp-python": build.binding_version,
        "llama.cpp": build.llama_cpp_version,
        "GPU offload": "yes" if build.gpu_offload else "no, this build computes on the CPU",
        "features": build.system_info,
    }


def _models(problems: list[str]) -> dict[str, str]:
    found = {}
    try:
        catalogue = read_catalogue()
        for file in models_on_this_machine():
            found[file.name] = f"{file.path} ({_gigabytes(file.path.stat().st_size)})"
            try:
                check_model_file(file.path)
            except ArchRouteError as exc:
                problems.append(str(exc))
        for entry in catalogue.values():
            if not any(name.split(":")[0] == entry.name for name in found):
                found[entry.name] = "not on this machine"
                if entry.name in BUNDLED:
                    problems.append(f"{entry.file} is missing from {bundled_folder()}; install archroute-edge again")
    except ArchRouteError as exc:
        problems.append(str(exc))
    override = os.environ.get("ARCHROUTE_MODELS_DIR")
    if override and not Path(override).is_dir():
        problems.append(f"{override}: no such folder, though ARCHROUTE_MODELS_DIR names it")
    found["looked in"] = ", ".join(str(folder) for folder in model_folders()) + ", and the hub's cache"
    return found


def _prefixes(problems: list[str]) -> str:
    folder = cache_folder()
    saved = inspect_folder(folder) if folder.is_dir() else []
    problems.extend(f"{each.problem}; delete it" for each in saved if each.problem)
    if problem := folder_problem(folder):
        problems.append(problem)
    return f"{len(saved)} in {folder} ({_gigabytes(sum(each.n_bytes for each in saved))})"


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"


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
