"""Whether requests can be forwarded by a configuration: every reason why not, without the client that sends them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from archroute_edge.config import KeyRule, ModelDefinition, RoutingConfig, Upstream, shorten
from archroute_edge.errors import ConfigError
from archroute_edge.gateway._connections import connect
from archroute_edge.gateway._variables import MissingVariableError, fill_in_key


def forwarding_problems(config: RoutingConfig, environment: Mapping[str, str] | None = None) -> tuple[ConfigError, ...]:
    """What keeps requests from being forwarded by a configuration, in the order of the file; nothing if they can be.

    Args:
        config: names the models.
        environment: holds their keys; None for the process's own.
    """
    environment = os.environ if environment is None else environment
    return tuple(_problems(config, environment))


def _problems(config: RoutingConfig, environment: Mapping[str, str]) -> Iterator[ConfigError]:
    try:
        definitions = list(models_to_reach(config))
    except ConfigError as exc:
        yield exc
        definitions = [each for each in config.models if not each.internal]
    for each in definitions:
        try:
            connect(each, environment, config.source)
        except ConfigError as exc:
            yield exc
    for rule in config.forward.keys:
        try:
            client_key(rule, environment, config.source)
        except ConfigError as exc:
            yield exc


def models_to_reach(config: RoutingConfig) -> Iterator[ModelDefinition]:
    """The models that requests may go to: those that are defined, or else those that routes and aliases name.

    Raises:
        ConfigError: two definitions of one model reach it in different ways.
    """
    first: dict[str, ModelDefinition] = {}
    for each in config.models:
        if each.internal:
            continue
        earlier = first.setdefault(each.model, each)
        if earlier.upstream != each.upstream:
            line = earlier.upstream.lines.get("model")
            where = f" (first on line {line})" if line is not None else ""
            message = f"{shorten(each.model)} is defined twice, with different addresses or keys{where}; keep one"
            raise ConfigError(message, path=config.source, line=each.upstream.lines.get("model"))
        yield each
    if not config.models:
        yield from _named(config)


def _named(config: RoutingConfig) -> Iterator[ModelDefinition]:
    """Definitions for the models that a configuration names without defining any."""
    named: dict[str, int | None] = {}
    for route in config.table:
        for model in route.models:
            named.setdefault(model, config.route_lines.get(route.name))
    if config.default_model is not None:
        named.setdefault(config.default_model, None)
    for targets in config.aliases.values():
        for target in targets:
            named.setdefault(target.model, None)
    for model, line in named.items():
        if model not in config.aliases:
            lines = {} if line is None else {"model": line}
            yield ModelDefinition(model, upstream=replace(Upstream(), lines=lines))


def client_key(rule: KeyRule, environment: Mapping[str, str], path: Path | None) -> str:
    """A client's key.

    Raises:
        ConfigError: its variable is not set, or it is empty.
    """
    try:
        key = fill_in_key(rule.key, environment)
    except MissingVariableError as exc:
        message = f"the key of {shorten(rule.name)}: the environment variable {exc.name} is not set; set it, or remove the key"
        raise ConfigError(message, path=path, line=rule.line) from None
    if not key.strip():
        raise ConfigError(f"the key of {shorten(rule.name)} is empty", path=path, line=rule.line)
    return key
