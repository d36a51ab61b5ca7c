"""``archroute eval``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from archroute_edge import evaluation
from archroute_edge.cli import labelled
from archroute_edge.cli.help import examples, option
from archroute_edge.cli.options import (
    calibration_option,
    engine_options,
    json_option,
    model_option,
    note_bundled_model,
    prompt_format_option,
    switch_over_option,
)
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.cli.tables import print_answer, print_tables, shows_tables
from archroute_edge.deciders import find_models, settings_without_meaning
from archroute_edge.evaluation import EvaluationReport
from archroute_edge.report import require_matplotlib


@click.command(
    name="eval",
    cls=labelled.RecordedCommand,
    epilog=examples(
        "archroute eval --model mini",
        "archroute eval cases.jsonl --compare arch-router --html report.html",
    ),
)
@labelled.cases_argument
@labelled.routes_option
@model_option
@option("--compare", metavar="NAME|PATH", help="Second model to run on the same cases and compare with the first.")
@option("--limit", type=click.IntRange(min=1), metavar="N", help="Run only the first N cases.")
@prompt_format_option
@engine_options
@switch_over_option
@calibration_option
@labelled.resume_option
@json_option
@labelled.file_option("--csv", "Also write CSV, one row for each case.")
@labelled.file_option("--html", "Also write an HTML page with plots.")
@click.pass_context
def eval_command(
    ctx: click.Context,
    /,
    file: Path | None,
    routes: str | None,
    limit: int | None,
    resume: bool,
    as_json: bool,
    csv: Path | None,
    html: Path | None,
    **options: Any,
) -> None:
    """Measure how well a model routes labelled cases.

    FILE has one case a line: {"messages": [...], "routes": [{"name", "description"}...], "route": "expected"}. Without FILE,
    runs the cases shipped with archroute-edge. The report goes to stdout. Ctrl-C reports the finished part; --resume
    continues from there. --calibration applies to --model only, not to --compare.
    """
    with_tables = shows_tables(as_json, csv)
    if html is not None:
        require_matplotlib()
    labelled.check_can_write(csv, html)
    cases = labelled.load_cases(file, routes, limit)
    candidates = _candidates(options)
    note_bundled_model(options["model"], find_models(options["model"])[0])
    with labelled.open_journal("eval", cases, candidates, resume=resume) as journal, ProgressLine() as line:
        found, interrupted = labelled.run_candidates(cases, candidates, journal, line)
        if not found[0]:
            ctx.exit(130)
        models = [
            evaluation.report_on(each.label, each.prompt_format, cases.cases, results)
            for each, results in zip(candidates, found, strict=True)
            if results
        ]
        comparison = evaluation.compare(*models) if len(models) > 1 else None
        n_tables = len({case.table for case in cases.cases})
        report = EvaluationReport(cases.source, len(cases.cases), n_tables, models, comparison, interrupted)
        if csv is not None:
            evaluation.write_cases(report, csv)
        if html is not None:
            evaluation.evaluation_page(report, labelled.made(ctx)).write(html)
        if as_json:
            click.echo(json.dumps(evaluation.to_json(report)))
        elif with_tables:
            print_answer(report.answer())
            click.echo(f"{report.described()}\n")
            print_tables(evaluation.terminal_tables(report))
        if interrupted:
            ctx.exit(130)
        journal.remove()


def _candidates(options: dict[str, Any]) -> list[labelled.Candidate]:
    if options["compare"] is None:
        return [labelled.candidate(options)]
    idle_for_first, idle_for_second = (
        settings_without_meaning(find_models(name)) for name in (options["model"], options["compare"])
    )
    # A setting that says nothing to one of them is the other's; one that says nothing to both is refused.
    first = labelled.candidate(options, without=idle_for_first - idle_for_second)
    second_options = {**options, "model": options["compare"], "calibration": None}
    second = labelled.candidate(second_options, without=idle_for_second - idle_for_first)
    if second.label == first.label:
        same = second.file.path == first.file.path
        second = replace(second, label=f"{second.label} (again)" if same else str(second.file.path))
    return [first, second]
