"""From the models of a configuration to targets that requests can be sent to."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from archroute_edge.config import ModelDefinition, RoutingConfig, shorten
from archroute_edge.errors import ConfigError
from archroute_edge.gateway._connections import connect
from archroute_edge.gateway._reachability import (
    client_key,
    forwarding_notes,
    forwarding_problems,
    models_to_reach,
    other_names,
    stand_ins,
)
from archroute_edge.gateway._target import Target
from archroute_edge.http_client import URL, InvalidURL
from archroute_edge.record import Operation
from archroute_edge.targets import model_facts

logger = logging.getLogger(__name__)

_STREAM_S: Final = 60.0


class Reach:
    """The targets of one configuration.

    Args:
        config: names the models. Of one that defines none, those that its routes and aliases name.
        environment: holds their keys; None for the process's own.

    Raises:
        ConfigError: a model cannot be reached as the configuration says.
    """

    def __init__(self, config: RoutingConfig, environment: Mapping[str, str] | None = None) -> None:
        self._config = config
        environment = os.environ if environment is None else environment
        self._targets: dict[str, Target] = {}
        self._wildcards: dict[str, Target] = {}
        self._own_names: dict[str, str] = {}
        problems = forwarding_problems(config, environment)
        if problems:
            raise _all_in_one(problems)
        for note in forwarding_notes(config):
            logger.warning("%s", ConfigError(note.message, path=config.source, line=note.line))
        for each in models_to_reach(config):
            target = self._target(each, environment)
            if each.is_wildcard:
                self._wildcards.setdefault(each.model[:-1], target)
            else:
                self._targets.setdefault(each.model, target)
        self._own_names = other_names(config)
        self._stand_ins = [found for model in stand_ins(config) if (found := self.find(model)) is not None]
        self._client_keys = {rule.name: client_key(rule, environment, config.source) for rule in config.forward.keys}

    def _target(self, definition: ModelDefinition, environment: Mapping[str, str]) -> Target:
        connection = connect(definition, environment, self._config.source)
        try:
            urls = {operation: URL(url) for operation, url in connection.urls.items()}
        except InvalidURL:
            message = f"{shorten(definition.model)} cannot be reached: its base_url is not an address"
            line = definition.upstream.lines.get("base_url")
            raise ConfigError(message, path=self._config.source, line=line) from None
        return Target(
            definition.model,
            connection.provider,
            connection.upstream_model,
            urls,
            connection.headers,
            connection.defaults,
            passthrough_auth=connection.passthrough_auth,
            secrets=connection.secrets,
            label=definition.model,
            first_byte_timeout=self._first_byte_timeout(definition.model),
        )

    def _first_byte_timeout(self, model: str) -> tuple[float, float]:
        forward = self._config.forward
        stated = model_facts(self._config, model).first_byte_timeout or forward.first_byte_timeout
        return stated or _STREAM_S, stated or forward.timeout

    @property
    def models(self) -> tuple[str, ...]:
        """The models by name, wildcards excepted."""
        return tuple(self._targets)

    @property
    def client_keys(self) -> Mapping[str, str]:
        """The keys of clients, by their names."""
        return self._client_keys

    def stand_in(self, operation: Operation) -> str | None:
        """What answers for lack of a default model: the first model that speaks the API, or else the first."""
        first = self._stand_ins[0].model if self._stand_ins else None
        return next((target.model for target in self._stand_ins if operation in target.urls), first)

    def canonical(self, name: str) -> str:
        """A model's own name, for any that the configuration gives it; others unchanged, those of aliases first of all."""
        return name if name in self._config.aliases else self._full_name(name)

    def find(self, model: str) -> Target | None:
        """The target of a model, by any of its names; None for one that the configuration does not have."""
        # Not as for a client: an alias may have a target of its own name.
        model = self._full_name(model)
        found = self._targets.get(model)
        if found is not None:
            return found
        fits = [prefix for prefix in self._wildcards if model.startswith(prefix) and model[len(prefix) :] not in ("", "*")]
        if not fits:
            return None
        prefix = max(fits, key=len)
        timeout = self._first_byte_timeout(model)
        upstream_model = model.partition("/")[2]
        return replace(self._wildcards[prefix], model=model, upstream_model=upstream_model, first_byte_timeout=timeout)

    def _full_name(self, model: str) -> str:
        return model if model in self._targets else self._own_names.get(model, model)


def _all_in_one(problems: Sequence[ConfigError]) -> ConfigError:
    """The first problem, which says how many there are."""
    first, n_more = problems[0], len(problems) - 1
    if not n_more:
        return first
    more = "1 more problem" if n_more == 1 else f"{n_more} more problems"
    return ConfigError(f"{first.message} (and {more}; archroute check names them)", path=first.path, line=first.line)
