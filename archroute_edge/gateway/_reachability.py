"""Whether requests can be forwarded by a configuration: every reason why not, without the client that sends them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from archroute_edge.config import Advice, KeyRule, ModelDefinition, RoutingConfig, Upstream, shorten
from archroute_edge.errors import ConfigError
from archroute_edge.gateway._connections import connect
from archroute_edge.gateway._forward_request import AUTO
from archroute_edge.gateway._variables import MissingVariableError, UnsetVariableError, fill_in_key, names_a_variable


def forwarding_problems(config: RoutingConfig, environment: Mapping[str, str] | None = None) -> tuple[ConfigError, ...]:
    """What keeps requests from being forwarded by a configuration, in the order of the file; nothing if they can be.

    Args:
        config: names the models.
        environment: holds their keys; None for the process's own.
    """
    environment = os.environ if environment is None else environment
    return tuple(_problems(config, environment))


def _problems(config: RoutingConfig, environment: Mapping[str, str]) -> Iterator[ConfigError]:
    for each in models_to_reach(config):
        try:
            connect(each, environment, config.source)
        except ConfigError as exc:
            yield exc
    for rule in config.forward.keys:
        try:
            client_key(rule, environment, config.source)
        except ConfigError as exc:
            yield exc


def forwarding_notes(config: RoutingConfig) -> tuple[Advice, ...]:
    """What is otherwise than the author of a configuration may think, though requests can be forwarded by it."""
    return tuple(_notes(config))


def _notes(config: RoutingConfig) -> Iterator[Advice]:
    for model in stand_ins(config)[:1]:
        yield Advice(f"requests that fit no route go to {shorten(model)}, the first model, since there is no default model")
    names = {**other_names(config), **{each.model: each.model for each in models_to_reach(config)}}
    for alias, targets in config.aliases.items():
        hidden = names.get(alias)
        if alias == AUTO:
            yield Advice(f"the alias {AUTO!r} cannot be asked for, since the router decides on requests for that; rename it")
        elif hidden is not None and hidden not in {names.get(target.model, target.model) for target in targets}:
            which = "" if hidden == alias else f", {shorten(hidden)}"
            yield Advice(f"the alias {shorten(alias)} hides the model of the same name{which}; rename it")
    first: dict[str, ModelDefinition] = {}
    for each in config.models:
        if each.internal:
            continue
        earlier = first.setdefault(each.model, each)
        line = each.upstream.lines.get("model")
        if earlier.upstream != each.upstream:
            at = earlier.upstream.lines.get("model")
            where = "" if at is None else f", on line {at}"
            message = f"{shorten(each.model)} has two definitions that reach it in different ways; the first{where}, is used"
            yield Advice(message, line=line)
        key = (each.upstream.access_key or "").strip()
        if key.startswith("$") and not names_a_variable(key):
            message = f"{shorten(each.model)}: its access_key begins with '$' and names no variable, so it is sent as it stands"
            yield Advice(message, line=each.upstream.lines.get("access_key", line))
        if each.upstream.passthrough_auth and each.upstream.access_key is not None:
            message = f"{shorten(each.model)}: passthrough_auth sends the client's credentials; the access_key is not used"
            yield Advice(message, line=each.upstream.lines.get("access_key", line))


def models_to_reach(config: RoutingConfig) -> Iterator[ModelDefinition]:
    """The models that requests may go to: those that are defined, or else those that routes and aliases name."""
    if not config.models:
        yield from _named(config)
        return
    found: set[str] = set()
    for each in config.models:
        if not each.internal and each.model not in found:
            found.add(each.model)
            yield each


def other_names(config: RoutingConfig) -> dict[str, str]:
    """Models by other names: those that their definitions give them, and their ids without a provider if only one has it."""
    single = [each for each in config.models or models_to_reach(config) if not each.is_wildcard and not each.internal]
    models: dict[str, set[str]] = {}
    for each in single:
        models.setdefault(each.model.partition("/")[2], set()).add(each.model)
    found = {short: full.pop() for short, full in models.items() if short and len(full) == 1}
    return {**found, **{each.name: each.model for each in single if each.name is not None}}


def stand_ins(config: RoutingConfig) -> tuple[str, ...]:
    """The models of a configuration without a default model, in the order in which they may stand in for one."""
    if config.default_model is not None:
        return ()
    single = tuple(each.model for each in models_to_reach(config) if not each.is_wildcard)
    return single or tuple(each.model for each in _named(config))


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
        raise UnsetVariableError(f"the key of the client {shorten(rule.name)}", exc.name, path, rule.line) from None
    if not key.strip():
        raise ConfigError(f"the key of the client {shorten(rule.name)} is empty", path=path, line=rule.line)
    return key
