"""``archroute demo``."""

from __future__ import annotations

import json
from importlib import resources

import click

from archroute_edge.cli.options import json_option, read_config
from archroute_edge.router import Router


@click.command()
@json_option
def demo(as_json: bool) -> None:
    """Route a few messages with the bundled language model.

    The routes are the five of Arch-Router's model card, its example message among the messages.
    """
    messages = json.loads((resources.files("archroute_edge") / "data" / "demo_messages.json").read_text("utf-8"))
    config = read_config(None).config
    with Router(config=config, model="tiny") as router:
        if not as_json:
            click.echo(f"{len(config.table)} routes: {', '.join(config.table.names)}", err=True)
            click.echo(f"{'route':<25}{'confidence':>10}{'reused':>8}{'evaluated':>11}{'time':>9}  message")
        for message in messages:
            decision = router.route(message)
            if as_json:
                click.echo(json.dumps({"messages": message, **decision.to_dict()}))
                continue
            shown = message if isinstance(message, str) else " / ".join(turn["content"] for turn in message)
            tokens = decision.tokens
            click.echo(
                f"{decision.route:<25}{decision.confidence:>10.2f}{tokens.reused:>8}{tokens.evaluated:>11}"
                f"{decision.timings.total_ms:>6.0f} ms  {shown if len(shown) <= 70 else shown[:69] + '…'}"
            )
