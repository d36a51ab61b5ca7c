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
    read=_keys("routing_preferences model_providers llm_providers model_aliases default_model archroute"),
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
        **dict.fromkeys(("forward", "gateway", "traffic", "prices", "keys"), "forwarding is set up under 'archroute'"),
        "prompt_caching": "to keep a conversation on its model, give each of its decisions the same key",
    },
)

PROVIDER = Keys(
    "a model provider",
    read=_keys(
        "name model default routing_preferences usage access_key base_url base_url_path_prefix endpoint headers "
        "passthrough_auth port protocol provider provider_interface"
    ),
    ignored=_keys("capabilities cluster_name http_host internal rate_limits retry_policy stream"),
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

SELECTION_POLICY = Keys(
    "a selection policy",
    read=_keys("prefer predictor share cost_per_1k rate scored_as"),
    hints={
        "budget": "did you mean 'cost_per_1k'?",
        "threshold": "did you mean 'share'?",
        **dict.fromkeys(("price", "prices"), "prices stand in the section 'archroute'"),
    },
)

ALIAS = Keys("a model alias", read=_keys("target targets"))

ALIAS_TARGET = Keys("a target of a model alias", read=_keys("model weight"), needed=("model", "weight"))

CHAT_UI_ROUTE = Keys(
    "a route of chat-ui",
    read=_keys("name description primary_model fallback_models"),
    needed=("name", "description", "primary_model"),
)

OURS = Keys(
    "the section 'archroute'",
    read=_keys("models prices routes aliases keys timeout first_byte_timeout rest sessions"),
    hints={
        "providers": "providers stand in 'model_providers' at the top level",
        **dict.fromkeys(
            ("weights", "ramp", "canary", "shadow"), "it stands under a route in 'routes' or an alias in 'aliases'"
        ),
        **dict.fromkeys(("price", "context_window", "images", "tools"), "it stands under a model in 'models'"),
    },
    strict=True,
)

MODEL_FACTS = Keys(
    "a model of 'archroute'",
    read=_keys("context_window images tools price first_byte_timeout"),
    hints={
        "vision": "did you mean 'images'?",
        "max_tokens": "did you mean 'context_window'?",
    },
    strict=True,
)

PRICE = Keys("a price", read=_keys("input output cached"), needed=("input", "output"), strict=True)

TRAFFIC_RULE = Keys("a rule for traffic", read=_keys("weights ramp canary shadow"), strict=True)

RAMP = Keys("a ramp", read=_keys("model from to start over"), needed=("model", "start", "over"), strict=True)

CANARY = Keys("a canary", read=_keys("model window error_margin latency_margin"), needed=("model",), strict=True)

SHADOW = Keys("a shadow", read=_keys("model share"), needed=("model", "share"), strict=True)

CLIENT_KEY = Keys(
    "a client's key",
    read=_keys("name key requests_per_minute tokens_per_minute"),
    needed=("name", "key"),
    strict=True,
)

REST = Keys("'rest'", read=_keys("after for"), strict=True)

SESSIONS = Keys("'sessions'", read=_keys("ttl max_switch_spend_pct"), strict=True)

OF_GATEWAYS = TOP.ignored | {"llm_providers", "prompt_caching"}
"""Keys of the top level that only archgw and Plano have: a file with one of them is theirs."""
