"""``archroute serve``."""

from __future__ import annotations

from typing import Any

import click

from archroute_edge.cli.options import (
    calibration_option,
    config_option,
    engine_options,
    model_option,
    open_router,
    prompt_format_option,
)
from archroute_edge.errors import SettingsError


@click.command()
@click.option("--stdio", is_flag=True, help="Answer the program that started this: JSON-RPC 2.0, a line a message.")
@config_option
@model_option
@prompt_format_option
@engine_options
@calibration_option
@click.option("--queue", type=click.IntRange(min=1), default=64, show_default=True, help="Requests that may wait.")
@click.pass_context
def serve(ctx: click.Context, /, stdio: bool, queue: int, **options: Any) -> None:
    """Answer other programs."""
    if not stdio:
        raise SettingsError("say --stdio")
    # The host's pipes are taken before anything else can read or print.
    from archroute_edge.server.stdio import Host, serve_stdio
    from archroute_edge.service import RoutingService

    host = Host.take()
    ctx.exit(serve_stdio(RoutingService(open_router(options), queue_limit=queue), host))
