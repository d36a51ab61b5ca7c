"""``archroute serve``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from archroute_edge.cli.options import (
    calibration_option,
    config_option,
    engine_options,
    model_option,
    open_router,
    prompt_format_option,
)
from archroute_edge.errors import SettingsError
from archroute_edge.server.settings import (
    DEFAULT_AFFINITY_TTL_S,
    DEFAULT_HOST,
    DEFAULT_MAX_AFFINITY,
    DEFAULT_MAX_BODY,
    DEFAULT_PORT,
    DEFAULT_QUEUE,
    DEFAULT_TIMEOUT_S,
    ServerSettings,
    StdioSettings,
)
from archroute_edge.setting_limits import LONGEST_DEADLINE_S

KEY_VARIABLE = "ARCHROUTE_API_KEY"


# What they set, a host over stdio has no use for.
_HTTP_ONLY = ("host", "port", "api_key", "api_key_file", "allowed_host", "timeout", "max_affinity", "affinity_ttl")


@click.command()
@click.option(
    "--stdio",
    is_flag=True,
    help="Answer the program that started this, over its pipes: JSON-RPC 2.0, a message a line.",
)
@config_option
@model_option
@prompt_format_option
@engine_options
@calibration_option
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on; off loopback a key is needed.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="TCP port; 0 takes a free one."
)
@click.option(
    "--api-key", metavar="KEY", envvar=KEY_VARIABLE, help=f"What clients must send as bearer token; or set {KEY_VARIABLE}."
)
@click.option("--api-key-file", metavar="FILE", help="The key in a file, which other users of the machine do not see in ps.")
@click.option(
    "--allowed-host", metavar="NAME", multiple=True, help="A further name for the Host header; may be given several times."
)
@click.option(
    "--queue",
    type=click.IntRange(1, 100_000),
    default=DEFAULT_QUEUE,
    show_default=True,
    help="Requests that may wait; more are refused.",
)
@click.option(
    "--deadline",
    metavar="SECONDS",
    type=click.FloatRange(0, LONGEST_DEADLINE_S, min_open=True),
    help="Answer with the fallback (other, the default model) where deciding takes longer.  [default: wait]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, LONGEST_DEADLINE_S, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Give up a request after so long, with 503.",
)
@click.option(
    "--max-body",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_BODY,
    show_default=True,
    help="Largest body of a request, or line over stdio; a larger one is refused.",
)
@click.option(
    "--max-affinity",
    type=click.IntRange(min=0),
    default=DEFAULT_MAX_AFFINITY,
    show_default=True,
    help="Sessions (X-Model-Affinity) that are remembered; the least recently used gives way.",
)
@click.option(
    "--affinity-ttl",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=DEFAULT_AFFINITY_TTL_S,
    show_default=True,
    help="How long a session keeps its first decision.",
)
@click.pass_context
def serve(ctx: click.Context, /, stdio: bool, **options: Any) -> None:
    """Answer other programs, over HTTP or over pipes.

    HTTP needs the extra server (pip install 'archroute-edge[server]'); the configuration is read again when its file changes,
    and on SIGHUP. With --stdio it ends when standard input does, or the program that started it.
    """
    if not stdio:
        _serve_http(options)
        return
    for name in _HTTP_ONLY:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise SettingsError(
                f"--{name.replace('_', '-')} is for HTTP; with --stdio there is only the program that started this"
            )
    ctx.exit(_serve_stdio(options))


def _serve_stdio(options: Mapping[str, Any]) -> int:
    from archroute_edge.server.stdio import Host, serve_stdio
    from archroute_edge.service import RoutingService

    host = Host.take()
    service = RoutingService(open_router(options), queue_limit=options["queue"])
    return serve_stdio(service, host, StdioSettings(options["max_body"], options["deadline"]))


def _serve_http(options: Mapping[str, Any]) -> None:
    try:
        from archroute_edge.server.run import bind, run_server
    except ImportError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing.startswith("archroute"):
            raise
        message = f"archroute serve needs {missing}, which is not installed: pip install 'archroute-edge[server]'"
        raise SettingsError(message) from exc
    settings = _settings(options)
    # What a server does while it runs is said, unlike what a command that ends does.
    logging.getLogger("archroute_edge.server").setLevel(logging.INFO)
    with closing(bind(settings)) as bound:
        router = open_router(options)
        config = router.config
        name = "+".join(file.name for file in router.model_files)
        source = f"of {config.source}" if options["config"] is not None else "of the example"

        def announce(address: str) -> None:
            many = "1 route" if len(config.table) == 1 else f"{len(config.table)} routes"
            click.echo(f"listening on {address}, model {name}, {many} {source}", err=True)

        config_path = Path(options["config"]) if options["config"] is not None else None
        run_server(router, settings, bound, config_path=config_path, announce=announce)


def _settings(options: Mapping[str, Any]) -> ServerSettings:
    return ServerSettings(
        host=options["host"],
        port=options["port"],
        api_key=_api_key(options),
        allowed_hosts=tuple(options["allowed_host"]),
        queue_limit=options["queue"],
        deadline=options["deadline"],
        timeout=options["timeout"],
        max_body=options["max_body"],
        max_affinity=options["max_affinity"],
        affinity_ttl=options["affinity_ttl"],
    )


def _api_key(options: Mapping[str, Any]) -> str | None:
    key: str | None = options["api_key"]
    name: str | None = options["api_key_file"]
    if name is None:
        return key
    if key is not None:
        raise SettingsError("two API keys: give either --api-key-file or --api-key (or its variable)")
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "not UTF-8"
        raise SettingsError(f"{name}: the API key cannot be read: {reason}") from exc
