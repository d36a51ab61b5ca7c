"""``archroute log``."""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from archroute_edge.cli.help import examples, option
from archroute_edge.cli.labelled import file_option
from archroute_edge.cli.options import json_option
from archroute_edge.cli.record_options import (
    When,
    filter_options,
    record_at,
    record_file_option,
    wanted_by,
)
from archroute_edge.errors import SettingsError
from archroute_edge.report import NONE, counted, number, plain, printable, three_digits

if TYPE_CHECKING:
    from archroute_edge.record import Entry, Try

_SHORT: Final = 8
_NAME: Final = 28
_HEADS: Final = ("time", "id", "route", "conf.", "model", "status", "first byte", "all, ms", "tokens", "$", "")


@click.group(
    invoke_without_command=True,
    epilog=examples("archroute log --since 24h --failed", "archroute log show 3f9a2b1c", "archroute log export --cases FILE"),
)
@filter_options
@option("--limit", metavar="N", type=click.IntRange(min=1), default=50, help="The latest N of them.")
@record_file_option
@json_option
@click.pass_context
def log(ctx: click.Context, /, limit: int, record_file: Path | None, as_json: bool, **options: Any) -> None:
    """List the requests that archroute serve --record has kept.

    The newest stands last. With --json each is a line of its own.
    """
    if ctx.invoked_subcommand is not None:
        given = [each for each in ctx.command.params if each.name and _is_given(ctx, each.name)]
        if given:
            name = ctx.invoked_subcommand
            raise SettingsError(f"{given[0].opts[0]} is for the list; put the options of {name} behind it")
        return
    from archroute_edge.record import open_record

    with open_record(record_at(record_file)) as record:
        entries = record.entries(wanted_by(options), limit)
    if as_json:
        for entry in entries:
            click.echo(json.dumps(plain(entry)))
    elif entries:
        _print_rows([_HEADS, *(_cells(entry) for entry in entries)])
    else:
        click.echo("no such requests are in the record", err=True)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


@log.command(epilog=examples("archroute log show 3f9a2b1c", "archroute log show 3f9a2b1c --json"))
@click.argument("id")
@record_file_option
@json_option
def show(id: str, record_file: Path | None, as_json: bool) -> None:
    """Show all that is known of one request: scores, tries, and texts if they were kept.

    The beginning of its ID is enough.
    """
    from archroute_edge.record import open_record

    with open_record(record_at(record_file)) as record:
        entry = record.entry(id)
        grade = record.grades([entry.id]).get(entry.id)
        copies = record.shadows_of([entry.id]).get(entry.id, [])
    if as_json:
        known = {**plain(entry), "grade": grade and grade._asdict(), "shadows": [each.id for each in copies]}
        click.echo(json.dumps(known))
        return
    for name, value in plain(entry).items():
        if value is None or name in ("tries", "content"):
            continue
        for key, one in (
            ((f"{name}.{part}", one) for part, one in value.items()) if isinstance(value, dict) else [(name, value)]
        ):
            if one is not None:
                shown = _local(one) if name == "time" else one if isinstance(one, str) else json.dumps(one)
                click.echo(f"{key:<20} {printable(shown, 200)}")
    for place, one_try in enumerate(entry.tries, start=1):
        click.echo(f"{f'try {place}':<20} {_try(one_try)}, {number(one_try.total_ms, 0)} ms")
    for each in copies:
        click.echo(f"{'shadow':<20} {each.id[:_SHORT]} {printable(each.model or NONE)}")
    for key, value in (grade._asdict() if grade is not None else {}).items():
        if value is not None:
            click.echo(f"{f'grade.{key}':<20} {printable(str(value), 200)}")
    if entry.content is not None:
        click.echo(f"\n{_lines(entry.content.request)}\n\n{_lines(entry.content.answer or NONE)}")


@log.command(
    epilog=examples("archroute log grade 3f9a2b1c 0.8", 'archroute log grade 3f9a2b1c --route travel --note "was about a trip"')
)
@click.argument("id")
@click.argument("score", type=float, required=False)
@option("--route", "right_route", metavar="NAME", help="The route that should have been decided; other if none fits.")
@option("--note", metavar="TEXT", help="Why.")
@record_file_option
def grade(id: str, score: float | None, right_route: str | None, note: str | None, record_file: Path | None) -> None:
    """Say what an answer was worth, or which route was right, for the report and for files of labelled cases.

    The beginning of the request's ID is enough. SCORE is any number, the higher the better. Graded again, what is not given
    stays.
    """
    from archroute_edge import record

    if score is None and right_route is None and note is None:
        raise SettingsError("nothing to keep; give a SCORE, --route or --note")
    if score is not None and not math.isfinite(score):
        raise SettingsError("SCORE must be a number, such as 0.8")
    graded = record.grade(record_at(record_file), id, record.Grade(score, right_route, note))
    click.echo(f"{graded}: graded", err=True)


