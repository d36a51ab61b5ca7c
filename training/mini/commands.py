"""The commands of `python -m training.mini`."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from training.command_line import TrainingCommands, checkpoint_out
from training.mini import base
from training.mini.catalogue import load_catalogue

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_DATA = click.option(
    "--data", type=_FOLDER, required=True, help="Folder with the public data sets, as training/tiny/README.md names them."
)
_GGUF = click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="GGUF file.")
_STEPS = click.option("--steps", type=click.IntRange(1), help="Steps of a training, instead of the recipe's.")
_MINUTES = click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Minutes of a training, instead of steps.")
_RESUME = click.option("--resume", is_flag=True, help="Go on from the state beside the checkpoint.")


@click.group(cls=TrainingCommands)
def main() -> None:
    """Fine-tune, judge and package the bundled encoder."""


@main.command()
@_DATA
@checkpoint_out
@_STEPS
@_MINUTES
@click.option("--everything", is_flag=True, help="Hold nothing out; with --begin-with, in fewer and smaller steps.")
@click.option("--begin-with", type=_FOLDER, help="Checkpoint to go on from, instead of the base.")
@_RESUME
def train(
    data: Path,
    out: Path,
    steps: int | None,
    minutes: float | None,
    everything: bool = False,
    begin_with: Path | None = None,
    resume: bool = False,
) -> None:
    """Fine-tune the base; kinds, domains, services and languages are held out to steer by."""
    from training.mini.languages import LanguageSampler
    from training.mini.tables import TableSampler
    from training.mini.training import ADDED, Job, Recipe
    from training.mini.training import train as run

    recipe = replace(ADDED if everything and begin_with is not None else Recipe(), minutes=minutes)
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    catalogue = load_catalogue(data, steer=not everything)
    sampler = TableSampler(catalogue, _related_kinds(data))
    in_languages = LanguageSampler(catalogue.languages, catalogue.held_out)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        run(Job(sampler, in_languages, begin_with or base.fetch(), out, recipe, resume))
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted; go on with --resume, from the last save of {out}") from None
    click.echo(f"\nsaved {out}", err=True)


@functools.cache
def _related_kinds(data: Path) -> dict[str, frozenset[str]]:
    """Once for all trainings of a command: what is held out of one changes no kind."""
    from training.mini import published
    from training.mini.embedding import Encoder
    from training.mini.relations import related_kinds

    click.echo("comparing the kinds with all-MiniLM-L6-v2", err=True)
    return related_kinds(load_catalogue(data, steer=False), Encoder(published.fetch()))


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_DATA
def calibrate(checkpoint: Path, data: Path) -> None:
    """Choose hubness, scale and what `other` scores on held-out data."""
    from training.mini.harness import questions
    from training.mini.references import reference_texts
    from training.mini.steering import show, steer, write_settings

    catalogue = load_catalogue(data, steer=True)
    before, after = steer(checkpoint, base.fetch(), questions(catalogue, data), reference_texts(catalogue))
    write_settings(checkpoint, after.settings)
    click.echo(show({"base": before, "trained": after}))


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_DATA
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(checkpoint: Path, data: Path, as_json: bool) -> None:
    """Judge a packaged checkpoint."""
    from training.mini.embedding import Encoder
    from training.mini.harness import questions
    from training.mini.references import read_references
    from training.mini.steering import figures_of, read_settings, show

    asked = questions(load_catalogue(data, steer=True), data)
    references, direction = read_references(checkpoint)
    figures = figures_of(Encoder(checkpoint), asked, references, read_settings(checkpoint), direction)
    click.echo(json.dumps(asdict(figures), indent=2) if as_json else show({"packaged": figures}))


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_DATA
@click.option("--settings", "steered", type=_FOLDER, required=True, help="Checkpoint whose calibration is used.")
@click.option("--everything", is_flag=True, help="Nothing was held out of the checkpoint's training.")
@checkpoint_out
def package(checkpoint: Path, data: Path, steered: Path, everything: bool, out: Path) -> None:
    """Put a calibration, the references for hubness, the topics of `other` and how to tell a catch-all beside a checkpoint.

    With --everything, the bound of `other` is carried over: it moves as the cosines did since the calibration.
    """
    import shutil

    from training.mini.catch_all import fit
    from training.mini.embedding import Encoder
    from training.mini.harness import questions
    from training.mini.references import compute_references, reference_texts
    from training.mini.steering import carry_over, read_settings, topics_of, write_settings
    from training.mini.training import ANSWERS

    settings = read_settings(steered)
    encoder = Encoder(checkpoint)
    trained_on = load_catalogue(data, steer=not everything)
    references = compute_references(encoder, reference_texts(trained_on))
    catch_all, told = fit(encoder, trained_on)
    for what, (right, count) in asdict(told).items():
        click.echo(f"held out, told whether it catches all: {what} {right} of {count}", err=True)
    if everything and checkpoint != steered:
        catalogue = load_catalogue(data, steer=True)
        asked = questions(catalogue, data)
        settings = carry_over(steered, reference_texts(catalogue), encoder, references, asked)
        click.echo(f"other_cosine carried over: {settings.other_cosine}", err=True)

    def complete(folder: Path) -> None:
        references.write(folder, topics_of(checkpoint, encoder.width), catch_all.direction)
        shutil.copyfile(checkpoint / ANSWERS, folder / ANSWERS)
        write_settings(folder, replace(settings, hubness_neighbours=references.neighbours, catch_all_bound=catch_all.bound))

    encoder.write(out, complete)


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_GGUF
def export(checkpoint: Path, out: Path) -> None:
    """Convert a packaged checkpoint to GGUF: published matrices in Q4_0, some trained ones in F16, the others in Q8_0."""
    from training.mini.tensor_types import HALVES, write_small

    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:
        whole = Path(scratch) / "f32.gguf"
        command = [sys.executable, "-m", "tools.convert", str(checkpoint), "--outtype", "f32", "-o", str(whole)]
        about = ["--name", "mini", "--license", "cc-by-sa-4.0"]
        done = subprocess.run([*command, *about], check=False, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise click.ClickException(f"tools.convert failed on {checkpoint} (exit code {done.returncode})")
        write_small(whole, out, HALVES)
    click.echo(f"{out}  {out.stat().st_size / 1e6:.1f} MB")


@main.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_DATA
@_GGUF
@click.pass_context
def recalibrate(context: click.Context, model: Path, data: Path, out: Path) -> None:
    """Choose hubness, scale and what `other` scores anew for a GGUF, which keeps its weights.

    If nothing was held out of its training, as of the bundled one, the figures that it prints are too good.
    """
    from training.mini.from_gguf import checkpoint_from_gguf

    weights, packaged = out.with_suffix(".weights"), out.with_suffix(".checkpoint")
    try:
        checkpoint_from_gguf(model, base.fetch(), weights)
    except ValueError as exc:
        raise click.ClickException(f"{model}: {exc}") from exc
    context.invoke(calibrate, checkpoint=weights, data=data)
    context.invoke(package, checkpoint=weights, data=data, steered=weights, everything=True, out=packaged)
    context.invoke(export, checkpoint=packaged, out=out)


@main.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def languages(model: Path, as_json: bool) -> None:
    """Judge a GGUF in 72 languages, most of them trained."""
    from training.mini.language_figures import figures_by_language, show

    figures = figures_by_language(model)
    click.echo(json.dumps([asdict(one) for one in figures], indent=2) if as_json else show(figures))


@main.command(name="catch-all")
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def catch_all(model: Path, as_json: bool) -> None:
    """Judge a GGUF on tables with a route for whatever fits no other."""
    from training.mini.catch_all_figures import figures_of_catch_alls, show

    figures = figures_of_catch_alls(model)
    click.echo(json.dumps({name: asdict(one) for name, one in figures.items()}, indent=2) if as_json else show(figures))


@main.command()
@_DATA
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="File.  [default: the one that trainings use]"
)
def vocabulary(data: Path, out: Path | None) -> None:
    """Choose the pieces of the base's vocabulary that the encoder keeps."""
    from training.mini.choose_vocabulary import PIECES, choose, text_sources
    from training.mini.vocabulary import FILE, kept_pieces, write_kept_pieces

    whole = base.read_published()
    chosen = choose(whole.pieces, whole.scores.tolist(), text_sources(data), PIECES)
    same = len(set(chosen.tolist()) & set(kept_pieces().tolist()))
    write_kept_pieces(chosen, len(whole.pieces), out or FILE)
    click.echo(f"kept {len(chosen)} of {len(whole.pieces)} pieces, {same} of them kept before; saved {out or FILE}", err=True)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def coverage(as_json: bool) -> None:
    """Measure how well the kept pieces cover each language."""
    from training.mini import choose_vocabulary
    from training.mini.vocabulary import kept_pieces

    whole = base.read_published()
    rows = choose_vocabulary.coverage(whole.pieces, whole.scores.tolist(), kept_pieces())
    click.echo(json.dumps([asdict(row) for row in rows], indent=2) if as_json else choose_vocabulary.show(rows))


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
    """Train with things held out, calibrate, go on with everything, package: from the data to the bundled file."""
    from training.mini.steering import SETTINGS

    steered, whole, packaged = (out.with_suffix(f".{name}") for name in ("steered", "whole", "checkpoint"))
    if not resume:
        # What an earlier run left would be gone on from after an interruption.
        for left in (_state(steered), _state(whole), steered / SETTINGS):
            left.unlink(missing_ok=True)
    if not (steered / SETTINGS).is_file():
        context.invoke(train, data=data, out=steered, steps=steps, minutes=minutes, resume=resume and _begun(steered))
        context.invoke(calibrate, checkpoint=steered, data=data)
    if not steered_only:
        context.invoke(train, data=data, out=whole, begin_with=steered, everything=True, resume=resume and _begun(whole))
    trained = steered if steered_only else whole
    context.invoke(package, checkpoint=trained, data=data, steered=steered, everything=not steered_only, out=packaged)
    context.invoke(export, checkpoint=packaged, out=out)
    context.invoke(evaluate, checkpoint=packaged, data=data, as_json=False)


def _begun(checkpoint: Path) -> bool:
    return _state(checkpoint).is_file()


def _state(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".state.pt")
