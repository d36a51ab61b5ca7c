"""``archroute quality score``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING

import click

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.quality_predictor import predictor_file

if TYPE_CHECKING:
    from archroute_edge.quality import Prompt

# Prompts that share evaluations of the encoder; what comes through a pipe is answered at once.
_OF_A_FILE = 64
_STDIN = "-"

encoder_option = option(
    "--encoder", metavar="NAME|PATH", help="Model that the predictor was trained with.  [default: found by its identity]"
)


@click.command(
    cls=Command,
    epilog=examples(
        "archroute quality score my.safetensors prompts.jsonl",
        "tail -f prompts.jsonl | archroute quality score my.safetensors -",
    ),
)
@click.argument("predictor")
@click.argument("file")
@encoder_option
def score(predictor: str, file: str, encoder: str | None) -> None:
    """Print the expected score of every model for prompts.

    FILE has a prompt a line, {"id", "text"} or {"id", "messages"}; - is stdin. PREDICTOR is a file of archroute quality
    train, or bundled. A line is printed for each prompt: {"id", "scores": {model: expected score from 0 to 1}}.
    """
    from archroute_edge.cli.quality_encoder import encoder_of
    from archroute_edge.quality import load_predictor, open_reader, plain_features, read_prompt, read_prompts

    opened = load_predictor(predictor_file(predictor))
    path = encoder_of(opened, encoder)
    with open_reader(path) if path is not None else nullcontext() as reader:
        for part in _parts(read_prompts(file), 1 if file == _STDIN else _OF_A_FILE):
            conversations = [read_prompt(prompt) for prompt in part]
            scores = opened.expected(plain_features(conversations) if reader is None else reader.features(conversations))
            for prompt, row in zip(part, scores, strict=True):
                click.echo(json.dumps({"id": prompt.id, "scores": dict(zip(opened.models, row.tolist(), strict=True))}))


def _parts(prompts: Iterable[Prompt], n: int) -> Iterator[list[Prompt]]:
    rest = iter(prompts)
    while part := list(islice(rest, n)):
        yield part
