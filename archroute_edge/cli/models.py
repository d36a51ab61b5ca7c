"""``archroute models``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from archroute_edge.cli.help import examples, option
from archroute_edge.cli.options import json_option, shown_size
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.errors import SettingsError
from archroute_edge.models import (
    CHECKPOINT,
    CatalogueEntry,
    InstalledModel,
    catalogue_entry,
    check_removable,
    find_checkpoint,
    find_model,
    installed,
    read_catalogue,
    remove,
    to_verify,
    verify,
)

_NAME = click.argument("name", metavar="NAME[:LEVEL]")


@click.group(epilog=examples("archroute models list", "archroute models pull arch-router --quant Q4_K_M"))
def models() -> None:
    """List, pull, check and remove models."""


@models.command(name="list", epilog=examples("archroute models list", "archroute models list --json"))
@json_option
def list_models(as_json: bool) -> None:
    """List the models of the catalogue and those on this machine."""
    catalogue = read_catalogue()
    here = {model.name: model for model in installed()}
    rows = [row for entry in catalogue.values() for row in _rows(entry, here)]
    if as_json:
        click.echo(json.dumps(rows))
        return
    shown = [("model", "size", "licence", "on this machine")]
    for row in rows:
        about = f"~{row['approximate_size']}" if row["approximate_size"] else "?"
        size = about if row["bytes"] is None else shown_size(row["bytes"])
        shown.append((row["name"] + (" (usual)" if row["default"] else ""), size, row["licence"], row["path"] or "no"))
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    for name, size, licence, path in shown:
        click.echo(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {licence:<{widths[2]}}  {path}")


def _rows(entry: CatalogueEntry, here: dict[str, InstalledModel]) -> list[dict[str, Any]]:
    """Every published level and the checkpoint, and of the levels that can be made those that were."""
    sizes: dict[str, str | None] = {f"{entry.name}:{level}": file.size for level, file in entry.files.items()}
    if entry.file is not None:
        sizes[entry.name] = None
    made = (f"{entry.name}:{level}" for level in entry.file_names)
    sizes |= dict.fromkeys(name for name in made if name in here.keys() - sizes)
    if entry.checkpoint is not None:
        sizes[f"{entry.name}:{CHECKPOINT}"] = entry.checkpoint.size
    return [
        {
            "name": name,
            "default": name == f"{entry.name}:{entry.usual_level}",
            "description": entry.description,
            "licence": entry.licence,
            "licence_url": entry.licence_url,
            "prompt_format": entry.prompt_format,
            "approximate_size": size,
            "bytes": here[name].n_bytes if name in here else None,
            "path": str(here[name].path) if name in here else None,
        }
        for name, size in sizes.items()
    ]


@models.command(epilog=examples("archroute models pull arch-router", "archroute models pull arch-router --quant Q4_K_M"))
@_NAME
@option("--quant", metavar="LEVEL", help="Quantization level, such as Q4_K_M.  [default: the catalogue's]")
@option("--revision", metavar="REV", help="Branch, tag or commit of the repository.  [default: the catalogue's, or main]")
@json_option
def pull(name: str, quant: str | None, revision: str | None, as_json: bool) -> None:
    """Download a model from the Hugging Face hub; print its path.

    Shows the model's licence first. The file goes into the Hugging Face cache, where other programs find it too.
    """
    from archroute_edge.cli.pull_view import PullView
    from archroute_edge.models import pull_model

    if quant is not None and ":" in name:
        raise SettingsError(f"{name} names a level already; leave out --quant {quant}")
    with ProgressLine() as line:
        pulled = pull_model(name, level=quant, revision=revision, listener=PullView(line))
    click.echo(f"{pulled.name}: {'downloaded' if pulled.downloaded else 'was here already'}, checked", err=True)
    if as_json:
        report = asdict(pulled)
        report["bytes"] = report.pop("n_bytes")
        click.echo(json.dumps(report, default=str))
    else:
        click.echo(str(pulled.path))


@models.command(name="path", epilog=examples("archroute models path mini", "archroute models path arch-router:Q4_K_M"))
@_NAME
def show_path(name: str) -> None:
    """Print the path of a model on this machine.

    NAME:checkpoint is the folder of the weights from which levels are made.
    """
    if name.partition(":")[2].lower() == CHECKPOINT:
        click.echo(str(find_checkpoint(catalogue_entry(name)[0])))
    else:
        click.echo(str(find_model(name).path))


@models.command(
    name="verify",
    epilog=examples(
        "archroute models verify", "archroute models verify arch-router:Q4_K_M", "archroute models verify mine.gguf"
    ),
)
@click.argument("name", metavar="[NAME[:LEVEL]|PATH]", required=False)
@json_option
@click.pass_context
def verify_models(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Check models on this machine, all of the catalogue by default: hash and structure.

    Exits with status 2 if a file is damaged.
    """
    verdicts = []
    with ProgressLine() as line:
        for model in to_verify(name):
            verdict = verify(model, line)
            verdicts.append(verdict)
            line.clear()
            if not as_json:
                how = "hash and structure" if verdict.by_hash else "structure only, no hash of it is known"
                # A problem begins with the path, which may be the name.
                named = "" if verdict.problem and model.name == str(model.path) else f"{model.name}: "
                click.echo(f"{named}{verdict.problem or f'sound ({how})'}")
    if as_json:
        report = [
            {"name": each.model.name, "path": str(each.model.path), "hash_known": each.by_hash, "problem": each.problem}
            for each in verdicts
        ]
        click.echo(json.dumps(report))
    ctx.exit(2 if any(verdict.problem for verdict in verdicts) else 0)


@models.command(
    name="remove", epilog=examples("archroute models remove arch-router:Q4_K_M", "archroute models remove arch-router --yes")
)
@_NAME
@option("--yes", is_flag=True, help="Delete without asking.")
@json_option
def remove_model(name: str, yes: bool, as_json: bool) -> None:
    """Delete a model from this machine; without LEVEL, all its levels.

    Deletes the file's name from the Hugging Face cache, and its data unless another name still uses it. The bundled models
    stay.
    """
    found = installed(name)
    check_removable(found)
    for model in found:
        click.echo(f"{model.name}: {model.path} ({shown_size(model.n_bytes)})", err=True)
    if not yes:
        if not _can_answer():
            raise SettingsError("nothing was deleted: add --yes to delete without being asked")
        if not click.confirm("Delete?", err=True):
            raise SettingsError("nothing was deleted")
    gone: list[str] = []
    try:
        for model in found:
            gone += map(str, remove(model))
    finally:
        # Also if one cannot be deleted: those before it are gone.
        if gone:
            click.echo(json.dumps({"removed": gone}) if as_json else "\n".join(gone))


def _can_answer() -> bool:
    return sys.stdin.isatty()
