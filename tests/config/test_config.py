from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archroute_edge.config import Node, RoutingConfig, WeightedModel, load_config, parse_config, parse_tree
from archroute_edge.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "configs"

ROUTES = """routing_preferences:
  - name: math
    description: arithmetic and algebra
"""


def routes_of(config: RoutingConfig) -> dict[str, tuple[str, ...]]:
    return {route.name: tuple(route.models) for route in config.table}


class TestOwnShape:
    def test_a_name_and_a_description_are_enough(self) -> None:
        config = parse_config(ROUTES)
        assert [(route.name, route.description, route.models) for route in config.table] == [
            ("math", "arithmetic and algebra", ())
        ]
        assert config.default_model is None
        assert config.source is None
        assert config.route_lines == {"math": 2}

    def test_order_of_routes_and_models_is_kept_and_repeats_dropped(self) -> None:
        config = parse_config(
            "default_model: c/c\nrouting_preferences:\n"
            "  - {name: z, description: last letter, models: [b/b, a/a, b/b]}\n"
            "  - {name: a, description: first letter, models: [a/a]}\n"
        )
        assert list(routes_of(config).items()) == [("z", ("b/b", "a/a")), ("a", ("a/a",))]
        assert config.default_model == "c/c"

    def test_the_example_that_is_shipped(self) -> None:
        config = load_config(ROOT / "archroute_edge" / "data" / "example_routes.yaml")
        expected = ("code_generation", "bug_fixing", "performance_optimization", "api_help", "programming")
        assert config.table.names == expected
        assert all(route.models for route in config.table)
        assert config.default_model

    def test_source_is_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "routes.yaml"
        path.write_text(ROUTES)
        assert load_config(path).source == path
        assert load_config(str(path)).source == path

    @pytest.mark.parametrize("name", ["yes and no", "größe", "価格", "it's", 'a"b', "{x}", "2nd", "v1.0", "~ approx"])
    def test_names_of_any_kind(self, name: str) -> None:
        config = parse_config(json.dumps({"routing_preferences": [{"name": name, "description": "d"}]}))
        assert config.table.names == (name,)

    def test_quoted_words_that_yaml_would_read_otherwise(self) -> None:
        config = parse_config('routing_preferences: [{name: "no"}, {name: "1.0"}, {name: \'2024-05-01\'}, {name: !!str on}]')
        assert config.table.names == ("no", "1.0", "2024-05-01", "on")


class TestArchgw:
    def test_example_file(self) -> None:
        config = load_config(EXAMPLES / "archgw-v0.1.yaml")
        assert routes_of(config) == {
            "code understanding": ("openai/gpt-4o", "anthropic/claude-sonnet-4-6"),
            "code generation": ("anthropic/claude-sonnet-4-6",),
            "small talk": ("mistral-local/ministral-3b",),
        }
        assert config.default_model == "openai/gpt-4o-mini"
        assert config.aliases == {"fast-model": (WeightedModel("openai/gpt-4o-mini"),)}
        last = config.models[-1]
        assert (last.model, last.name) == ("mistral-local/ministral-3b", "local")
        assert config.route_lines["code understanding"] == 19

    @pytest.mark.parametrize("section", ["llm_providers", "model_providers"])
    def test_routes_of_one_name_merge_and_the_first_description_wins(self, section: str) -> None:
        config = parse_config(
            f"version: v0.3.0\n{section}:\n"
            "  - {model: a/one, routing_preferences: [{name: code, description: first}]}\n"
            "  - {model: b/two, routing_preferences: [{name: code, description: second}, {name: talk}]}\n"
        )
        assert routes_of(config) == {"code": ("a/one", "b/two"), "talk": ("b/two",)}
        assert config.table["code"].description == "first"
        (note,) = config.reading_notes
        assert (note.route, note.line) == ("code", 4)
        assert "line 3" in note.message

    def test_the_first_description_that_is_there_wins(self) -> None:
        config = parse_config(
            "model_providers:\n"
            "  - {model: a/one, routing_preferences: [{name: code}]}\n"
            "  - {model: b/two, routing_preferences: [{name: code, description: second}]}\n"
        )
        assert config.table["code"].description == "second"
        assert config.reading_notes == ()

    def test_names_merge_after_unicode_normalisation(self) -> None:
        config = parse_config(
            "model_providers:\n"
            '  - {model: a/one, routing_preferences: [{name: "caf\\u00e9", description: d}]}\n'
            '  - {model: b/two, routing_preferences: [{name: "cafe\\u0301", description: d}]}\n'
        )
        assert routes_of(config) == {"caf\u00e9": ("a/one", "b/two")}

    def test_a_top_level_route_wins_over_those_under_a_model(self) -> None:
        config = parse_config(
            "model_providers:\n"
            "  - {model: a/one, routing_preferences: [{name: code, description: inner}]}\n"
            "  - {model: b/two}\n"
            "routing_preferences: [{name: code, description: outer, models: [b/two]}]\n"
        )
        assert routes_of(config) == {"code": ("b/two",)}
        assert config.table["code"].description == "outer"
        assert [note.route for note in config.reading_notes] == ["code"]

    def test_shared_settings_merged_through_an_anchor(self) -> None:
        config = parse_config(
            "llm_providers:\n"
            "  - &shared {model: a/one, access_key: $KEY, default: true}\n"
            "  - {<<: *shared, model: b/two, default: false}\n" + ROUTES
        )
        assert [definition.model for definition in config.models] == ["a/one", "b/two"]
        assert config.default_model == "a/one"


