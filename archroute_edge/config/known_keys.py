"""Which keys a configuration may hold, level by level.

Taken from the JSON schemas of archgw (``arch/arch_config_schema.yaml``, 0.1-beta to v0.3.0) and Plano
(``config/plano_config_schema.yaml``, v0.3.0 and v0.4.0) and from the example files of both projects. A key in an
``IGNORED`` set is accepted with whatever stands below it: it is about serving traffic, not about routing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Level:
    """The keys of one kind of mapping.

    Args:
        what: what the mapping is, for messages.
        read: keys that are read.
        ignored: keys that other programs read.
        hints: keys that people are likely to write, and what to write in their place.
    """

    what: str
    read: frozenset[str]
    ignored: frozenset[str] = frozenset()
    hints: dict[str, str] = field(default_factory=dict)

    def knows(self, key: str) -> bool:
        """Whether a key may stand here."""
        return key in self.read or key in self.ignored

    def is_slip(self, key: str) -> bool:
        """Whether an unknown key was probably meant to be another one."""
        return key in self.hints or bool(self._close(key))

    def _close(self, key: str) -> list[str]:
        return difflib.get_close_matches(key.lower(), sorted(self.read) + sorted(self.ignored), n=1)

    def suggestion(self, key: str) -> str:
        """What to write in place of an unknown key, as the end of a sentence."""
        if key in self.hints:
            return f"; {self.hints[key]}"
        close = self._close(key)
        return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(sorted(self.read))}"


TOP = Level(
    "the configuration",
    read=frozenset({"routing_preferences", "model_providers", "llm_providers", "model_aliases", "default_model"}),
    ignored=frozenset(
        {
            "version",
            "listener",
            "listeners",
            "endpoints",
            "agents",
            "filters",
            "skills",
            "prompt_targets",
            "prompt_guards",
            "error_target",
            "system_prompt",
            "overrides",
            "ratelimits",
            "tracing",
            "mode",
            "routing",
            "state_storage",
            "state_storage_v1_responses",
            "model_metrics_sources",
        }
    ),
    hints={
        "routes": "did you mean 'routing_preferences'?",
        "preferences": "did you mean 'routing_preferences'?",
        "models": "did you mean 'model_providers'?",
        "providers": "did you mean 'model_providers'?",
        "aliases": "did you mean 'model_aliases'?",
        "default": "did you mean 'default_model'?",
    },
)

PROVIDER = Level(
    "a model provider",
    read=frozenset({"name", "model", "default", "routing_preferences"}),
    ignored=frozenset(
        {
            "access_key",
            "base_url",
            "base_url_path_prefix",
            "capabilities",
            "cluster_name",
            "endpoint",
            "headers",
            "http_host",
            "internal",
            "passthrough_auth",
            "port",
            "protocol",
            "provider",
            "provider_interface",
            "rate_limits",
            "retry_policy",
            "stream",
        }
    ),
    hints={
        "usage": "it is the form before 'routing_preferences': write a list of name and description there",
        "models": "a provider has one 'model'; a route with several 'models' stands in 'routing_preferences' at the top level",
    },
)

ROUTE = Level(
    "a route",
    read=frozenset({"name", "description", "models", "selection_policy"}),
    ignored=frozenset({"skills"}),
    hints={"model": "did you mean 'models'? It is a list"},
)

INLINE_ROUTE = Level(
    "a routing preference under a model",
    read=frozenset({"name", "description"}),
    ignored=frozenset({"skills"}),
    hints=dict.fromkeys(("models", "model", "selection_policy"), "it stands in 'routing_preferences' at the top level only"),
)

SELECTION_POLICY = Level("a selection policy", read=frozenset({"prefer"}))

ALIAS = Level("a model alias", read=frozenset({"target", "targets"}))

ALIAS_TARGET = Level("a target of a model alias", read=frozenset({"model", "weight"}))