@log.command(
    epilog=examples("archroute log export --cases cases.jsonl --config routes.yaml", "archroute log export --outcomes FILE")
)
@filter_options
@file_option("--cases", "Write labelled cases for archroute eval; needs recorded texts.")
@option("--config", metavar="CONFIG", help="Give each case the routes of this configuration.")
@file_option("--outcomes", "Write what each model that was asked made of each prompt, shadows beside the answer.")
@record_file_option
def export(cases: Path | None, config: str | None, outcomes: Path | None, record_file: Path | None, **options: Any) -> None:
    """Write files that compare models and routes before traffic is moved.

    A case has the route that a grade names and the tag verified, or the route that was decided and the tag unverified. Both
    files are JSON Lines; docs/record.md describes them.
    """
    from archroute_edge import record
    from archroute_edge.config import load_config
    from archroute_edge.record import ExportedCases, open_record

    if cases is None and outcomes is None:
        raise SettingsError("nothing to write; give --cases FILE, --outcomes FILE or both")
    if config is not None and cases is None:
        raise SettingsError(f"--config {config} is for cases; give --cases FILE, or leave it out")
    table = None if config is None else load_config(config).table
    wanted, counts = wanted_by(options), ExportedCases()
    with open_record(record_at(record_file)) as opened:
        if cases is not None:
            made = record.cases(opened, wanted, table, counts)
            _write_lines(made, cases, lambda: record.check_has_texts(counts))
            left_out = [
                f"{count} {why}"
                for count, why in ((counts.without_text, "without texts"), (counts.elsewhere, "of other routes"))
                if count
            ]
            note = f" (left out: {', '.join(left_out)})" if left_out else ""
            click.echo(f"{cases}: {counted(counts.written, 'case')}{note}", err=True)
        if outcomes is not None:
            n_prompts = _write_lines(record.outcomes(opened, wanted), outcomes)
            click.echo(f"{outcomes}: outcomes of {counted(n_prompts, 'prompt')}", err=True)


@log.command(epilog=examples("archroute log clear --before 30d", "archroute log clear --yes"))
@option("--before", metavar="WHEN", type=When(), help="Only requests before WHEN: 24h, 30d, or a date.  [default: all]")
@option("--yes", is_flag=True, help="Delete without asking.")
@record_file_option
def clear(before: float | None, yes: bool, record_file: Path | None) -> None:
    """Delete what was kept, so that nothing of it is left in the file."""
    from archroute_edge import record

    file = record_at(record_file)
    what = "all requests" if before is None else f"requests before {_local(before)}"
    click.echo(f"{file}: {what}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("nothing was deleted: add --yes to delete without being asked")
        click.confirm("Delete?", abort=True, err=True)
    click.echo(f"{counted(record.clear(file, before), 'request')} deleted", err=True)


def _write_lines(values: Iterator[Mapping[str, Any]], path: Path, check: Any = None) -> int:
    """Write JSON Lines, whole or not at all; how many."""
    from archroute_edge.system import replaced_when_whole

    count = 0
    try:
        with replaced_when_whole(path) as partial:
            with partial.open("x", encoding="utf-8") as file:
                # Texts of users are for their eyes alone.
                partial.chmod(0o600)
                for count, value in enumerate(values, start=1):  # noqa: B007 - the last one is the number of all
                    file.write(json.dumps(value, ensure_ascii=False) + "\n")
            if check is not None:
                check()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written ({exc.strerror or exc})") from exc
    return count


def _cells(entry: Entry) -> tuple[str, ...]:
    usage = entry.usage
    tokens = "" if usage.input is None and usage.output is None else f"{usage.input or 0:,}+{usage.output or 0:,}"
    return (
        _local(entry.time),
        entry.id[:_SHORT],
        printable(entry.route or NONE, _NAME),
        number(entry.confidence, 2),
        printable(entry.model or NONE, _NAME),
        str(entry.status) if entry.outcome == "completed" else f"{entry.status} {entry.outcome}",
        three_digits(entry.first_byte_ms) if entry.first_byte_ms is not None else "",
        three_digits(entry.total_ms),
        tokens,
        f"{entry.cost:.6f}" if entry.cost is not None else "",
        printable("; ".join(_notes(entry)), 120),
    )


def _notes(entry: Entry) -> Iterator[str]:
    if entry.shadow_of is not None:
        yield f"shadow of {entry.shadow_of[:_SHORT]}"
    if entry.operation not in ("chat", "route"):
        yield entry.operation
    if entry.reason is not None:
        yield entry.reason
    if entry.model_reason not in (None, "listed", "only_target"):
        yield str(entry.model_reason)
    yield from (_try(each) for each in entry.tries if each.error is not None)


def _try(each: Try) -> str:
    said = ", ".join(str(part) for part in (each.error, each.status) if part is not None)
    return f"{printable(each.model, _NAME)}: {said}"


def _print_rows(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    words = (0, 1, 2, 4, 5)
    for row in rows:
        cells = (
            f"{cell:<{width}}" if column in words else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        click.echo("  ".join([*cells, row[-1]]).rstrip())


def _lines(text: str) -> str:
    """A text of many lines, without characters that move a terminal's cursor."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def _local(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
