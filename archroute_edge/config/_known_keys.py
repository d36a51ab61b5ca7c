"""Which keys a configuration may hold, level by level.

Taken from the JSON schemas of archgw (``arch/arch_config_schema.yaml``, 0.1.0 to 0.4.0) and Plano
(``config/plano_config_schema.yaml``, 0.4.1 to 0.4.36), from the example files of both projects, and from
huggingface/chat-ui. A key in an ``ignored`` set is accepted with whatever stands below it: it is about serving
traffic, not about routing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

_SLIP = 0.85
"""How alike an unknown key and one that is read must be to count as a slip: one letter swapped, left out or added."""

_PRIORITY = {"priority": "routes have no priority: the router model reads all of them"}


@dataclass(frozen=True)
class Level:
    """The keys of one kind of mapping.

    Args:
        what: what the mapping is, for messages.
        read: keys that are read.
        ignored: keys that other programs read.
        hints: keys that people are likely to write, and what to write in their place.
        remarks: keys that have no place here, and what to know about them.
    """

    what: str
    read: frozenset[str]
    ignored: frozenset[str] = frozenset()
    hints: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def meant(self, key: str) -> str | None:
        """The key that is read and that an unknown one is a slip of the pen of, if it is so close to one."""
        close = difflib.get_close_matches(key, self.read, n=1, cutoff=_SLIP)
        return close[0] if close else None

    def remark(self, key: str) -> str:
        """What there is to say about one key, as the end of a sentence; nothing of most keys."""
        said = self.remarks.get(key) or self.hints.get(key)
        return f"; {said}" if said else ""

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
    remarks={"prompt_caching": "to keep a conversation on its model, give each of its decisions the same key"},
)

PROVIDER = Level(
    "a model provider",
    read=frozenset({"name", "model", "default", "routing_preferences", "usage"}),
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
        "models": "a provider has one 'model'; a route with several 'models' stands in 'routing_preferences' at the top level",
    },
)

ROUTE = Level(
    "a route",
    read=frozenset({"name", "description", "models", "selection_policy"}),
    ignored=frozenset({"skills"}),
    hints={"model": "did you mean 'models'? It is a list"},
    remarks=_PRIORITY,
)

INLINE_ROUTE = Level(
    "a routing preference under a model",
    read=frozenset({"name", "description"}),
    ignored=frozenset({"skills"}),
    hints=dict.fromkeys(("models", "model", "selection_policy"), "it stands in 'routing_preferences' at the top level only"),
    remarks=_PRIORITY,
)

SELECTION_POLICY = Level("a selection policy", read=frozenset({"prefer"}))

ALIAS = Level("a model alias", read=frozenset({"target", "targets"}))

ALIAS_TARGET = Level("a target of a model alias", read=frozenset({"model", "weight"}))

CHAT_UI_ROUTE = Level("a route of chat-ui", read=frozenset({"name", "description", "primary_model", "fallback_models"}))

OF_GATEWAYS = TOP.ignored | {"llm_providers", "prompt_caching"}
"""Keys of the top level that only archgw and Plano have: a file with one of them is theirs."""
