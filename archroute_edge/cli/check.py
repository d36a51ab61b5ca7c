"""``archroute check``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from archroute_edge.cli.help import examples
from archroute_edge.cli.options import json_option
from archroute_edge.config import advice, load_config
from archroute_edge.config.yaml_tree import shorten


@click.command(epilog=examples("archroute check routes.yaml", "archroute check plano_config.yaml --json"))
@click.argument("file")
@json_option
def check(file: str, as_json: bool) -> None:
    """Validate a configuration, and warn where it is unwise.

    FILE is a YAML or JSON configuration of this project, archgw or Plano. An error names its line and exits with status 2.
    Warnings follow the advice of Arch-Router's authors on routes; they do not change the exit status.
    """
    config = load_config(file)
    warnings = advice(config)
    if as_json:
        found = {
            "file": file,
            "routes": list(config.table.names),
            "default_model": config.default_model,
            "warnings": [asdict(each) for each in warnings],
        }
        click.echo(json.dumps(found))
        return
    for each in warnings:
        line = f"{each.line}:" if each.line else ""
        about = f"route {shorten(each.route)} " if each.route is not None else ""
        click.echo(f"{file}:{line} warning: {about}{each.message}", err=True)
    many = "route" if len(config.table) == 1 else "routes"
    noted = "warning" if len(warnings) == 1 else "warnings"
    click.echo(f"{file}: {len(config.table)} {many}, default model {config.default_model or 'none'}, {len(warnings)} {noted}")
