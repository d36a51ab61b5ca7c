"""``archroute report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from archroute_edge.cli.help import examples, option
from archroute_edge.cli.labelled import RecordedCommand, check_can_write, file_option, made
from archroute_edge.cli.options import json_option
from archroute_edge.cli.record_options import record_at, record_file_option, since_option, until_option
from archroute_edge.cli.tables import print_answer, print_tables, require_rich
from archroute_edge.errors import RecordError
from archroute_edge.report import require_matplotlib


@click.command(cls=RecordedCommand, epilog=examples("archroute report --since 7d", "archroute report --html report.html"))
@since_option
@until_option
@option("--route", metavar="NAME", help="Requests of one route.")
@option("--client", metavar="NAME", help="Requests with one client's key.")
@file_option("--html", "Write a page with plots, in one file.")
@record_file_option
@json_option
@click.pass_context
def report(ctx: click.Context, /, html: Path | None, record_file: Path | None, as_json: bool, **options: Any) -> None:
    """Report on the requests that archroute serve --record has kept.

    Traffic by route and model, confidence, latency, failures, what was spent and what the default model alone would have cost;
    models that shared traffic, and shadows, with intervals for their differences. Tables and plots need an extra: pip install
    'archroute-edge[bench]'.
    """
    check_can_write(html)
    if html is not None:
        require_matplotlib()
    elif not as_json:
        require_rich()
    from archroute_edge import record

    file = record_at(record_file)
    with record.open_record(file) as opened:
        found = record.report_on(opened, record.Wanted(**options))
    if found is None:
        raise RecordError(f"{file}: no such requests are in the record")
    if html is not None:
        record.traffic_page(found, made(ctx)).write(html)
        click.echo(f"{html}: written", err=True)
    if as_json:
        click.echo(json.dumps(record.to_json(found)))
    elif html is None:
        print_answer(record.conclusion(found))
        print_tables(record.terminal_tables(found))
