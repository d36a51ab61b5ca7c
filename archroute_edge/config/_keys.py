"""Which keys a configuration may hold, level by level.

Taken from the JSON schemas of archgw (``arch/arch_config_schema.yaml``, 0.1.0 to 0.4.0) and Plano
(``config/plano_config_schema.yaml``, 0.4.1 to 0.4.36), from the example files of both projects, and from
huggingface/chat-ui. A key in an ``ignored`` set is accepted with whatever stands below it: it is about serving
traffic, not about routing.
"""

from __future__ import annotations

from archroute_edge.config._node import Keys

_PRIORITY = {"priority": "routes have no priority: the router model reads all of them"}


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP = Keys(
    "the configuration",
    read=_keys("routing_preferences model_providers llm_providers model_aliases default_model"),
    ignored=_keys(
        "version listener listeners endpoints agents filters skills prompt_targets prompt_guards error_target system_prompt "
        "overrides ratelimits tracing mode routing state_storage state_storage_v1_responses model_metrics_sources"
    ),
    hints={
        "routes": "did you mean 'routing_preferences'?",
        "preferences": "did you mean 'routing_preferences'?",
        "models": "did you mean 'model_providers'?",
        "providers": "did you mean 'model_providers'?",
        "aliases": "did you mean 'model_aliases'?",
        "default": "did you mean 'default_model'?",
        "prompt_caching": "to keep a conversation on its model, give each of its decisions the same key",
    },
)

PROVIDER = Keys(
    "a model provider",
    read=_keys("name model default routing_preferences usage"),
    ignored=_keys(
        "access_key base_url base_url_path_prefix capabilities cluster_name endpoint headers http_host internal "
        "passthrough_auth port protocol provider provider_interface rate_limits retry_policy stream"
    ),
    hints={
        "models": "a provider has one 'model'; a route with several 'models' stands in 'routing_preferences' at the top level",
    },
)

ROUTE = Keys(
    "a route",
    read=_keys("name description models selection_policy"),
    ignored=_keys("skills"),
    needed=("name",),
    hints={"model": "did you mean 'models'? It is a list", **_PRIORITY},
)

INLINE_ROUTE = Keys(
    "a routing preference under a model",
    read=_keys("name description"),
    ignored=_keys("skills"),
    needed=("name",),
    hints={
        **dict.fromkeys(("models", "model", "selection_policy"), "it stands in 'routing_preferences' at the top level only"),
        **_PRIORITY,
    },
)

SELECTION_POLICY = Keys("a selection policy", read=_keys("prefer"))

ALIAS = Keys("a model alias", read=_keys("target targets"))

ALIAS_TARGET = Keys("a target of a model alias", read=_keys("model weight"), needed=("model", "weight"))

CHAT_UI_ROUTE = Keys(
    "a route of chat-ui",
    read=_keys("name description primary_model fallback_models"),
    needed=("name", "description", "primary_model"),
)

OF_GATEWAYS = TOP.ignored | {"llm_providers", "prompt_caching"}
"""Keys of the top level that only archgw and Plano have: a file with one of them is theirs."""
