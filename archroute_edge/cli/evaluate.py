"""``archroute eval``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from archroute_edge.cli.help import Command, Option, examples
from archroute_edge.cli.labelled import (
    Candidate,
    Cases,
    candidate,
    cases_argument,
    check_can_write,
    load_cases,
    open_journal,
    resume_option,
    routes_option,
    run_candidates,
)
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
from archroute_edge.cli.tables import print_tables, require_rich
from archroute_edge.deciders import find_models
from archroute_edge.evaluation import CaseResult, EvaluationReport, compare, evaluation_page, report_on, to_json, write_csv
from archroute_edge.evaluation import _tables as tables
from archroute_edge.report import require_matplotlib

_MOST_ROUTES = 40
_MOST_CONFUSED = 12
_MOST_EXAMPLES = 8


@click.command(
    name="eval",
    cls=Command,
    epilog=examples(
        "archroute eval --model mini",
        "archroute eval cases.jsonl --compare arch-router --html report.html",
    ),
)
@cases_argument
@routes_option
@model_option
@click.option("--compare", metavar="NAME|PATH", help="Second model to run on the same cases and to compare with the first.")
@click.option("--limit", cls=Option, type=click.IntRange(min=1), metavar="N", help="Run only the first N cases.")
@prompt_format_option
@engine_options
@switch_over_option
@calibration_option
@resume_option
@json_option
@click.option("--csv", type=click.Path(path_type=Path), metavar="FILE", help="Also write CSV, one row for each case.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write an HTML page with plots.")
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
    the cases that come with archroute-edge are run. The report goes to stdout. Ctrl-C reports what is finished, and --resume
    goes on from there. --calibration applies to --model only, not to --compare.
    """
    if not as_json:
        require_rich()
    if html is not None:
        require_matplotlib()
    check_can_write(csv, html)
    cases = load_cases(file, routes, limit)
    candidates = _candidates(options)
    note_bundled_model(options["model"], find_models(options["model"])[0])
    with open_journal("eval", cases, candidates, resume=resume) as journal, ProgressLine() as line:
        found, interrupted = run_candidates(cases, candidates, journal, line)
        if not found[0]:
            ctx.exit(130)
        report = _report(cases, candidates, found, interrupted)
        if csv is not None:
            write_csv(report, csv)
        if html is not None:
            evaluation_page(report, _described(report)).write(html)
        if as_json:
            click.echo(json.dumps(to_json(report)))
        else:
            _print(report)
        if interrupted:
            ctx.exit(130)
        journal.remove()


def _candidates(options: dict[str, Any]) -> list[Candidate]:
    first = candidate(options)
    if options["compare"] is None:
        return [first]
    second = candidate({**options, "model": options["compare"], "calibration": None})
    if second.label == first.label:
        same = second.file.path == first.file.path
        second = replace(second, label=f"{second.label} (again)" if same else str(second.file.path))
    return [first, second]


def _report(
    cases: Cases, candidates: Sequence[Candidate], found: Sequence[dict[int, CaseResult]], partial: bool
) -> EvaluationReport:
    models = [
        report_on(each.label, each.prompt_format, cases.cases, results)
        for each, results in zip(candidates, found, strict=True)
        if results
    ]
    n_tables = len({case.table for case in cases.cases})
    comparison = compare(models[0], models[1]) if len(models) > 1 else None
    return EvaluationReport(cases.source, len(cases.cases), n_tables, models, comparison, partial)


def _described(report: EvaluationReport) -> str:
    many = "route table" if report.n_tables == 1 else "route tables"
    text = f"{report.n_cases} cases over {report.n_tables} {many}, from {report.source}."
    if report.partial:
        done = " and ".join(f"{len(model.results)} of them by {model.name}" for model in report.models)
        text += f" PARTIAL: the run was interrupted; decided were {done}, and every figure is over these alone."
    return text


def _print(report: EvaluationReport) -> None:
    click.echo(f"{_described(report)}\n")
    print_tables([tables.summary_table(report)])
    if report.comparison is not None:
        print_tables([tables.comparison_table(report.comparison), tables.differing_table(report.comparison, _MOST_EXAMPLES)])
    print_tables([tables.tag_table(report)])
    for model in report.models:
        print_tables(
            [
                tables.route_table(model, _MOST_ROUTES),
                tables.confusion_table(model, _MOST_CONFUSED),
                tables.worst_table(model, _MOST_EXAMPLES, 1),
                tables.coverage_table(model),
                tables.reliability_table(model),
            ]
        )
