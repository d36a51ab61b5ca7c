"""Options that several commands share, and the objects that they make."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from archroute_edge.cli.help import LANGUAGE_MODELS, option
from archroute_edge.cli.process import as_typed
from archroute_edge.config import RoutingConfig, load_config, parse_json, read_routes
from archroute_edge.conversation import DEFAULT_BUDGET, Messages, read_messages
from archroute_edge.deciders import DecoderName
from archroute_edge.engine import DEFAULT_KV_TYPE, ENGINES, KV_TYPES
from archroute_edge.errors import ConversationError, RouteTableError, SettingsError
from archroute_edge.models import AUTO, BUNDLED_ENCODER, BUNDLED_LANGUAGE_MODEL, PREFERRED, ModelFile
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.routes import RouteTable
from archroute_edge.routing import BUDGET_LIMITS, GPU_LAYERS_LIMITS, LONGEST_DEADLINE_S, N_CTX_LIMITS, THREADS_LIMITS

if TYPE_CHECKING:
    from archroute_edge.routing import Router

Command = TypeVar("Command", bound=Callable[..., Any])


def _stack(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


language_models = partial(option, heading=LANGUAGE_MODELS)
_ROUTER_SETTINGS = (
    *("model", "prompt_format", "decoder", "n_ctx", "threads", "gpu_layers", "budget", "flash_attention", "kv_type"),
    "engine",
)
_MODEL = "Name in the catalogue, or GGUF file; auto is Arch-Router if it is on this machine, else "

config_option = option("--config", metavar="FILE", help="Routes and models.  [default: five example routes]")
model_option = option(
    "--model",
    metavar="NAME|PATH",
    default=AUTO,
    help=f"{_MODEL}{BUNDLED_ENCODER}. ENCODER+MODEL is a cascade, http://HOST#MODEL a server with a model.",
)
language_model_option = option(
    "--model", metavar="NAME|PATH", default=AUTO, help=f"{_MODEL}{BUNDLED_LANGUAGE_MODEL}. It has to be a language model."
)
prompt_format_option = language_models(
    "--prompt-format",
    type=click.Choice([AUTO, *PROMPT_FORMATS]),
    default=AUTO,
    help="Prompt format; auto is the one that the model was trained on.",
)
json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")
calibration_option = option("--calibration", metavar="FILE", help="Calibration of this model, written by archroute calibrate.")
deadline_option = option(
    "--deadline",
    type=click.FloatRange(0, LONGEST_DEADLINE_S, min_open=True),
    metavar="SECONDS",
    help="Answer within SECONDS, with the fallback (other, the default model) if time runs out.  [default: wait]",
)
_BUDGET = "Token budget of the conversation; beyond it, the earliest turns are dropped."
budget_option = language_models(
    "--budget", metavar="N", type=click.IntRange(*BUDGET_LIMITS), default=DEFAULT_BUDGET, help=_BUDGET
)
model_budget_option = language_models(
    "--budget", metavar="N", type=click.IntRange(*BUDGET_LIMITS), help=f"{_BUDGET}  [default: {DEFAULT_BUDGET}]"
)
"""For commands that take encoders, too, which have none."""
message_options = _stack(
    click.argument("text", required=False),
    option("--messages", metavar="FILE", help="JSON file of OpenAI-style messages, instead of TEXT; - is stdin."),
)
engine_options = _stack(
    option("--threads", metavar="N", type=click.IntRange(*THREADS_LIMITS), help="CPU threads.  [default: physical cores]"),
    option(
        "--gpu-layers",
        metavar="N",
        type=click.IntRange(*GPU_LAYERS_LIMITS),
        help="Layers on the GPU; -1 is all, 0 is none.  [default: all, if there is a GPU]",
    ),
    option(
        "--engine",
        type=click.Choice(ENGINES),
        default="auto",
        help="What evaluates the model; ik is ik_llama.cpp, which auto takes if it is installed and faster here.",
    ),
    option("--no-prefix-cache", is_flag=True, help="Do not save or load evaluated prefixes and route vectors."),
    language_models(
        "--decoder",
        type=click.Choice(get_args(DecoderName)),
        help="Decoder of the answer; grammar is llama.cpp's own sampler: slower, same result.  [default: fast]",
    ),
    language_models(
        "--n-ctx",
        metavar="N",
        type=click.IntRange(*N_CTX_LIMITS),
        help="Size of the KV cache in tokens.  [default: fitted to the routes]",
    ),
    model_budget_option,
    language_models(
        "--flash-attention/--no-flash-attention",
        default=None,
        help="Turn llama.cpp's flash attention on or off.  [default: as measured for the prompt's length]",
    ),
    language_models(
        "--kv-type",
        type=click.Choice([*KV_TYPES]),
        help=f"Data type of the KV cache; q8_0 halves its memory and needs flash attention.  [default: {DEFAULT_KV_TYPE}]",
    ),
)
switch_over_option = option(
    "--switch-over",
    metavar="X",
    type=click.FloatRange(0, 1),
    help="In a cascade, the confidence (0 to 1) from which the encoder decides alone.  [default: the encoder's own]",
)
"""Not for commands that take one model only."""


@dataclass(frozen=True)
class ChosenConfig:
    """The configuration to use, and whether it is the built-in example."""

    config: RoutingConfig
    is_example: bool


def read_config(path: str | None) -> ChosenConfig:
    """The configuration at ``path``, or the example routes that come with the package."""
    if path is not None:
        return ChosenConfig(load_config(path), False)
    with resources.as_file(resources.files("archroute_edge") / "data" / "example_routes.yaml") as example:
        return ChosenConfig(load_config(example), True)


def open_router(
    options: Mapping[str, Any], chosen: ChosenConfig | None = None, settings: Mapping[str, Any] | None = None
) -> Router:
    """The router for the shared options; names the defaults on stderr.

    Args:
        chosen: the configuration, if it has been read: a pipe is read once.
        settings: what :func:`router_settings` gave, if files that it names have been read.
    """
    from archroute_edge.routing import Router

    chosen = chosen or read_config(options["config"])
    router = Router(config=chosen.config, **(settings or router_settings(options)))
    # Said once it is open, so that a failure is one line.
    if chosen.is_example:
        click.echo("no --config given: using the five example routes of the Arch-Router model card", err=True)
    elif ignored := {(each.where, each.key) for each in chosen.config.ignored_keys}:
        what = "1 key has" if len(ignored) == 1 else f"{len(ignored)} keys have"
        click.echo(f"{options['config']}: {what} no effect here; archroute check says which", err=True)
    note_bundled_model(options["model"], router.model_file)
    return router


def note_bundled_model(model: str, found: ModelFile) -> None:
    """Say on stderr that ``auto`` is the bundled encoder."""
    if model == AUTO and found.name == BUNDLED_ENCODER:
        how = f"archroute models pull {PREFERRED}"
        click.echo(f"using {BUNDLED_ENCODER}, the bundled encoder; to get Arch-Router: {how}", err=True)


def router_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The router's settings in the shared options, except its routes."""
    settings = {name: options[name] for name in _ROUTER_SETTINGS}
    settings["prefix_cache"] = not options["no_prefix_cache"]
    # Not every command has these.
    return {**settings, **{name: options.get(name) for name in ("calibration", "switch_over")}}


