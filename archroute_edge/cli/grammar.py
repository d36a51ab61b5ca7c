"""``archroute grammar``."""

from __future__ import annotations

import click

from archroute_edge.cli.help import Command, examples
from archroute_edge.cli.options import config_option, model_option, prompt_format_option, read_config
from archroute_edge.deciders import choose_prompt_format
from archroute_edge.engine import check_model_file
from archroute_edge.models import find_language_model
from archroute_edge.prompts import normalises_to_nfc, to_gbnf


@click.command(cls=Command, epilog=examples("archroute grammar --config routes.yaml"))
@config_option
@model_option
@prompt_format_option
def grammar(config: str | None, model: str, prompt_format: str) -> None:
    """Print the GBNF grammar that the model's answer is held to.

    auto is Arch-Router if it is on this machine, else tiny: an encoder has no grammar.
    """
    table = read_config(config).config.table
    model_file = find_language_model(model)
    header = check_model_file(model_file.path, "generative")
    chosen = choose_prompt_format(prompt_format, model_file, header)
    click.echo(to_gbnf(chosen.answers(table, nfc=normalises_to_nfc(header))).encode("utf-8"), nl=False)
