"""``archroute serve``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from archroute_edge.cli.help import Command, examples, option
from archroute_edge.cli.options import (
    calibration_option,
    config_option,
    deadline_option,
    engine_options,
    model_option,
    open_router,
    prompt_format_option,
    switch_over_option,
)
from archroute_edge.config import RoutingConfig
from archroute_edge.errors import RecordError, SettingsError
from archroute_edge.record import DEFAULT_MAX_BYTES, LEAST_MAX_BYTES, EntrySink
from archroute_edge.report import counted
from archroute_edge.routing import LONGEST_DEADLINE_S
from archroute_edge.server import (
    DEFAULT_AFFINITY_TTL_S,
    DEFAULT_FORWARD_QUEUE,
    DEFAULT_HOST,
    DEFAULT_MAX_AFFINITY,
    DEFAULT_MAX_BODY,
    DEFAULT_MAX_FORWARDED_BODY,
    DEFAULT_PORT,
    DEFAULT_QUEUE,
    DEFAULT_TIMEOUT_S,
    ServerSettings,
    StdioSettings,
)

if TYPE_CHECKING:
    from archroute_edge.gateway import PastTry

logger = logging.getLogger(__name__)

KEY_VARIABLE = "ARCHROUTE_API_KEY"
CONTENT = "content"
_HTTP = "HTTP only"
_http = partial(option, heading=_HTTP)
"""An option that a host over stdio has no use for."""


@click.command(
    cls=Command,
    epilog=examples(
        "archroute serve --config routes.yaml",
        "archroute serve --config routes.yaml --host 0.0.0.0 --api-key-file KEY",
        "archroute serve --config routes.yaml --stdio",
    ),
)
@option(
    "--stdio",
    is_flag=True,
    help="Serve the parent process over pipes: JSON-RPC 2.0, one message a line.",
)
@config_option
@model_option
@prompt_format_option
@engine_options
@switch_over_option
@calibration_option
@deadline_option
@option(
    "--queue",
    metavar="N",
    type=click.IntRange(1, 100_000),
    help=f"Requests that may wait; more are refused.  [default: {DEFAULT_QUEUE}; {DEFAULT_FORWARD_QUEUE} with --forward]",
)
@option(
    "--max-body",
    metavar="BYTES",
    type=click.IntRange(min=1),
    help="Largest request body, or line over stdio.  "
    f"[default: {DEFAULT_MAX_BODY}; {DEFAULT_MAX_FORWARDED_BODY} of a forwarded request]",
)
@_http("--host", metavar="ADDRESS", default=DEFAULT_HOST, help="Address to listen on; any but loopback needs a key.")
@_http("--port", metavar="N", type=click.IntRange(0, 65535), default=DEFAULT_PORT, help="TCP port; 0 takes a free one.")
@_http(
    "--api-key", metavar="KEY", envvar=KEY_VARIABLE, help=f"Bearer token that clients must send; {KEY_VARIABLE} sets it too."
)
@_http("--api-key-file", metavar="FILE", help="Read the key from FILE, to keep it out of the process list.")
@_http("--allowed-host", metavar="NAME", multiple=True, help="Another name to accept in the Host header; repeatable.")
@_http(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, LONGEST_DEADLINE_S, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    help="Answer with 503 after SECONDS.",
)
@_http(
    "--max-affinity",
    metavar="N",
    type=click.IntRange(min=0),
    default=DEFAULT_MAX_AFFINITY,
    help="Most sessions (X-Model-Affinity) to remember; the least recently used goes first.",
)
@_http(
    "--affinity-ttl",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=DEFAULT_AFFINITY_TTL_S,
    help="How long a session keeps its first decision.",
)
@_http("--implicit-sessions", is_flag=True, help="Keep conversations on their model even without X-Model-Affinity.")
@_http(
    "--forward",
    is_flag=True,
    help="Send requests on to the models of their routes and pass their answers back; else nothing leaves the machine.",
)
@_http(
    "--proxy",
    metavar="URL",
    help="With --forward: reach models through this proxy, but those on this machine. Proxies of the environment are not used.",
)
@_http(
    "--record",
    type=click.Choice(["requests", CONTENT]),
    is_flag=False,
    flag_value="requests",
    help="Keep a record of every request, for archroute log and report: what was decided and what came of it, but no texts. "
    "--record=content keeps those, too.",
)
@_http(
    "--record-file", metavar="FILE", type=click.Path(path_type=Path), help="The record.  [default: in the user's data folder]"
)
@_http(
    "--record-max",
    metavar="MB",
    type=click.IntRange(min=LEAST_MAX_BYTES // 10**6),
    help=f"Size of the record; then the oldest requests go.  [default: {DEFAULT_MAX_BYTES // 10**6}]",
)
@_http(
    "--otel",
    is_flag=True,
    help="Export a span of each request, and of each try, with OpenTelemetry, as the OTEL_* variables say.",
)
@click.pass_context
def serve(ctx: click.Context, /, stdio: bool, **options: Any) -> None:
    """Serve decisions to other programs, over HTTP or pipes.

    HTTP needs an extra: pip install 'archroute-edge[server]'. The server reads the configuration again when its file changes,
    and on SIGHUP. Its address, opened in a browser, shows decisions as they come. With --stdio it ends with its stdin, or with
    the program that started it.
    """
    if not stdio:
        _serve_http(options)
        return
    for each in ctx.command.params:
        given = each.name and ctx.get_parameter_source(each.name) is ParameterSource.COMMANDLINE
        if given and getattr(each, "heading", None) == _HTTP:
            raise SettingsError(f"{each.opts[0]} is for HTTP; with --stdio there is only the program that started this")
    ctx.exit(_serve_stdio(options))


def _serve_stdio(options: Mapping[str, Any]) -> int:
    from archroute_edge.routing import RoutingService
    from archroute_edge.server.stdio import Host, serve_stdio

    host = Host.take()
    service = RoutingService(open_router(options), queue_limit=options["queue"] or DEFAULT_QUEUE)
    return serve_stdio(service, host, StdioSettings(options["max_body"] or DEFAULT_MAX_BODY, options["deadline"]))


def _serve_http(options: Mapping[str, Any]) -> None:
    try:
        from archroute_edge.server.http import bind, run_server
    except ImportError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing.startswith("archroute"):
            raise
        extra = "gateway" if options["forward"] else "server"
        message = f"archroute serve needs {missing}, which is not installed: pip install 'archroute-edge[{extra}]'"
        raise SettingsError(message) from exc
    if options["forward"]:
        if options["config"] is None:
            raise SettingsError("--forward needs --config: the example routes do not say how their models are reached")
        _check_gateway()
    elif options["proxy"] is not None:
        raise SettingsError("--proxy is for requests that are forwarded; add --forward")
    settings = _settings(options)
    # A server logs what it does while it runs, unlike a command that ends.
    for room in ("server", "gateway"):
        logging.getLogger(f"archroute_edge.{room}").setLevel(logging.INFO)
    with closing(bind(settings)) as bound, _sinks(options) as (sinks, file):
        router = open_router(options)
        config = router.config
        name = "+".join(file.name for file in router.model_files)
        source = f"of {config.source}" if options["config"] is not None else "of the example"

        def announce(address: str) -> None:
            many = counted(len(config.table), "route")
            forwards = ", forwarding" if settings.forward else ""
            click.echo(f"listening on {address}, model {name}, {many} {source}{forwards}", err=True)

        config_path = Path(options["config"]) if options["config"] is not None else None
        past = _past_tries(file, config) if settings.forward and file is not None else ()
        run_server(router, settings, bound, config_path=config_path, announce=announce, sinks=sinks, past_tries=past)


def _check_gateway() -> None:
    needed = "httpx2" if sys.version_info >= (3, 11) else "httpx"
    if find_spec(needed) is None:
        raise SettingsError(f"--forward needs {needed}, which is not installed: pip install 'archroute-edge[gateway]'")


@contextmanager
def _sinks(options: Mapping[str, Any]) -> Iterator[tuple[list[EntrySink], Path | None]]:
    """Where entries go, the record and the exporter of spans, if they are asked for; and the record's file."""
    if options["record"] is None and options["record_file"] is not None:
        raise SettingsError("--record-file says where to record; add --record or --record=content")
    if options["record"] is None and options["record_max"] is not None:
        raise SettingsError("--record-max bounds the record; add --record or --record=content")
    with ExitStack() as stack:
        sinks: list[EntrySink] = []
        file: Path | None = None
        keeps_content = options["record"] == CONTENT
        if options["record"] is not None:
            from archroute_edge.record import Recorder, record_file

            file = options["record_file"] or record_file()
            most = DEFAULT_MAX_BYTES if options["record_max"] is None else options["record_max"] * 10**6
            recorder = Recorder(file, max_bytes=most, keep_content=keeps_content)
            sinks.append(stack.enter_context(closing(recorder)))
            what = "requests, with their texts, are" if keeps_content else "requests are"
            click.echo(f"{what} recorded in {file}", err=True)
        if options["otel"]:
            from archroute_edge.record import open_spans

            sinks.append(stack.enter_context(closing(open_spans())))
            if keeps_content:
                click.echo("spans with the texts of requests are exported, too", err=True)
        yield sinks, file


def _past_tries(file: Path, config: RoutingConfig) -> Sequence[PastTry]:
    """What earlier runs have found out about targets."""
    from archroute_edge.gateway import past_tries
    from archroute_edge.record import open_record

    try:
        with open_record(file) as record:
            return past_tries(record, config)
    except RecordError as exc:
        logger.warning("nothing is known of earlier requests: %s", exc)
        return ()


def _settings(options: Mapping[str, Any]) -> ServerSettings:
    same = (
        "host",
        "port",
        "deadline",
        "timeout",
        "max_affinity",
        "affinity_ttl",
        "implicit_sessions",
        "forward",
        "proxy",
    )
    most = options["max_body"]
    return ServerSettings(
        **{name: options[name] for name in same},
        max_body=most or DEFAULT_MAX_BODY,
        max_forwarded_body=most or DEFAULT_MAX_FORWARDED_BODY,
        keep_content=options["record"] == CONTENT,
        api_key=_api_key(options),
        allowed_hosts=tuple(options["allowed_host"]),
        queue_limit=options["queue"] or (DEFAULT_FORWARD_QUEUE if options["forward"] else DEFAULT_QUEUE),
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