def shown_size(n_bytes: float) -> str:
    """A size in the decimal units that the hub and disks have."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


@dataclass(frozen=True)
class Given:
    """The messages that were given, and the routes that came with them, if any."""

    messages: Messages
    table: RouteTable | None = None


def read_message_options(text: str | None, messages: str | None) -> Given:
    """The messages in TEXT or ``--messages``.

    Raises:
        SettingsError: neither or both are given.
        ConversationError: they are malformed, or the file cannot be read; the message names it.
        RouteTableError: the routes in the file cannot be used together; the message names it.
    """
    if (text is None) == (messages is None):
        raise SettingsError("give either a message or --messages FILE")
    if text is None:
        assert messages is not None
        return _read_messages_file(messages)
    return Given(as_typed(text))


def _read_messages_file(name: str) -> Given:
    place = "standard input" if name == "-" else name
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise ConversationError(f"{place}: cannot be read ({exc.strerror or exc})") from exc
    document = parse_json(raw, place)
    # An object is what a line of --batch is, and a request's body, where a text stands for a user message.
    found, kinds = (document.get("messages"), (list, str)) if isinstance(document, dict) else (document, (list,))
    if not isinstance(found, kinds):
        raise ConversationError(f"{place}: expected a list of messages, or an object with messages")
    routes = document.get("routes") if isinstance(document, dict) else None
    try:
        return Given(read_messages(found), None if routes is None else read_routes(routes))
    except ConversationError as exc:
        raise ConversationError(f"{place}: {exc}") from exc
    except RouteTableError as exc:
        raise RouteTableError(f"{place}: {exc}", place=exc.place) from exc
