"""The price file: LiteLLM's format, by the names that configurations have for models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.config import ModelFacts, Price, RoutingConfig, load_config
from archroute_edge.errors import ConfigError
from archroute_edge.targets import order_targets

ENTRIES: dict[str, Any] = {
    "sample_spec": {"litellm_provider": "one of many", "max_input_tokens": "as text", "input_cost_per_token": 0.0},
    "big-9": {
        "litellm_provider": "openai",
        "input_cost_per_token": 2.5e-07,
        "output_cost_per_token": 2e-06,
        "cache_read_input_token_cost": 2.5e-08,
        "max_input_tokens": 272000,
        "max_output_tokens": 128000,
        "supports_vision": True,
        "supports_function_calling": False,
    },
    "gemini/pro-9": {"litellm_provider": "gemini", "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05},
    "azure/big-9": {"litellm_provider": "azure", "input_cost_per_token": 3e-06, "output_cost_per_token": 9e-06},
    "old-1": {"litellm_provider": "anthropic", "max_tokens": 8000, "input_cost_per_token": -1, "output_cost_per_token": True},
    "acme/own": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06},
    "acme/huge": {"input_cost_per_token": 10**400, "output_cost_per_token": 1, "max_tokens": 10**400},
    "odd": "not an entry",
}
BIG = ModelFacts(272_000, True, False, Price(0.25, 2.0, 0.025))


def load(tmp_path: Path, providers: str, archroute: str = "", routes: str = "", entries: Any = ENTRIES) -> RoutingConfig:
    (tmp_path / "prices.json").write_text(json.dumps(entries), encoding="utf-8")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"model_providers: [{providers}]\n"
        f"routing_preferences: [{{name: bugs, description: mending of bugs{routes}}}]\n"
        f"archroute:\n  prices: prices.json\n{archroute}",
        encoding="utf-8",
    )
    return load_config(path)


@pytest.mark.parametrize(
    ("provider", "facts"),
    [
        ("{model: openai/big-9}", BIG),
        ("{model: big-9, provider_interface: openai}", BIG),
        ("{model: google/pro-9}", ModelFacts(price=Price(1.25, 10.0))),
        ("{model: azure_openai/big-9}", ModelFacts(price=Price(3.0, 9.0))),
        ("{model: acme/own}", ModelFacts(price=Price(1.0, 4.0))),
        ("{model: acme/huge}", ModelFacts()),
        # What makes no sense is passed over.
        ("{model: anthropic/old-1}", ModelFacts(8000)),
    ],
)
def test_a_model_is_found_by_the_name_that_the_configuration_has_for_it(
    tmp_path: Path, provider: str, facts: ModelFacts
) -> None:
    (found,) = load(tmp_path, provider).forward.models.values()
    assert found == facts


@pytest.mark.parametrize("model", ["groq/big-9", "acme/big-9", "openai/pro-9", "openai/odd", "big-9"])
def test_no_model_has_the_price_of_another_provider(tmp_path: Path, model: str) -> None:
    assert load(tmp_path, f"{{model: {model}}}").forward.models == {}


def test_what_the_configuration_states_wins(tmp_path: Path) -> None:
    stated = "  models: {openai/big-9: {context_window: 100, price: {input: 7, output: 8}}}\n"
    found = load(tmp_path, "{model: openai/big-9}", stated).forward.models["openai/big-9"]
    assert found == ModelFacts(100, True, False, Price(7.0, 8.0))


def test_all_models_of_a_wildcard_have_their_prices(tmp_path: Path) -> None:
    models = load(tmp_path, "{model: openai/*}, {model: gemini/*}").forward.models
    assert set(models) == {"openai/big-9", "gemini/pro-9"}


def test_models_are_ordered_by_it(tmp_path: Path) -> None:
    providers = "{model: azure_openai/big-9}, {model: openai/big-9}"
    routes = ", models: [azure_openai/big-9, openai/big-9], selection_policy: {prefer: cheapest}"
    order = order_targets(load(tmp_path, providers, routes=routes), "bugs", now=0)
    assert order.models == ("openai/big-9", "azure_openai/big-9")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"the price file .*prices\.json: cannot be read: No such file"),
        ("{\n  'a': 1}", r"prices\.json: not JSON in line 2; it must have the format of LiteLLM's"),
        ("[]", "not a mapping of models"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_is_none_is_an_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("routing_preferences: [{name: a, description: b}]\narchroute: {prices: prices.json}\n", encoding="utf-8")
    if content is not None:
        (tmp_path / "prices.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)
