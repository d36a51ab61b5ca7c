"""From the models of a configuration to targets that requests can be sent to."""

from __future__ import annotations

import os
from collections.abc import Mapping

from archroute_edge.config import ModelDefinition, RoutingConfig
from archroute_edge.gateway._headers import Headers
from archroute_edge.gateway._target import Target
from archroute_edge.gateway._upstream_client import URL
from archroute_edge.record import Operation
from archroute_edge.targets import model_facts

_STREAM_S = 60.0


class Reach:
    """The targets of one configuration.

    Args:
        config: names the models.
        environment: holds their keys; None for the process's own.

    Raises:
        ConfigError: a model cannot be reached as the configuration says.
    """

    def __init__(self, config: RoutingConfig, environment: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._environment = os.environ if environment is None else environment
        self._targets = {}
        for each in config.models:
            if not each.internal:
                self._targets[each.model] = self._target(each, each.model)

    def _target(self, each: ModelDefinition, model: str) -> Target:
        key = (each.upstream.access_key or "").removeprefix("$")
        key = self._environment.get(key, key)
        base = each.upstream.base_url or "http://localhost"
        headers: Headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        operations: tuple[Operation, ...] = ("chat", "responses", "messages")
        paths = {"chat": "chat/completions", "responses": "responses", "messages": "messages"}
        first = model_facts(self._config, model).first_byte_timeout or self._config.forward.first_byte_timeout
        return Target(
            model,
            model.partition("/")[0],
            model.partition("/")[2],
            {each: URL(f"{base}/{paths[each]}") for each in operations},
            dict.fromkeys(operations, headers),
            passthrough_auth=each.upstream.passthrough_auth,
            secrets=(key.encode(),) if len(key) >= 8 else (),
            label=each.model,
            first_byte_timeout=(first or _STREAM_S, first or self._config.forward.timeout),
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The models by name, wildcards excepted."""
        return tuple(self._targets)

    @property
    def client_keys(self) -> Mapping[str, str]:
        """The keys of clients, by their names."""
        return {rule.name: self._environment.get(rule.key.removeprefix("$"), rule.key) for rule in self._config.forward.keys}

    def canonical(self, name: str) -> str:
        """A model's own name, for any that the configuration gives it; others unchanged."""
        return name

    def find(self, model: str) -> Target | None:
        return self._targets.get(model)
