"""``archroute prompt`` and ``archroute grammar``: a language model's prompt, and the grammar of its answer."""

from __future__ import annotations

import json

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.options import (
    budget_option,
    config_option,
    json_option,
    language_model_option,
    message_options,
    prompt_format_option,
    read_config,
    read_message_options,
)
from archroute_edge.conversation import read_user_text, trim
from archroute_edge.deciders import choose_prompt_format
from archroute_edge.engine import check_model_file
from archroute_edge.models import find_language_model
from archroute_edge.prompts import PromptBuilder, normalises_to_nfc, to_gbnf


@click.command(
    cls=Command,
    epilog=examples(
        'archroute prompt "my test fails with an IndexError" --config routes.yaml',
        'archroute prompt "my test fails with an IndexError" --tokens',
    ),
)
@message_options
@config_option
@language_model_option
@prompt_format_option
@budget_option
@option("--tokens", is_flag=True, help="Print the token ids instead of the text.")
@json_option
def prompt(
    text: str | None,
    messages: str | None,
    config: str | None,
    model: str,
    prompt_format: str,
    budget: int,
    tokens: bool,
    as_json: bool,
) -> None:
    """Print the exact prompt for the model.

    TEXT is a user message.
    """
    from archroute_edge.engine import LoadedModel

    given = read_message_options(text, messages)
    turns = read_user_text(given.messages)
    table = given.table or read_config(config).config.table
    model_file = find_language_model(model)
    with LoadedModel(model_file.path, vocabulary_only=True, needs_weights=model_file.remote is None) as loaded:
        builder = PromptBuilder(loaded, choose_prompt_format(prompt_format, model_file, loaded.header))
        kept = trim(turns, budget, builder.count_tokens).turns
        rendered, ids = builder.text(table, kept), builder.tokens(table, kept)
    if as_json:
        click.echo(json.dumps({"prompt": rendered, "tokens": ids, "prompt_format": builder.format.name}))
    elif tokens:
        click.echo(" ".join(map(str, ids)))
    else:
        # No line break of our own: the output is the prompt to the byte.
        click.echo(rendered.encode("utf-8"), nl=False)


@click.command(cls=Command, epilog=examples("archroute grammar --config routes.yaml"))
@config_option
@language_model_option
@prompt_format_option
def grammar(config: str | None, model: str, prompt_format: str) -> None:
    """Print the GBNF grammar of the model's answer."""
    table = read_config(config).config.table
    model_file = find_language_model(model)
    header = check_model_file(model_file.path, "generative", needs_weights=model_file.remote is None)
    chosen = choose_prompt_format(prompt_format, model_file, header)
    click.echo(to_gbnf(chosen.answers(table, nfc=normalises_to_nfc(header))).encode("utf-8"), nl=False)
