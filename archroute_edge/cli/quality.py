"""``archroute quality``: its commands, each in a file of its own."""

from __future__ import annotations

import click

from archroute_edge.cli.help import CommandPlace, LazyGroup, examples

_COMMANDS = {
    name: CommandPlace(f"archroute_edge.cli.{module}", attribute, short_help)
    for name, module, attribute, short_help in (
        ("add", "quality_add", "add", "Add a model to a predictor from few graded prompts."),
        ("calibrate", "quality_calibrate", "calibrate_quality", "Turn a share or a budget into a rate."),
        ("eval", "quality_eval", "evaluate_quality", "Measure how well a predictor tells models apart."),
        ("score", "quality_score", "score", "Print the expected score of every model for prompts."),
        ("train", "quality_train", "train", "Train a predictor on outcomes or battles."),
    )
}


@click.group(
    cls=LazyGroup,
    places=_COMMANDS,
    epilog=examples(
        "archroute quality train outcomes/ -o my.safetensors", "archroute quality score my.safetensors prompts.jsonl"
    ),
)
def quality() -> None:
    """Train, measure and use predictors of answers' quality."""
