"""``archroute calibrate``."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.labelled import (
    candidate,
    check_can_write,
    load_cases,
    open_journal,
    resume_option,
    routes_option,
    run_candidates,
)
from archroute_edge.cli.options import engine_options, json_option, model_option, note_bundled_model, prompt_format_option
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.tables import print_tables, require_rich
from archroute_edge.deciders import NO_PROMPT, TEMPERATURE_LIMITS, Calibration, find_models
from archroute_edge.errors import SettingsError
from archroute_edge.evaluation import CrossValidation, SureDecisions, cross_validate, fit
from archroute_edge.report import Column, Table, number, table

_FEW = 100


@click.command(
    cls=Command,
    epilog=examples(
        "archroute calibrate cases.jsonl --model mini -o mini.yaml",
        'archroute route "..." --model mini --calibration mini.yaml',
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@option("-o", "--output", type=click.Path(path_type=Path), metavar="YAML", required=True, help="File to write.")
@routes_option
@model_option
@prompt_format_option
@engine_options
@option("--folds", metavar="N", type=click.IntRange(2, 50), default=5, help="Parts of the cases, held out in turn.")
@resume_option
@json_option
@click.pass_context
def calibrate(
    ctx: click.Context,
    /,
    file: Path,
    output: Path,
    routes: str | None,
    folds: int,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit a model's calibration to labelled cases.

    FILE has one case a line, as for archroute eval. The fit gives a temperature for the answers' probabilities, and a
    confidence below which other is the better answer. For an encoder it also gives the confidence from which a cascade trusts
    it, so that 95 in 100 such decisions are right. The printed figures are for held-out cases: all of one route table, or
    else of one conversation, at a time. --calibration and Router(calibration=...) take the file.
    """
    if not as_json:
        require_rich()
    check_can_write(output)
    cases = load_cases(file, routes)
    if len(find_models(options["model"])) > 1:
        raise SettingsError("a calibration is of one model, and a cascade has two; name its encoder alone")
    chosen = candidate(options)
    note_bundled_model(options["model"], find_models(options["model"])[0])
    with open_journal("calibrate", cases, [chosen], resume=resume) as journal, ProgressLine() as line:
        (found,), interrupted = run_candidates(cases, [chosen], journal, line)
        if interrupted:
            # A calibration of the first tables alone would look like one of all.
            ctx.exit(130)
        results = [found[place] for place in range(len(cases.cases))]
        validated = cross_validate(cases.cases, results, folds)
        fitted = fit(results)
        is_encoder = chosen.prompt_format == NO_PROMPT
        calibration = Calibration(
            temperature=fitted.temperature,
            other_below=fitted.other_below,
            model=chosen.label,
            fingerprint=chosen.fingerprint,
            prompt_format=chosen.prompt_format,
            switch_over=_stated(fitted.switch_over) if is_encoder else None,
            n_cases=len(results),
            created=datetime.date.today().isoformat(),
            cross_validation=validated.to_dict(with_switch_over=is_encoder),
        )
        calibration.save(output)
        _note(calibration)
        if as_json:
            click.echo(json.dumps({"file": str(output), **calibration.to_dict()}))
        else:
            print_tables([_table(validated)])
            click.echo(f"temperature {fitted.temperature:.3f}, {_bound(fitted.other_below)}")
            if is_encoder:
                click.echo(_switch_over(fitted.switch_over, validated.sure))
            click.echo(str(output))
        journal.remove()


def _table(validated: CrossValidation) -> Table:
    stages = (
        ("as it is", validated.before),
        ("with the temperature", validated.temperature),
        ("with temperature and bound", validated.after),
    )
    columns = (
        Column("", "", lambda stage: stage[0]),
        Column("", "accuracy (95 % interval)", lambda stage: stage[1].accuracy),
        Column("", "NLL, nats", lambda stage: stage[1].nll, number),
        Column("", "ECE, 10 bins", lambda stage: stage[1].ece, number),
    )
    note = f"{len(validated.fits)} folds, each {validated.by} in one; every case is measured with what the others gave."
    return table("Held-out cases", columns, stages, note=note)


def _bound(other_below: float) -> str:
    if not other_below:
        return "no bound: other is not the better answer below any confidence, as far as these cases tell"
    return f"other below a confidence of {other_below:.3f}"


def _stated(switch_over: float | None) -> float:
    """For the file, where none would stand for the encoder's own: 1, so that a cascade asks its language model."""
    return 1.0 if switch_over is None else switch_over


def _switch_over(fitted: float | None, sure: SureDecisions) -> str:
    if fitted is None:
        return "no switch-over: whatever the confidence, too few are right for a cascade to rely on it"
    return (
        f"a cascade leaves decisions to it from a confidence of {fitted:.3f} on: "
        f"{sure.share} of the held-out cases, of which {sure.accuracy} right"
    )


def _note(calibration: Calibration) -> None:
    if calibration.n_cases < _FEW:
        click.echo(f"{calibration.n_cases} cases are few; some hundreds make the fit and its figures steadier", err=True)
    if calibration.temperature in TEMPERATURE_LIMITS:
        click.echo("the temperature is at the limit of its range: the cases are too easy, or too few, to tell it", err=True)
