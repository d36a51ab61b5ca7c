"""The commands of `python -m training.tiny`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from training.command_line import TrainingCommands, checkpoint_out
from training.tiny.kinds_bank import Kind, load_banks
from training.tiny.public_data import load_public
from training.tiny.sampling import Sampler

# Kinds that never take part in the training, for an honest figure on routes that the model has not seen.
UNSEEN = frozenset(
    {
        "clinc150/flip_coin", "clinc150/gas_type", "clinc150/insurance_change", "clinc150/what_song",
        "clinc150/damaged_card", "clinc150/spelling", "banking77/pin_blocked", "banking77/receiving_money",
        "banking77/transaction_charged_twice", "sgd/Weather.GetWeather", "sgd/Dentist.BookAppointment",
    }
)  # fmt: skip

_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with the public data sets, as training/tiny/README.md names them.",
)
_STEPS = click.option("--steps", type=click.IntRange(1), help="Steps in all, instead of the recipe's.")
_RESUME = click.option("--resume", is_flag=True, help="Go on from the state beside the checkpoint.")


def samplers(data: Path) -> tuple[dict[str, Kind], Sampler, Sampler]:
    """All kinds, the sampler of the training and the one of held-back phrasings."""
    public = load_public(data)
    kinds = load_banks() | public.kinds
    # A model is quick to answer `other` for messages that are new to it, so training has fewer of them than evaluation.
    train = Sampler(kinds, public.out_of_scope, held=False, excluded=UNSEEN, other_share=0.11)
    held = Sampler(kinds, public.held_out_of_scope, held=True, excluded=UNSEEN)
    return kinds, train, held


@click.group(cls=TrainingCommands)
def main() -> None:
    """Train, judge and package the bundled model."""


@main.command()
@_DATA
@checkpoint_out
@_STEPS
@_RESUME
def train(data: Path, out: Path, steps: int | None, resume: bool) -> None:
    """Train a checkpoint in Hugging Face's Qwen2 layout."""
    kinds, sampler, held = samplers(data)
    # PyTorch, after the data, so that a missing file is told at once.
    from training.tiny.run_training import run

    try:
        run(kinds, sampler, held, out, steps, resume)
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted; go on with --resume, from the last save of {out}") from None


@main.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@_DATA
@click.option("--count", default=400, show_default=True, help="Questions for each source of held-back phrasings.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(model: Path, data: Path, count: int, as_json: bool) -> None:
    """Judge a checkpoint folder or a GGUF file on messages that the training has not seen."""
    from training.tiny.evaluation import decide_all
    from training.tiny.questions import (
        PLAIN_SOURCES,
        SOURCES,
        card_questions,
        held_back_questions,
        plain_questions,
        tally,
        unseen_questions,
    )

    kinds, sampler, held = samplers(data)
    questions = [q for source in SOURCES for q in held_back_questions(held, source, count)]
    questions += [q for source in PLAIN_SOURCES for q in plain_questions(held, source, count)]
    questions += card_questions(kinds) + unseen_questions(sampler, UNSEEN, count)
    figures = tally(questions, decide_all(model, questions))
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    click.echo(f"{'questions of':24} {'number':>7} {'right':>7}   {'of these other':>14} {'right':>7}")
    for group, row in figures.items():
        other = f"{row['other_right']:>7.1%}" if "other_right" in row else "      –"
        click.echo(f"{group:24} {row['questions']:>7} {row['right']:>7.1%}   {row['other_questions']:>14} {other}")


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="GGUF file.")
def export(checkpoint: Path, out: Path) -> None:
    """Convert a checkpoint to GGUF and quantize it to Q8_0."""
    command = [sys.executable, "-m", "tools.convert", str(checkpoint), "--outtype", "f16", "-o", str(out)]
    done = subprocess.run([*command, "--quantize", "Q8_0", "--prompt-format", "card"], check=False)
    if done.returncode:
        raise click.ClickException(f"tools.convert failed on {checkpoint} (exit code {done.returncode})")


@main.command(name="all")
@_DATA
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="GGUF file.")
@_STEPS
@_RESUME
@click.pass_context
def everything(context: click.Context, data: Path, out: Path, steps: int | None, resume: bool) -> None:
    """Train, convert, quantize and judge: from the data to the bundled file."""
    checkpoint = out.with_suffix(".checkpoint")
    context.invoke(train, data=data, out=checkpoint, steps=steps, resume=resume)
    context.invoke(export, checkpoint=checkpoint, out=out)
    context.invoke(evaluate, model=out, data=data)
