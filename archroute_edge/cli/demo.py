"""``archroute demo``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final

import click

from archroute_edge.cli.help import examples, option
from archroute_edge.cli.options import json_option, read_config
from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.conversation import Messages, read_messages
from archroute_edge.decision import Decision
from archroute_edge.engine import ENGINES, WantedEngine
from archroute_edge.models import BUNDLED_ENCODER, BUNDLED_LANGUAGE_MODEL, find_bundled
from archroute_edge.routing import Router

Decisions = Sequence[tuple[Messages, Decision]]

_DATA: Final = resources.files("archroute_edge") / "data"
# Narrow enough that the table fits 80 columns.
_MESSAGE: Final = 31


@click.command(epilog=examples("archroute demo", "archroute demo --json"))
@option("--engine", type=click.Choice(ENGINES), default="auto", help="What evaluates the language model; ik is ik_llama.cpp.")
@json_option
def demo(engine: WantedEngine, as_json: bool) -> None:
    """Route example messages with the bundled models.

    The default model routes a few messages over two sets of routes, then a small language model over a third.
    """
    messages = json.loads((_DATA / "demo_messages.json").read_text("utf-8"))
    tasks, departments, card = _routes("demo_tasks.yaml"), _routes("demo_departments.yaml"), read_config(None).config
    shown: Callable[[str, Decisions], None] = _as_json if as_json else _as_table
    with Router(config=tasks, model=find_bundled(BUNDLED_ENCODER)) as router:
        shown("mini, the default model, compares messages with routes in your own words:", _decide(router, messages["mini"]))
        decisions = _decide(router.with_config(departments), messages["mini"])
        shown("\nThe same messages over other routes, which needs no training:", decisions)
    with Router(config=card, model=find_bundled(BUNDLED_LANGUAGE_MODEL), engine=engine) as router:
        decisions = _decide(router, messages["tiny"])
        shown("\ntiny, a demonstration of the language-model path and its KV cache:", decisions)


def _routes(name: str) -> RoutingConfig:
    with resources.as_file(_DATA / name) as path:
        return load_config(path)


def _decide(router: Router, conversations: Sequence[Messages]) -> Decisions:
    return [(messages, router.route(messages)) for messages in conversations]


def _as_json(_title: str, decisions: Decisions) -> None:
    for messages, decision in decisions:
        click.echo(json.dumps({"messages": messages, **decision.to_dict()}))


def _as_table(title: str, decisions: Decisions) -> None:
    """Each message's route and confidence; for a language model also its reused and evaluated tokens."""
    click.secho(title, bold=True)
    reads_prompts = decisions[0][1].prompt_format is not None
    width = max(len(decision.route) for _, decision in decisions) + 2
    heading = f"{'message':<{_MESSAGE}}{'route':<{width}}{'conf.':>5}"
    click.secho(f"{heading}  {'reused':>6}{'evaluated':>10}" if reads_prompts else f"{heading}  model", dim=True)
    for messages, decision in decisions:
        counts = f"{decision.tokens.reused:>6}{decision.tokens.evaluated:>10}"
        how = counts if reads_prompts else decision.model or ""
        route = click.style(f"{decision.route:<{width}}", fg="green" if decision.matched else "yellow")
        click.echo(f"{_shortened(messages):<{_MESSAGE}}{route}{decision.confidence:>5.2f}  {how}")
    median = statistics.median(decision.timings.total_ms for _, decision in decisions)
    by = " with ik_llama.cpp" if decisions[0][1].engine == "ik" else ""
    click.secho(f"{median:.0f} ms a decision{by}", dim=True)


def _shortened(messages: Messages) -> str:
    """The last message of a conversation, behind an ellipsis if others came before it."""
    text = messages if isinstance(messages, str) else f"… {read_messages(messages)[-1].content}"
    return text if len(text) < _MESSAGE else f"{text[: _MESSAGE - 2]}…"
