"""The commands of `python -m training.quality`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from training.command_line import TrainingCommands, checkpoint_out

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_BUDGET = 1024


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all commands that read outcomes have."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Decides which fifth of the prompts is not trained on."),
        click.option("--leave-out", multiple=True, metavar="CATEGORY", help="Train on no prompt of this; repeat it for more."),
        click.argument("outcomes", nargs=-1, required=True),
    ):
        command = option(command)
    return command


def _training(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--resume", is_flag=True, help="Go on from the state beside the checkpoint."),
        click.option("--steps", type=click.IntRange(1), help="Steps in all, instead of the recipe's."),
        checkpoint_out,
    ):
        command = option(command)
    return command


@click.group(cls=TrainingCommands)
def main() -> None:
    """Train the models that the policies `causal` and `classifier` of archroute quality read.

    OUTCOMES are files as archroute quality train reads them. The same fifth of their prompts is kept for `package`, so give all
    commands the same OUTCOMES, --leave-out and --seed.
    """


@main.command()
@click.argument("start", metavar="CHECKPOINT", type=click.Path(path_type=Path, exists=True))
@_options
@_training
def causal(
    start: Path,
    outcomes: tuple[str, ...],
    leave_out: tuple[str, ...],
    seed: int,
    out: Path,
    steps: int | None,
    resume: bool,
) -> None:
    """Train a language model in Qwen2's layout to say how well a request will be answered.

    CHECKPOINT is a folder, or a GGUF of a model that training.tiny trained, such as the bundled one.
    """
    from training.quality.marks import marks
    from training.quality.material import read_material

    # Before PyTorch is loaded, so that wrong files are told at once.
    trained = read_material(outcomes, leave_out, seed).trained
    _check_state(out, resume)
    from training.quality.causal import Recipe, train
    from training.quality.questions import open_questioner, write_vocabulary

    recipe = Recipe() if steps is None else replace(Recipe(), steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = start
        if start.is_file():
            from training.tiny.from_gguf import checkpoint_from_gguf

            checkpoint = Path(folder) / "checkpoint"
            try:
                checkpoint_from_gguf(start, checkpoint)
            except (ValueError, KeyError, RuntimeError) as exc:
                raise click.ClickException(f"{start}: not a GGUF of a model that training.tiny trained ({exc})") from exc
        vocabulary = Path(folder) / "vocabulary.gguf"
        write_vocabulary(checkpoint, vocabulary)
        questioner = open_questioner(vocabulary, _BUDGET)
        questions = [
            questioner.question(prompt, int(mark)) for prompt, mark in zip(trained.prompts, marks(trained.scores), strict=True)
        ]
        train(checkpoint, questions, out, recipe, resume)


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_options
@_training
def classifier(
    checkpoint: Path,
    outcomes: tuple[str, ...],
    leave_out: tuple[str, ...],
    seed: int,
    out: Path,
    steps: int | None,
    resume: bool,
) -> None:
    """Train a sentence encoder with a last layer that tells which of two models answers better."""
    from archroute_edge.deciders import conversation_text
    from archroute_edge.quality import battles_of, read_prompt
    from training.quality.material import read_material

    trained = read_material(outcomes, leave_out, seed).trained
    _check_state(out, resume)
    from training.quality.classifier import Recipe, train

    texts = [conversation_text(read_prompt(prompt)) for prompt in trained.prompts]
    recipe = Recipe() if steps is None else replace(Recipe(), steps=steps)
    train(checkpoint, texts, battles_of(trained, seed), out, recipe, resume)


@main.command()
@click.argument("checkpoint", type=_FOLDER)
@_options
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="GGUF file.")
@click.option("--level", default="Q8_0", show_default=True, help="Level to quantize to; F16 keeps what the conversion gives.")
@click.option("--licence", default="", help="Licences of the outcomes, kept in the file.")
def package(
    checkpoint: Path, outcomes: tuple[str, ...], leave_out: tuple[str, ...], seed: int, out: Path, level: str, licence: str
) -> None:
    """Convert a trained checkpoint to GGUF, and put its predictor into it, fitted on the prompts kept for that.

    The predictor is fitted to what the file of this level computes, so each level needs a file of its own.
    """
    from archroute_edge.quality import kind_of_model, sets_of
    from training.quality.material import read_material

    material = read_material(outcomes, leave_out, seed)
    from training.quality.classifier import LAST_LAYER, read_layer
    from training.quality.packaging import package_causal, package_classifier

    about = (sets_of(material.fitted), licence)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as folder:
        model = Path(folder) / out.name
        quantizing = () if level.upper() == "F16" else ("--quantize", level)
        _convert(checkpoint, model, ("--outtype", "f16", *quantizing, "--name", out.stem))
        if (checkpoint / LAST_LAYER).is_file():
            layer, models = read_layer(checkpoint)
            package_classifier(model, layer, models, material.fitted, out, about, seed)
        elif kind_of_model(model) == "generative":
            package_causal(model, material.fitted, out, about, seed)
        else:
            raise click.ClickException(f"{checkpoint}: an encoder without {LAST_LAYER}; train it with the command classifier")
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, fitted on {about[0]}")


def _check_state(out: Path, resume: bool) -> None:
    if resume and not out.with_name(out.name + ".state.pt").is_file():
        raise click.UsageError(f"--resume: {out} has no state of a training beside it; leave it out")


def _convert(checkpoint: Path, out: Path, options: Sequence[str]) -> None:
    command = [sys.executable, "-m", "tools.convert", str(checkpoint), "-o", str(out), *options]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise click.ClickException(f"tools.convert failed on {checkpoint} (exit code {done.returncode})")
