"""Prices of models, and what they take, from a file in the format of LiteLLM's ``model_prices_and_context_window.json``.

An entry has a model's name, with or without its provider (``gpt-4o``, ``gemini/gemini-2.5-pro``), ``litellm_provider``, US
dollars for one token, and what the model takes. If prices change with the length of a prompt, the first step is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from archroute_edge.config._forward_schema import ModelFacts, Price
from archroute_edge.config._schema import ModelDefinition, RoutingConfig
from archroute_edge.errors import ConfigError

_A_MILLION: Final = 1_000_000
_MAX_BYTES: Final = 64 << 20
"""Largest file that is read; LiteLLM's has 3.5 MB."""
_NOTHING: Final = ModelFacts()
# What LiteLLM calls providers that configurations call otherwise.
_LITELLM_NAMES: Final = {
    "azure_openai": "azure",
    "claude": "anthropic",
    "google": "gemini",
    "mistralai": "mistral",
    "together": "together_ai",
    "x_ai": "xai",
    "grok": "xai",
    "fireworks": "fireworks_ai",
    "moonshotai": "moonshot",
    "zhipu": "zai",
    "z_ai": "zai",
    "qwen": "dashscope",
    "amazon_bedrock": "bedrock",
    "digitalocean": "gradient_ai",
    "vercel": "vercel_ai_gateway",
    "lmstudio": "lm_studio",
}


def with_price_file(config: RoutingConfig) -> RoutingConfig:
    """A configuration whose facts about models are completed from its price file, if it names one.

    What the configuration states itself wins, fact by fact.

    Raises:
        ConfigError: the price file cannot be read, or is none.
    """
    path = config.forward.prices
    if path is None:
        return config
    entries = _read(path, config.source)
    facts = dict(config.forward.models)
    for model, entry in _entries_of(config, entries):
        facts[model] = _completed(facts.get(model, _NOTHING), entry)
    return replace(config, forward=replace(config.forward, models=facts))


def _read(path: Path, source: Path | None) -> dict[str, Mapping[str, Any]]:
    def problem(what: str) -> ConfigError:
        return ConfigError(f"the price file {path}: {what}", path=source)

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise problem(f"cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    if len(data) > _MAX_BYTES:
        raise problem(f"larger than the {_MAX_BYTES >> 20} MB that one may have")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as exc:
        place = f" in line {exc.lineno}" if isinstance(exc, json.JSONDecodeError) else ""
        raise problem(f"not JSON{place}; it must have the format of LiteLLM's model_prices_and_context_window.json") from exc
    if not isinstance(found, dict):
        raise problem("not a mapping of models; it must have the format of LiteLLM's model_prices_and_context_window.json")
    return {key: value for key, value in found.items() if isinstance(value, dict)}


def _entries_of(config: RoutingConfig, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The models of a configuration that the file knows, with their entries."""
    definitions = {each.model: each for each in config.models}
    names = [each.model for each in config.models if not each.is_wildcard]
    names += [model for route in config.table for model in route.models]
    names += [target.model for targets in config.aliases.values() for target in targets]
    names += [config.default_model] if config.default_model is not None else []
    for model in dict.fromkeys(names):
        entry = _entry(model, _litellm_provider(definitions.get(model) or ModelDefinition(model)), entries)
        if entry is not None:
            yield model, entry
    for each in config.models:
        if each.is_wildcard:
            provider = _litellm_provider(each)
            for key, entry in entries.items():
                if entry.get("litellm_provider") == provider:
                    yield each.model[:-1] + key.removeprefix(f"{provider}/"), entry


def _litellm_provider(definition: ModelDefinition) -> str:
    """What LiteLLM calls the provider of a model."""
    name, slash, _ = definition.model.partition("/")
    if not slash:
        name = definition.upstream.interface or ""
    spelling = name.strip().lower().replace("-", "_")
    return _LITELLM_NAMES.get(spelling, spelling)


def _entry(model: str, provider: str, entries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The entry of a model: under its name as it stands, or under LiteLLM's, which may lack the provider."""
    bare = model.partition("/")[2] or model
    for key in (model, f"{provider}/{bare}", bare):
        entry = entries.get(key)
        # A bare name is another provider's model as well.
        if entry is not None and (key == model != bare or entry.get("litellm_provider") == provider):
            return entry
    return None


def _completed(stated: ModelFacts, entry: Mapping[str, Any]) -> ModelFacts:
    price = stated.price
    new, answer = _number(entry, "input_cost_per_token"), _number(entry, "output_cost_per_token")
    if price is None and new is not None and answer is not None:
        cached = _number(entry, "cache_read_input_token_cost")
        price = Price(_dollars(new), _dollars(answer), None if cached is None else _dollars(cached))
    window = stated.context_window
    if window is None:
        found = _number(entry, "max_input_tokens") or _number(entry, "max_tokens")
        window = int(found) if found else None
    return replace(
        stated,
        context_window=window,
        images=_flag(entry, "supports_vision") if stated.images is None else stated.images,
        tools=_flag(entry, "supports_function_calling") if stated.tools is None else stated.tools,
        price=price,
    )


def _dollars(per_token: float) -> float:
    """US dollars for a million tokens, without the last digits that come from multiplying."""
    return round(per_token * _A_MILLION, 9)


def _number(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _flag(entry: Mapping[str, Any], key: str) -> bool | None:
    value = entry.get(key)
    return value if isinstance(value, bool) else None
