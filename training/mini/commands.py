"""The commands of `python -m training.mini`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import click

from training.mini import published
from training.mini.catalogue import anchors, load_catalogue

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_DATA = click.option(
    "--data", type=_FOLDER, required=True, help="Folder with the public data sets, as training/tiny/README.md names them."
)
_GGUF = click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="GGUF file.")
_STEPS = click.option("--steps", type=click.IntRange(1), help="Steps of the training, instead of the recipe's.")
_MINUTES = click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Minutes of the training, instead of steps.")
_RESUME = click.option("--resume", is_flag=True, help="Go on from the state beside the checkpoint.")


@click.group()
def main() -> None:
    """Fine-tune, judge and package the bundled encoder."""


@main.command()
@_DATA
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Checkpoint folder.")
@_STEPS
@_MINUTES
@click.option("--everything", is_flag=True, help="Hold nothing out.")
@click.option("--begin-with", type=_FOLDER, help="Checkpoint to go on from, more gently, instead of the published one.")
@_RESUME
def train(
    data: Path, out: Path, steps: int | None, minutes: float | None, everything: bool, begin_with: Path | None, resume: bool
) -> None:
    """Fine-tune the published encoder; kinds, domains and services are held out to steer by."""
    import torch

    from training.mini.embedding import Encoder
    from training.mini.relations import related_kinds
    from training.mini.tables import TableSampler
    from training.mini.training import ADDED, Job, Recipe
    from training.mini.training import train as run

    torch.set_num_threads(1)
    recipe = replace(Recipe() if begin_with is None else ADDED, minutes=minutes)
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    start = published.fetch()
    catalogue = load_catalogue(data, steer=not everything)
    click.echo("comparing the kinds with the published encoder", err=True)
    sampler = TableSampler(catalogue, related_kinds(catalogue, Encoder(start), recipe.seed))
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        run(Job(sampler, anchors(), begin_with or start, out, recipe, resume))
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted; go on with --resume, from the last save of {out}") from None
    click.echo(f"\nsaved {out}", err=True)


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_DATA
def calibrate(checkpoint: Path, data: Path) -> None:
    """Choose the share of published weights, hubness, scale and the threshold of `other` on held-out data."""
    from training.mini.harness import questions
    from training.mini.references import reference_texts
    from training.mini.steering import show, steer, write_settings

    catalogue = load_catalogue(data, steer=True)
    before, after = steer(checkpoint, published.fetch(), questions(catalogue), reference_texts(catalogue))
    write_settings(checkpoint, after.settings)
    click.echo(show({"published": before, "trained": after}))


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_DATA
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(checkpoint: Path, data: Path, as_json: bool) -> None:
    """Judge a mixed checkpoint."""
    from training.mini.embedding import Encoder
    from training.mini.harness import questions
    from training.mini.references import read_references
    from training.mini.steering import figures_of, read_settings, show

    asked = questions(load_catalogue(data, steer=True))
    figures = figures_of(Encoder(checkpoint), asked, read_references(checkpoint), read_settings(checkpoint))
    click.echo(json.dumps(asdict(figures), indent=2) if as_json else show({"mixed": figures}))


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_DATA
@click.option("--settings", "steered", type=_FOLDER, required=True, help="Checkpoint whose calibration is used.")
@click.option("--everything", is_flag=True, help="Nothing was held out of the checkpoint's training.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Checkpoint folder.")
def mix(checkpoint: Path, data: Path, steered: Path, everything: bool, out: Path) -> None:
    """Mix a trained checkpoint with the published one by a calibration, and compute the references for hubness."""
    from training.mini.embedding import Encoder
    from training.mini.references import compute_references, reference_texts
    from training.mini.steering import read_settings, write_settings

    settings = read_settings(steered)
    encoder = Encoder(checkpoint)
    encoder.mix(Encoder(published.fetch()), settings.share)
    references = compute_references(encoder, reference_texts(load_catalogue(data, steer=not everything)))
    encoder.write(out)
    references.write(out)
    write_settings(out, replace(settings, hubness_neighbours=references.neighbours))


@main.command()
@click.argument("checkpoints", type=_FOLDER, nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Checkpoint folder.")
def average(checkpoints: tuple[Path, ...], out: Path) -> None:
    """Average the weights of several trainings, which evens out their weaknesses."""
    from training.mini.embedding import Encoder

    encoder = Encoder(checkpoints[0])
    for number, further in enumerate(checkpoints[1:], 2):
        # The mean of the first ones keeps all of its share but that of the new one.
        encoder.mix(Encoder(further), 1 - 1 / number)
    encoder.write(out)


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_GGUF
def export(checkpoint: Path, out: Path) -> None:
    """Convert a mixed checkpoint to GGUF and quantize it to Q8_0."""
    command = [sys.executable, "-m", "tools.convert", str(checkpoint), "--outtype", "f16", "-o", str(out), "--name", "mini"]
    done = subprocess.run([*command, "--license", "cc-by-sa-4.0", "--quantize", "Q8_0"], check=False)
    if done.returncode:
        raise click.ClickException(f"tools.convert failed on {checkpoint} (exit code {done.returncode})")


@main.command(name="all")
@_DATA
@_GGUF
@_STEPS
@_MINUTES
@click.option("--steered-only", is_flag=True, help="Package the training that held things out; do not go on with everything.")
@_RESUME
@click.pass_context
def everything(
    context: click.Context, data: Path, out: Path, steps: int | None, minutes: float | None, steered_only: bool, resume: bool
) -> None:
    """Train with things held out, calibrate by them, go on with everything, package: from the data to the bundled file."""
    steered, whole, mixed = (out.with_suffix(f".{name}") for name in ("steered", "whole", "checkpoint"))
    if not (resume and (steered / "archroute.json").is_file()):
        options = {"steps": steps, "minutes": minutes, "resume": resume and _begun(steered)}
        context.invoke(train, data=data, out=steered, **options)
        context.invoke(calibrate, checkpoint=steered, data=data)
    if not steered_only:
        context.invoke(train, data=data, out=whole, everything=True, begin_with=steered, resume=resume and _begun(whole))
    trained = steered if steered_only else whole
    context.invoke(mix, checkpoint=trained, data=data, steered=steered, everything=not steered_only, out=mixed)
    context.invoke(export, checkpoint=mixed, out=out)
    context.invoke(evaluate, checkpoint=mixed, data=data, as_json=False)


def _begun(checkpoint: Path) -> bool:
    return checkpoint.with_name(checkpoint.name + ".state.pt").is_file()
