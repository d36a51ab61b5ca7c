"""Which models of a gateway's file are its own routers: they decide for the gateway and cannot answer a user."""

from __future__ import annotations

import re
from collections.abc import Iterator

from archroute_edge.config._yaml_tree import Entries, Scalar, Value

_ROUTER = re.compile(r"(?<![a-z])(arch[-_ ]?(router|function|guard)|plano[-_/ ]?orchestrator)", re.IGNORECASE)
_PROVIDERS = {"plano", "arch"}
_NAMES = {"arch-router", "arch-function", "archgw-v1-router-model", "plano-orchestrator", "plano/orchestrator"}
_NAMED_BY = (
    ("overrides", "llm_routing_model"),
    ("overrides", "agent_orchestration_model"),
    ("routing", "llm_provider"),
    ("routing", "model"),
)


def is_router_name(text: str) -> bool:
    """Whether a model is called as one that was made for routing, or as a gateway calls its own provider for it."""
    return text.lower() in _NAMES or _ROUTER.search(text) is not None


def is_internal(entry: Value, model: str, name: str | None) -> bool:
    """Whether a provider is one that gateways keep for themselves, as their files say or as it is called."""
    interfaces = {_text(entry, "provider_interface"), _text(entry, "provider")}
    if _text(entry, "internal").lower() == "true" or not _PROVIDERS.isdisjoint(interfaces):
        return True
    return model.partition("/")[0] in _PROVIDERS or is_router_name(model) or (name or "").lower() in _NAMES


def named_routers(root: Value) -> Iterator[Scalar]:
    """The models that a gateway's file tells it to route with, as written there; any model may be told to."""
    for section, key in _NAMED_BY:
        value = _entry(_entry(root, section), key)
        if isinstance(value, Scalar) and value.kind == "text":
            yield value


def _entry(value: Value | None, key: str) -> Value | None:
    if not isinstance(value, Entries):
        return None
    return next((item for name, item in zip(value.keys, value.values, strict=True) if name.text == key), None)


def _text(value: Value, key: str) -> str:
    found = _entry(value, key)
    return found.text if isinstance(found, Scalar) else ""
