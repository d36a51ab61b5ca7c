"""Files of archgw and Plano as their releases have them, and the routes of chat-ui: one small file for each shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archroute_edge.config import RoutingConfig, load_config, parse_config
from archroute_edge.errors import ConfigError
from archroute_edge.targets import advice
from archroute_edge.targets._route_advice import Embed

PROVIDERS = """version: v0.4.0
model_providers:
  - {model: acme/one, access_key: $ACME_KEY, default: true}
  - {model: acme/two, access_key: $ACME_KEY}
"""
ROUTE = "routing_preferences: [{name: poems, description: writing of poems, models: [acme/two]}]\n"
ROUTER = "gateway's own router"


def routes_of(config: RoutingConfig) -> dict[str, tuple[str, ...]]:
    return {route.name: tuple(route.models) for route in config.table}


def notes_of(config: RoutingConfig) -> list[tuple[int | None, str]]:
    return [(note.line, note.message) for note in config.reading_notes]


class TestUsage:
    """archgw 0.3.0 to 0.3.3."""

    def test_a_provider_with_a_usage_is_a_route(self) -> None:
        config = parse_config(
            'version: "0.1-beta"\n'
            "routing: {model: house-router}\n"
            "llm_providers:\n"
            "  - {name: house-router, provider_interface: openai, model: acme/router, base_url: http://localhost:8000/v1}\n"
            "  - {name: large, provider_interface: openai, access_key: $KEY, model: large, default: true}\n"
            "  - name: poems\n"
            "    provider_interface: openai\n"
            "    model: large\n"
            "    usage: writing of poems\n"
            "  - {name: sums, provider: openai, model: small, usage: addition and multiplication}\n"
        )
        assert routes_of(config) == {"poems": ("large",), "sums": ("small",)}
        assert config.table["poems"].description == "writing of poems"
        assert config.route_lines == {"poems": 6, "sums": 10}
        assert config.default_model == "large"
        assert config.reading_notes == ()

    def test_without_a_name_the_model_names_the_route(self) -> None:
        config = parse_config("llm_providers: [{model: acme/large, usage: writing of poems}]\n")
        assert routes_of(config) == {"acme/large": ("acme/large",)}

    def test_a_usage_beside_routes_and_an_empty_one(self) -> None:
        config = parse_config(
            "llm_providers:\n"
            "  - {name: poems, model: a/one, usage: writing of poems, routing_preferences: [{name: sums, description: d}]}\n"
            "  - {name: quiet, model: b/two, usage: ''}\n"
        )
        assert routes_of(config) == {"poems": ("a/one",), "sums": ("a/one",)}

    def test_a_provider_that_passes_on_any_model_is_left_out(self) -> None:
        config = parse_config(
            "llm_providers:\n  - {name: any, provider_interface: openai}\n  - {name: poems, model: m, usage: verse}\n"
        )
        assert routes_of(config) == {"poems": ("m",)}
        assert notes_of(config) == [(2, "a model provider without 'model' is left out")]

    @pytest.mark.parametrize("section", ["llm_providers: [{name: any, usage: verse}]", "model_providers: [{name: any}]"])
    def test_a_route_without_a_model_is_an_error(self, section: str) -> None:
        with pytest.raises(ConfigError, match="a model provider without 'model'"):
            parse_config(section + "\n" + ROUTE)

    def test_many_models_have_no_usage(self) -> None:
        with pytest.raises(ConfigError, match="cannot have a usage") as caught:
            parse_config("llm_providers:\n  - model: acme/*\n    usage: verse\n")
        assert caught.value.line == 3


class TestKeysOfOtherReleases:
    @pytest.mark.parametrize(
        ("text", "line", "said"),
        [
            (PROVIDERS + "prompt_caching: {enabled: true}\n" + ROUTE, 5, "'prompt_caching' in the configuration is ignored"),
            (PROVIDERS + "semantic_cache: {ttl: 5}\n" + ROUTE, 5, "'semantic_cache' in the configuration is ignored"),
            (PROVIDERS + "  - {model: b/x, max_context: 8000}\n" + ROUTE, 5, "'max_context' in a model provider is ignored"),
            (
                PROVIDERS + ROUTE.replace("models:", "priority: 1, models:"),
                5,
                "'priority' in a route is ignored; routes have no",
            ),
            (
                "llm_providers:\n  - model: acme/two\n    routing_preferences: [{name: poems, priority: 1}]\n",
                3,
                "'priority' in a routing preference under a model is ignored; routes have no",
            ),
            (PROVIDERS + "model_aliases: {x: {target: one, note: y}}\n" + ROUTE, 5, "'note' in a model alias is ignored"),
            (
                PROVIDERS + ROUTE.replace("]}]", "], selection_policy: {prefer: greenest}}]"),
                5,
                "prefers 'greenest', which is not known here",
            ),
        ],
    )
    def test_they_cost_a_warning_with_its_line(self, text: str, line: int, said: str, embed: Embed) -> None:
        config = parse_config(text)
        assert routes_of(config) == {"poems": ("acme/two",)}
        ((noted, message),) = notes_of(config)
        assert noted == line
        assert said in message
        assert config.reading_notes[0] in advice(config, embed)
        assert config.format == "gateway"

    @pytest.mark.parametrize(
        "marks",
        [
            "version: v0.9\n",
            "listeners: []\n",
            "llm_providers: [{model: acme/two}]\n",
            "model_providers: [{model: acme/two}]\n",
        ],
    )
    def test_what_makes_a_file_a_gateways(self, marks: str) -> None:
        config = parse_config(marks + "semantic_cache: {}\n" + ROUTE)
        assert config.format == "gateway"
        assert [each.key for each in config.ignored_keys if not each.known] == ["semantic_cache"]

    @pytest.mark.parametrize(
        "ours", ["", "default_model: acme/two\n", "default_model: two\nmodel_providers: [{model: acme/two}]\n"]
    )
    def test_in_our_own_format_they_are_errors(self, ours: str) -> None:
        with pytest.raises(ConfigError, match="unknown key 'semantic_cache'"):
            parse_config(ours + "semantic_cache: {}\n" + ROUTE)

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            (PROVIDERS + "routing_preference: []\n", "routing_preferences"),
            (PROVIDERS + ROUTE.replace("description", "descripton"), "description"),
            (PROVIDERS + ROUTE.replace("models", "model"), "models"),
            (PROVIDERS + ROUTE.replace("models", "modles"), "models"),
        ],
    )
    def test_a_slip_that_would_cost_a_route_is_an_error(self, text: str, meant: str) -> None:
        with pytest.raises(ConfigError, match=f"did you mean '{meant}'") as caught:
            parse_config(text)
        assert caught.value.line == 5

    def test_ignored_keys_are_listed_by_line_and_hold_no_values(self) -> None:
        config = parse_config(PROVIDERS + "tracing: {exporters: [{api_key: sk-secret}]}\n" + ROUTE)
        assert [(each.key, each.line, each.known) for each in config.ignored_keys] == [
            ("version", 1, True),
            ("tracing", 5, True),
        ]
        assert "sk-secret" not in repr(config)

    def test_a_key_under_many_models_is_one_warning(self) -> None:
        providers = "".join(f"  - {{model: acme/m{index}, shiny: true}}\n" for index in range(100))
        config = parse_config("llm_providers:\n" + providers + "routing_preferences: [{name: poems, models: [acme/m7]}]\n")
        assert notes_of(config) == [(2, "the key 'shiny' in a model provider is ignored")]
        assert len(config.ignored_keys) == 100

    def test_a_key_of_a_merged_anchor_is_noted_once(self) -> None:
        config = parse_config(
            "llm_providers:\n"
            "  - &shared {model: acme/one, shiny: true}\n"
            "  - {<<: *shared, model: acme/two}\n"
            "  - {<<: *shared, model: acme/three}\n" + ROUTE
        )
        assert [line for line, _ in notes_of(config)] == [2]


INTERNAL = [
    "{name: arch-router, model: Arch-Router, provider_interface: plano, internal: true}",
    "{name: router, model: house-router, internal: true}",
    "{name: router, model: plano/house-router, base_url: http://localhost:8642}",
    "{name: router, model: house-router, provider_interface: arch}",
    "{name: router, model: arch/hf.co/katanemo/Arch-Router-1.5B.gguf:Q4_K_M, base_url: http://localhost:11434}",
    "{name: router, model: ollama/katanemo/Plano-Orchestrator-4B, base_url: http://localhost:11434}",
]


class TestInternalProviders:
    @pytest.mark.parametrize("provider", INTERNAL)
    @pytest.mark.parametrize("where", ["models", "default_model", "target"])
    def test_they_are_no_targets(self, provider: str, where: str) -> None:
        name = "arch-router" if "name: arch-router" in provider else "router"
        lines = {
            "models": f"routing_preferences: [{{name: poems, models: [{name}]}}]\n",
            "default_model": f"default_model: {name}\n" + ROUTE,
            "target": f"model_aliases: {{x: {{target: {name}}}}}\n" + ROUTE,
        }
        with pytest.raises(ConfigError, match=ROUTER) as caught:
            parse_config(f"{PROVIDERS}  - {provider}\n{lines[where]}")
        assert f"'{name}'" in caught.value.message
        assert caught.value.line == 6

    @pytest.mark.parametrize("name", ["arch-router", "plano/orchestrator", "Arch-Router", "plano/Plano-Orchestrator"])
    def test_those_that_gateways_add_themselves_are_named_too(self, name: str) -> None:
        with pytest.raises(ConfigError, match=ROUTER) as caught:
            parse_config(f"{PROVIDERS}routing_preferences: [{{name: poems, models: [{name}]}}]\n")
        assert caught.value.line == 5

    @pytest.mark.parametrize(
        "duty", ["default: true", "usage: verse", "routing_preferences: [{name: poems, description: verse}]"]
    )
    def test_they_have_no_routes_and_are_no_default(self, duty: str) -> None:
        with pytest.raises(ConfigError, match=ROUTER) as caught:
            parse_config(f"llm_providers:\n  - model: a/b\n  - {{model: arch/Arch-Router,\n     {duty}}}\n" + ROUTE)
        assert caught.value.line == 4

    def test_they_are_no_duplicates(self) -> None:
        config = parse_config(
            PROVIDERS
            + "  - {internal: true, model: Plano-Orchestrator, name: plano-orchestrator, provider_interface: plano}\n"
            + "  - {internal: true, model: Arch-Function, name: arch-function, provider_interface: plano}\n"
            + "  - {internal: true, model: Plano-Orchestrator, name: plano/orchestrator, provider_interface: plano}\n"
            + ROUTE
        )
        assert routes_of(config) == {"poems": ("acme/two",)}
        assert [item.model for item in config.models if item.internal] == [
            "Plano-Orchestrator",
            "Arch-Function",
            "Plano-Orchestrator",
        ]
        assert config.reading_notes == ()

    @pytest.mark.parametrize(
        "told",
        [
            "overrides: {llm_routing_model: acme/two}",
            "overrides: {agent_orchestration_model: two}",
            "routing: {llm_provider: acme/two}",
            "routing: {model: two}",
        ],
    )
    @pytest.mark.parametrize("target", ["acme/two", "verse"])
    def test_a_model_that_the_file_routes_with_is_a_warning(self, told: str, target: str) -> None:
        config = parse_config(
            f"{PROVIDERS}{told}\nmodel_aliases: {{verse: {{target: two}}}}\n"
            f"routing_preferences: [{{name: poems, description: writing of poems, models: [{target}]}}]\n"
        )
        ((line, message),) = notes_of(config)
        assert line == 7
        assert "names 'acme/two', with which the gateway itself routes (line 5)" in message

    def test_a_router_model_where_no_models_are_defined_is_a_warning(self, embed: Embed) -> None:
        config = parse_config("routing_preferences: [{name: poems, description: writing of poems, models: [arch-router]}]\n")
        assert any("'arch-router', a model that was made for routing" in each.message for each in advice(config, embed))

    @pytest.mark.parametrize("model", ["acme/search-router", "acme/monarch-function", "house/router"])
    def test_other_models_are_not_taken_for_routers(self, model: str) -> None:
        config = parse_config(f"llm_providers: [{{model: {model}, usage: writing of poems}}]\n")
        assert routes_of(config) == {model: (model,)}


class TestModels:
    @pytest.mark.parametrize("name", ["$MODEL", "${MODEL}", "acme/$MODEL", "${ACME_MODEL:-acme/one}"])
    @pytest.mark.parametrize(
        "where",
        [
            "model_providers:\n  - {{access_key: $KEY,\n     model: '{}'}}\n",
            "version: 1\nrouting_preferences:\n  - {{name: a, models: ['{}']}}\n",
            "version: 1\n\ndefault_model: '{}'\n",
            "version: 1\nmodel_aliases:\n  x: {{target: '{}'}}\n",
            "version: 1\nmodel_aliases:\n  x: {{targets: [{{model: '{}', weight: 1}}]}}\n",
            '[\n{{"name": "a", "description": "b",\n"primary_model": "{}"}}]',
        ],
    )
    def test_an_environment_variable_is_an_error_with_its_line(self, where: str, name: str) -> None:
        with pytest.raises(ConfigError, match="environment variable") as caught:
            parse_config(where.format(name))
        assert caught.value.line == 3
        assert f"'{name}'" in caught.value.message

    def test_one_model_under_two_names(self) -> None:
        config = parse_config(
            "llm_providers:\n  - {name: cheap, model: acme/one}\n  - {name: poems, model: acme/one, usage: verse}\n"
            "routing_preferences: [{name: sums, models: [acme/one]}, {name: talk, models: [cheap]}]\n"
        )
        assert routes_of(config) == {"sums": ("acme/one",), "talk": ("acme/one",), "poems": ("acme/one",)}

    @pytest.mark.parametrize(
        "second",
        [
            "{name: a/one, model: b/two}",
            "{name: one, model: b/two}",
            "{model: one}",
            "{name: b/two, model: a/one}\n  - {model: b/two}",
        ],
    )
    def test_one_name_for_two_models_is_an_error(self, second: str) -> None:
        with pytest.raises(ConfigError, match="defined twice"):
            parse_config(f"llm_providers:\n  - {{name: one, model: a/one}}\n  - {second}\n" + ROUTE)

    def test_all_models_of_a_provider(self) -> None:
        config = parse_config(
            "version: v0.4.0\nmodel_providers:\n  - {model: openai/*, access_key: $KEY}\n  - {model: openai/*, base_url: http://x}\n"
            "routing_preferences: [{name: poems, models: [openai/gpt-4o, openai/some-later-model]}]\n"
        )
        assert routes_of(config) == {"poems": ("openai/gpt-4o", "openai/some-later-model")}


CHAT_UI = [
    {"name": "poems", "description": "Write poems.", "primary_model": "acme/one", "fallback_models": ["acme/two", "acme/one"]},
    {"name": "default", "description": "Everything else.", "primary_model": "acme/three", "fallback_models": None},
]


class TestChatUi:
    @pytest.mark.parametrize("indent", [None, 2, "\t"])
    def test_its_routes(self, tmp_path: Path, indent: int | str | None) -> None:
        path = tmp_path / "routes.json"
        path.write_text(json.dumps(CHAT_UI, indent=indent), encoding="utf-8")
        for config in (load_config(path), parse_config(path.read_text(encoding="utf-8"))):
            assert routes_of(config) == {"poems": ("acme/one", "acme/two"), "default": ("acme/three",)}
            assert config.table["poems"].description == "Write poems."
            assert config.default_model == "acme/three"
            assert config.format == "chat-ui"

    def test_no_default_without_the_route_that_it_falls_back_to(self, embed: Embed) -> None:
        config = parse_config(json.dumps(CHAT_UI[:1]))
        assert config.default_model is None
        assert "a route called 'default' gives one" in advice(config, embed)[-1].message

    def test_a_key_of_a_later_release_is_a_warning(self) -> None:
        config = parse_config('[\n{"name": "a", "description": "b", "primary_model": "c/d",\n"supports_tools": true}]')
        assert notes_of(config) == [(3, "the key 'supports_tools' in a route of chat-ui is ignored")]

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ('[{"name": "a", "primary_model": "c"}]', 1, "without 'description'"),
            ('[{"description": "a", "primary_model": "c"}]', 1, "without 'name'"),
            (
                '[{"name": "a", "description": "b", "primary_model": "c"},\n{"name": "d", "description": "b"}]',
                2,
                "'primary_model'",
            ),
            ('[{"name": "a", "description": "b", "primary_model": "c"},\n"d"]', 2, "must be a mapping"),
            (
                '[{"name": "a", "description": "b", "primary_model": "c",\n"fallback_models": "d"}]',
                2,
                "must be a list, not text",
            ),
            ('[{"name": "a", "description": "b", "primary_model": ["c"]}]', 1, "primary_model must be text"),
            (
                '[{"name": "a", "description": "b", "primary_model": "c"},\n'
                '{"name": "a", "description": "d", "primary_model": "c"}]',
                2,
                "defined twice (first on line 1)",
            ),
            ('[{"name": "other", "description": "b", "primary_model": "c"}]', 1, "may not be called 'other'"),
            ("[]", 1, "must be a mapping (key: value), not a list"),
        ],
    )
    def test_what_cannot_be_used(self, text: str, line: int, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_config(text)
        assert message in caught.value.message
        assert caught.value.line == line
