"""``archroute quality add``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.labelled import check_can_write
from archroute_edge.cli.options import json_option
from archroute_edge.cli.process import shown
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.quality_outcomes import grades_option
from archroute_edge.cli.quality_predictor import predictor_file
from archroute_edge.cli.quality_score import encoder_option
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import QualityError, SettingsError

if TYPE_CHECKING:
    from archroute_edge.quality import Predictor, Prompt, PromptFeatures

_FEW = 30


@click.command(
    cls=Command,
    epilog=examples(
        "archroute quality add my.safetensors prompts.jsonl --suggest 50",
        "archroute quality add my.safetensors graded.jsonl --model new -o new.st",
    ),
)
@click.argument("predictor")
@click.argument("file")
@option("--model", metavar="NAME", help="Name of the new model.")
@option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="File to write.")
@option("--suggest", type=click.IntRange(1, 100_000), metavar="N", help="Print N prompts of FILE that are worth grading.")
@grades_option
@encoder_option
@json_option
def add(
    predictor: str,
    file: str,
    model: str | None,
    output: Path | None,
    suggest: int | None,
    grades: tuple[str, ...],
    encoder: str | None,
    as_json: bool,
) -> None:
    """Add a model to a predictor from few graded prompts.

    FILE has some 30 to 100 lines {"id", "text" or "messages", "score"}: how good the new model's answer was, from 0 to 1. It
    may also be what archroute log export --outcomes wrote. PREDICTOR stays as it is, and the others' scores are the same in
    the new file. With --suggest, FILE has prompts without scores, and those to grade are printed.
    """
    from archroute_edge import quality

    path = predictor_file(predictor)
    if suggest is not None:
        if model is not None or output is not None or grades or as_json:
            raise SettingsError("--suggest prints prompts to grade, as JSON; leave out --model, --grades, --json and -o")
        opened = quality.load_predictor(path)
        read = list(quality.read_prompts_and_lines(file))
        if not read:
            raise QualityError(f"{'standard input' if file == '-' else file}: there are no prompts")
        prompts = [prompt for prompt, _ in read]
        for row in quality.suggest_prompts(opened, _features(opened, prompts, encoder), suggest):
            # As it stands in the file, system messages included, for the new model to be asked and a score to be put beside it.
            click.echo(json.dumps({**read[row][1], "id": prompts[row].id}, ensure_ascii=False))
        return
    if model is None or output is None:
        raise SettingsError("name the new model with --model, and the file to write with -o; or ask for --suggest N")
    # An argument may be bytes that are not UTF-8.
    model = replace_surrogates(model)
    quality.check_models((model,))
    check_can_write(output)
    opened = quality.load_predictor(path)
    graded = quality.read_graded(file, model, grades)
    # Before the prompts' vectors are computed, which takes long.
    n_graded = len(quality.graded_rows(opened.models, model, graded))
    grown = opened.with_model(model, graded, _features(opened, list(graded.prompts), encoder))
    grown.novelty, grown.model_file, grown.sample_tokens = opened.novelty, opened.model_file, opened.sample_tokens
    about = quality.read_about(path)
    quality.save_predictor(grown, output, trained_on=about["trained_on"], licence=about["licence"])
    counted = f"{n_graded} graded prompt{'' if n_graded == 1 else 's'}"
    if n_graded < _FEW:
        verb = "is" if n_graded == 1 else "are"
        click.echo(f"{counted} {verb} few; from {_FEW} on the new model's scores are steadier", err=True)
    if as_json:
        found = {"file": str(output), "models": grown.models, "model": model, "graded": n_graded}
        click.echo(json.dumps(found))
        return
    click.echo(f"{click.format_filename(output)}: {len(grown.models)} models, with {shown(model)} from {counted}")


def _features(predictor: Predictor, prompts: list[Prompt], encoder: str | None) -> PromptFeatures:
    from archroute_edge.cli.quality_encoder import encoder_of
    from archroute_edge.quality import features_of

    with ProgressLine() as line:
        return features_of(prompts, encoder_of(predictor, encoder), lambda done, total: line("vectors", done, total))