class TestPlano:
    def test_example_file(self) -> None:
        config = load_config(EXAMPLES / "plano-v0.4.yaml")
        assert routes_of(config) == {
            "code generation": ("anthropic/claude-sonnet-4-6", "openai/gpt-4o"),
            "code review": ("anthropic/claude-sonnet-4-6", "groq/llama-3.3-70b-versatile"),
            "general conversation": ("chat.v1",),
        }
        assert config.selection == {"code generation": "none"}
        assert config.aliases == {"chat.v1": (WeightedModel("openai/gpt-4o", 80), WeightedModel("openai/gpt-4o-mini", 20))}
        assert config.default_model == "openai/gpt-4o"

    def test_everything_that_does_not_concern_routing_is_ignored(self) -> None:
        config = parse_config(
            "version: v0.4.0\n"
            "agents: [{id: a, url: http://localhost:1}]\n"
            "filters: [{id: f, url: http://localhost:2, type: mcp}]\n"
            "listeners: {egress_traffic: {port: 12000, anything: else}}\n"
            "endpoints: {app: {endpoint: 127.0.0.1}}\n"
            "system_prompt: be kind\n"
            "prompt_targets: [{name: t, description: d}]\n"
            "prompt_guards: {input_guards: {}}\n"
            "overrides: {llm_routing_model: m}\n"
            "ratelimits: []\n"
            "tracing: {random_sampling: 100}\n"
            "mode: llm\n"
            "routing: {session_ttl_seconds: 600}\n"
            "state_storage: {type: memory}\n"
            "model_metrics_sources: []\n"
            "skills: [s]\n"
            "model_providers:\n"
            "  - {model: a/one, access_key: sk-secret, base_url: http://x, http_host: x, provider_interface: openai,\n"
            "     passthrough_auth: true, headers: {X: y}, capabilities: {supports_vision: true}, retry_policy: {}}\n" + ROUTES
        )
        assert config.table.names == ("math",)

    def test_secrets_are_not_kept(self) -> None:
        config = parse_config("model_providers: [{model: a/one, access_key: sk-secret, headers: {k: sk-secret}}]\n" + ROUTES)
        assert "sk-secret" not in repr(config)

    @pytest.mark.parametrize(
        ("reference", "model"),
        [
            ("openai/gpt-4o", "openai/gpt-4o"),
            ("gpt-4o", "openai/gpt-4o"),
            ("house", "local/llama"),
            ("groq/llama-3.3", "groq/llama-3.3"),
            ("smart", "smart"),
        ],
    )
    def test_ways_to_name_a_model(self, reference: str, model: str) -> None:
        config = parse_config(
            "model_providers: [{model: openai/gpt-4o}, {model: local/llama, name: house}, {model: groq/*}]\n"
            "model_aliases: {smart: {target: gpt-4o}}\n"
            f"routing_preferences: [{{name: r, description: d, models: [{reference}]}}]\n"
        )
        assert routes_of(config) == {"r": (model,)}


def plain(node: Node) -> Any:
    """What JSON says."""
    if node.kind == "a mapping":
        return {key.text(): plain(value) for key, value in node.content}
    return [plain(each) for each in node.content] if node.kind == "a list" else node.text()


class TestJson:
    def test_reads_like_yaml(self) -> None:
        document = {"routing_preferences": [{"name": "math", "description": "arithmetic", "models": ["a/b"]}]}
        for text in (
            json.dumps(document),
            json.dumps(document, indent="\t"),
            "\ufeff" + json.dumps(document, indent=2),
        ):
            assert routes_of(parse_config(text)) == {"math": ("a/b",)}

    def test_characters_beyond_the_basic_plane(self) -> None:
        text = json.dumps({"routing_preferences": [{"name": "party 🎉", "description": "d / \u2028"}]})
        assert "\\ud83c" in text
        config = parse_config(text)
        assert config.table.names == ("party 🎉",)
        assert config.table["party 🎉"].description == "d / \u2028"

    @pytest.mark.parametrize("text", ["1e3", "1E3", "1.5e3", "-1e+3", "0", "-0.0", "1e-7", "12345678901234567890"])
    def test_numbers_as_json_writes_them(self, text: str) -> None:
        """YAML 1.1 takes 1e3 for a text."""
        (number,) = parse_tree(f"[{text}]", path=Path("a.json")).items()
        assert number.number() == float(text)

    def test_what_else_yaml_reads_otherwise(self) -> None:
        """Some of it was refused, some was another text."""
        texts = ["\x7f\x85\x9f", "a\u2028b\u2029c", "\ufeff\ufffe\uffff", "1e3", "no", '\\" :\\', "<<", "#", "", " x ", "a/b"]
        document = {text: [text, {text: {"": text}}] for text in texts}
        for written in (
            json.dumps(document, ensure_ascii=False),
            json.dumps(document).replace("/", "\\/"),
            json.dumps(document, ensure_ascii=False, indent="\t", separators=("\n,", "\n\r\t:\n")),
        ):
            assert json.loads(written) == document
            assert plain(parse_tree(written, path=Path("a.json"))) == document
            assert plain(parse_tree(written)) == document

    def test_lines_are_counted_as_in_the_file(self) -> None:
        text = '{"routing_preferences"\n\n:\n[{"name": "a\u2028",\n"descriptoin"\n: "b"}]}'
        with pytest.raises(ConfigError, match="did you mean 'description'") as caught:
            parse_config(text)
        assert caught.value.line == 5

    @pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999"])
    def test_a_number_that_is_none(self, text: str) -> None:
        (number,) = parse_tree(f"[{text}]", path=Path("a.json")).items("the rate")
        with pytest.raises(ConfigError, match="the rate must be a finite decimal number"):
            number.number()

    def test_a_broken_json_file_names_its_line(self, tmp_path: Path) -> None:
        path = tmp_path / "routes.json"
        path.write_text('{"routing_preferences": [\n  {"name": "a",}\n]}')
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}:2: malformed JSON")
