"""From what a configuration says about a model to where its requests go and what they carry."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from archroute_edge.config import parse_config
from archroute_edge.errors import ConfigError
from archroute_edge.gateway import Gateway, Reach, Target, forwarding_problems
from archroute_edge.record import Operation
from tests.gateway.conftest import Kept, ask, request, run
from tests.upstream import Upstream

PAGE = Path(__file__).parent.parent.parent / "docs" / "gateway.md"
KEY = "sk-very-secret-key"
ENVIRONMENT = {"KEY": KEY, "OTHER_KEY": "sk-another-secret", "EMPTY": "", "PORT": "9999"}
TAIL = "routing_preferences: [{name: bugs, description: mending of bugs}]\n"


def reach(*entries: str, environment: Mapping[str, str] = ENVIRONMENT) -> Reach:
    """The reach of provider entries; each stands on a line of its own, the first one on line 2."""
    text = "model_providers:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries) + TAIL
    return Reach(parse_config(text), environment)


def target_of(entry: str, model: str) -> Target:
    found = reach(entry).find(model)
    assert found is not None
    return found


def headers_of(target: Target, operation: Operation = "chat") -> dict[bytes, bytes]:
    return dict(target.headers[operation])


CLOUD = [
    ("openai/gpt-5-mini", "https://api.openai.com/v1/chat/completions", "openai"),
    ("gemini/gemini-3-pro", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gcp.gemini"),
    ("google/gemini-3-pro", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gcp.gemini"),
    ("mistral/large", "https://api.mistral.ai/v1/chat/completions", "mistral_ai"),
    ("groq/openai/gpt-oss-120b", "https://api.groq.com/openai/v1/chat/completions", "groq"),
    ("together_ai/x", "https://api.together.ai/v1/chat/completions", "together_ai"),
    ("deepseek/x", "https://api.deepseek.com/v1/chat/completions", "deepseek"),
    ("x-ai/grok-4", "https://api.x.ai/v1/chat/completions", "x_ai"),
    ("openrouter/acme/x", "https://openrouter.ai/api/v1/chat/completions", "openrouter"),
    ("fireworks_ai/x", "https://api.fireworks.ai/inference/v1/chat/completions", "fireworks"),
    ("zhipu/glm", "https://open.bigmodel.cn/api/paas/v4/chat/completions", "zhipu"),
    ("perplexity/sonar", "https://api.perplexity.ai/chat/completions", "perplexity"),
]
LOCAL = [
    ("ollama/qwen3:8b", "http://localhost:11434/v1/chat/completions"),
    ("lm-studio/qwen3", "http://localhost:1234/v1/chat/completions"),
    ("vllm/Qwen/Qwen3-8B", "http://localhost:8000/v1/chat/completions"),
    ("llama-server/qwen3", "http://localhost:8080/v1/chat/completions"),
]


class TestKnownProviders:
    @pytest.mark.parametrize(("model", "url", "otel"), CLOUD)
    def test_a_key_is_all_that_they_need(self, model: str, url: str, otel: str) -> None:
        target = target_of(f"model: {model}, access_key: $KEY", model)
        assert str(target.urls["chat"]) == url
        assert target.provider == otel
        assert target.upstream_model == model.partition("/")[2]
        assert headers_of(target) == {b"authorization": b"Bearer " + KEY.encode()}

    @pytest.mark.parametrize(("model", "url"), LOCAL)
    def test_programs_on_this_machine_need_nothing(self, model: str, url: str) -> None:
        target = target_of(f"model: '{model}'", model)
        assert str(target.urls["chat"]) == url
        assert headers_of(target) == {}
        assert target.upstream_model == model.partition("/")[2]

    def test_each_speaks_its_own_apis(self) -> None:
        spoken = {
            "openai/x": {"chat", "responses"},
            "anthropic/x": {"chat", "messages"},
            "mistral/x": {"chat"},
            "ollama/x": {"chat", "responses", "messages"},
        }
        found = reach(*(f"model: {model}, access_key: $KEY" for model in spoken))
        assert {model: set(found.find(model).urls) for model in spoken} == spoken  # type: ignore[union-attr]

    def test_anthropics_two_apis_are_shown_a_key_in_two_ways(self) -> None:
        target = target_of("model: anthropic/claude, access_key: $KEY", "anthropic/claude")
        assert str(target.urls["messages"]) == "https://api.anthropic.com/v1/messages"
        assert headers_of(target, "messages") == {b"x-api-key": KEY.encode()}
        assert dict(target.defaults["messages"]) == {b"anthropic-version": b"2023-06-01"}
        assert headers_of(target, "chat") == {b"authorization": b"Bearer " + KEY.encode()}
        assert not target.defaults["chat"]

    def test_azure(self) -> None:
        entry = "model: azure_openai/my-deployment, access_key: $KEY, base_url: 'https://mine.openai.azure.com'"
        target = target_of(entry, "my-deployment")
        assert str(target.urls["responses"]) == "https://mine.openai.azure.com/openai/v1/responses"
        assert headers_of(target, "responses") == {b"api-key": KEY.encode()}
        assert (target.provider, target.upstream_model) == ("azure.ai.openai", "my-deployment")

    def test_chatgpt_gets_the_clients_own_credentials(self) -> None:
        target = target_of("model: chatgpt/gpt-5", "chatgpt/gpt-5")
        assert target.passthrough_auth
        assert str(target.urls["responses"]) == "https://chatgpt.com/backend-api/codex/responses"


_ROW = re.compile(r"^\| `([^|]+)` \| ([^|]*) \| ([a-z, ]+) \|$", re.M)


def test_the_page_lists_them() -> None:
    """Every row of the table in docs/gateway.md: names, the address, and the APIs."""
    rows = _ROW.findall(PAGE.read_text(encoding="utf-8").partition("## Providers")[2].partition("\n## ")[0])
    assert len(rows) > 20
    for names, address, operations in rows:
        for name in names.split("`, `"):
            given = "" if address.startswith("`") else ", base_url: 'https://mine.example'"
            target = target_of(f"model: {name}/x, access_key: $KEY{given}", f"{name}/x")
            assert ", ".join(target.urls) == operations, name
            expected = address.strip("`") if not given else "https://mine.example" + address.partition("`")[2].strip("`")
            for operation, url in target.urls.items():
                path = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}[operation]
                assert str(url) == expected + path


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("base_url", "url"),
        [
            ("http://localhost:1234", "http://localhost:1234/openai/v1/chat/completions"),
            ("http://localhost:1234/", "http://localhost:1234/openai/v1/chat/completions"),
            ("http://localhost:1234/my/path/", "http://localhost:1234/my/path/chat/completions"),
            ("https://[::1]:8443/v2", "https://[::1]:8443/v2/chat/completions"),
            ("http://here:$PORT/v1", "http://here:9999/v1/chat/completions"),
            ("https://host/v1?api-version=2", "https://host/v1/chat/completions?api-version=2"),
        ],
    )
    def test_its_path_replaces_the_providers_own(self, base_url: str, url: str) -> None:
        target = target_of(f"model: groq/x, base_url: '{base_url}'", "groq/x")
        assert str(target.urls["chat"]) == url

    @pytest.mark.parametrize("base_url", ["https://api.kimi.com", "https://api.kimi.com/coding/v1"])
    def test_its_path_may_stand_beside_it(self, base_url: str) -> None:
        """In files that Plano made from others."""
        target = target_of(f"model: moonshotai/x, base_url: '{base_url}', base_url_path_prefix: /coding/v1", "x")
        assert str(target.urls["chat"]) == "https://api.kimi.com/coding/v1/chat/completions"

    def test_a_server_of_ones_own_needs_no_key(self) -> None:
        assert headers_of(target_of("model: openai/mine, base_url: 'http://localhost:9/v1'", "mine")) == {}

    def test_an_unknown_provider_says_which_api_it_speaks(self) -> None:
        entry = "model: acme/some/one, base_url: 'http://acme.example', provider_interface: openai, access_key: '${KEY}'"
        target = target_of(entry, "acme/some/one")
        assert str(target.urls["chat"]) == "http://acme.example/v1/chat/completions"
        assert (target.provider, target.upstream_model) == ("acme", "some/one")
        assert headers_of(target) == {b"authorization": b"Bearer " + KEY.encode()}

    def test_a_known_provider_may_speak_another_api(self) -> None:
        address = "base_url: 'https://api.deepseek.com/anthropic/v1', provider_interface: anthropic"
        target = target_of(f"model: deepseek/x, access_key: $KEY, {address}", "deepseek/x")
        assert str(target.urls["messages"]) == "https://api.deepseek.com/anthropic/v1/messages"
        assert headers_of(target, "messages") == {b"x-api-key": KEY.encode()}
        assert target.provider == "deepseek"

    def test_bedrocks_api_that_is_openais(self) -> None:
        address = "base_url: 'https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1', provider_interface: openai"
        target = target_of(f"model: amazon_bedrock/gpt-oss, access_key: $KEY, {address}", "gpt-oss")
        assert str(target.urls["chat"]) == "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/chat/completions"
        assert target.provider == "aws.bedrock"

    def test_archgw_names_the_provider_by_its_interface_alone(self) -> None:
        target = target_of("name: big, model: claude-x, provider_interface: claude, access_key: $KEY", "big")
        assert str(target.urls["messages"]) == "https://api.anthropic.com/v1/messages"
        assert (target.provider, target.upstream_model) == ("anthropic", "claude-x")


class TestCredentials:
    @pytest.mark.parametrize(
        ("written", "sent"),
        [
            ("$KEY", KEY),
            ("${KEY}", KEY),
            ("sk-$literal-key", "sk-$literal-key"),
            (" $KEY ", KEY),
            ("sk-literal ", "sk-literal"),
        ],
    )
    def test_a_key_is_a_variable_or_stands_there(self, written: str, sent: str) -> None:
        target = target_of(f"model: openai/x, access_key: '{written}'", "openai/x")
        assert headers_of(target) == {b"authorization": b"Bearer " + sent.encode()}

    def test_headers_are_filled_in_and_win_over_the_key(self) -> None:
        entry = "model: openai/x, access_key: $KEY, headers: {X-Team: 'team of ${PORT}', Authorization: Basic $OTHER_KEY}"
        target = target_of(entry, "openai/x")
        assert headers_of(target) == {b"x-team": b"team of 9999", b"authorization": b"Basic sk-another-secret"}

    def test_blanks_around_a_headers_value_are_none_of_it(self) -> None:
        """Would break if they were sent: no header can have them, and an error would be the first to say so."""
        target = target_of("model: openai/x, headers: {Authorization: ' Bearer sk-written-out '}", "openai/x")
        assert headers_of(target) == {b"authorization": b"Bearer sk-written-out"}
        assert target.secrets == (b"sk-written-out",)

    def test_a_key_is_found_within_json(self) -> None:
        target = target_of("model: openai/x, access_key: 'sk-\"odd\"-key'", "openai/x")
        assert set(target.secrets) == {b'sk-"odd"-key', b'sk-\\"odd\\"-key'}

    def test_a_key_is_found_within_json_that_escapes_slashes(self) -> None:
        target = target_of("model: openai/x, access_key: 'sk/\"odd\"/key'", "openai/x")
        assert set(target.secrets) == {b'sk/"odd"/key', b'sk/\\"odd\\"/key', b'sk\\/\\"odd\\"\\/key'}

    def test_a_credential_among_the_headers_is_a_key(self) -> None:
        entry = "model: azure_openai/x, base_url: 'https://mine.openai.azure.com', headers: {Authorization: Bearer $KEY}"
        assert headers_of(target_of(entry, "x")) == {b"authorization": b"Bearer " + KEY.encode()}

    def test_secrets_are_what_must_not_come_back(self) -> None:
        entry = "model: openai/x, access_key: $KEY, headers: {X-Auth: 'v=$OTHER_KEY', X-Api-Key: written-out}"
        target = target_of(entry, "openai/x")
        assert set(target.secrets) == {KEY.encode(), b"sk-another-secret", b"written-out"}
        assert KEY not in repr(target)

    def test_a_variable_in_an_address_is_a_secret_as_well(self) -> None:
        target = target_of("model: ollama/x, base_url: 'https://host/v1?key=$KEY'", "ollama/x")
        assert target.secrets == (KEY.encode(),)

    def test_the_clients_own_in_place_of_the_key(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            target = target_of("model: openai/x, access_key: $KEY, passthrough_auth: true", "openai/x")
        assert target.passthrough_auth
        assert headers_of(target) == {}
        assert "openai/x" in caplog.text
        assert KEY not in caplog.text

    def test_clients_have_keys_too(self) -> None:
        config = parse_config(TAIL + "archroute: {keys: [{name: alice, key: $KEY}, {name: bob, key: bobs-own}]}\n")
        assert Reach(config, ENVIRONMENT).client_keys == {"alice": KEY, "bob": "bobs-own"}
        with pytest.raises(ConfigError, match=r"alice.*KEY is not set") as caught:
            Reach(config, {})
        assert caught.value.line == 2


class TestNames:
    def test_a_model_is_found_by_all_its_names(self) -> None:
        found = reach("model: openai/gpt-5, name: big, access_key: $KEY", "model: groq/small, access_key: $OTHER_KEY")
        assert found.models == ("openai/gpt-5", "groq/small")
        for name in ("openai/gpt-5", "gpt-5", "big"):
            assert found.canonical(name) == "openai/gpt-5"
            target = found.find(name)
            assert target is not None
            assert (target.model, target.upstream_model) == ("openai/gpt-5", "gpt-5")
        assert found.find("gpt") is None
        assert found.find("openai/gpt-6") is None

    def test_an_id_that_two_providers_have_means_neither(self) -> None:
        found = reach("model: groq/gpt-oss, access_key: $KEY", "model: cerebras/gpt-oss, access_key: $KEY")
        assert found.find("gpt-oss") is None
        assert found.find("cerebras/gpt-oss") is not None

    def test_a_wildcard_takes_any_model_of_its_provider(self) -> None:
        found = reach("model: openai/*, access_key: $KEY", "model: openai/own, access_key: $OTHER_KEY")
        target = found.find("openai/anything/at-all")
        assert target is not None
        assert (target.model, target.upstream_model) == ("openai/anything/at-all", "anything/at-all")
        assert target.label == "openai/*"
        own = found.find("openai/own")
        assert own is not None
        assert headers_of(own) == {b"authorization": b"Bearer sk-another-secret"}
        assert found.models == ("openai/own",)
        for name in ("openai/", "openai/*", "anything", "groq/x"):
            assert found.find(name) is None

    def test_a_key_that_looks_like_a_variable_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        reach("model: ollama/x, access_key: $MY-KEY")
        assert "2: 'ollama/x': its access_key begins with '$' and names no variable" in caplog.text
        assert "MY-KEY" not in caplog.text

    def test_an_alias_that_hides_something_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        aliases = "model_aliases: {auto: {target: ollama/x}, ollama/x: {target: ollama/y}, y: {target: ollama/y}}\n"
        Reach(parse_config("model_providers: [{model: ollama/x, default: true}, {model: ollama/y}]\n" + aliases + TAIL))
        auto, hiding = (record.getMessage() for record in caplog.records)
        assert auto.startswith("the alias 'auto' cannot be asked for")
        assert hiding == "the alias 'ollama/x' hides the model of the same name; rename it"

    @pytest.mark.parametrize(("name", "entry"), [("y", "model: ollama/y"), ("mine", "model: ollama/y, name: mine")])
    def test_an_alias_comes_before_another_name_of_a_model(
        self, caplog: pytest.LogCaptureFixture, name: str, entry: str
    ) -> None:
        aliases = f"model_aliases: {{{name}: {{target: ollama/x}}}}\n"
        found = Reach(parse_config(f"model_providers: [{{model: ollama/x, default: true}}, {{{entry}}}]\n{aliases}{TAIL}"))
        assert found.canonical(name) == name
        assert caplog.messages == [f"the alias {name!r} hides the model of the same name, 'ollama/y'; rename it"]

    def test_an_alias_may_have_its_own_name_as_a_target(self, caplog: pytest.LogCaptureFixture) -> None:
        aliases = "model_aliases: {y: {target: y}}\n"
        found = Reach(parse_config("model_providers: [{model: ollama/y, default: true}]\n" + aliases + TAIL))
        target = found.find("y")
        assert target is not None
        assert target.model == "ollama/y"
        assert caplog.messages == []

    def test_of_two_ways_to_reach_a_model_the_first_is_used(self, caplog: pytest.LogCaptureFixture) -> None:
        """archgw 0.3 has one model under several names."""
        entries = ("model: openai/x, name: a, access_key: $KEY", "model: openai/x, name: b, access_key: $OTHER_KEY")
        with caplog.at_level(logging.WARNING):
            found = reach(*entries)
        assert "'openai/x' has two definitions that reach it in different ways; the first, on line 2, is used" in caplog.text
        for name in ("a", "b", "x"):
            target = found.find(name)
            assert target is not None
            assert headers_of(target) == {b"authorization": b"Bearer " + KEY.encode()}

    def test_a_gateways_own_router_is_no_target(self) -> None:
        found = reach("model: ollama/x", "model: Arch-Router, name: arch-router, provider_interface: arch")
        assert found.models == ("ollama/x",)
        assert found.find("Arch-Router") is None

    def test_models_that_are_named_but_not_defined(self) -> None:
        text = "routing_preferences:\n  - {name: bugs, description: d, models: [ollama/a, MODEL]}\n"
        assert Reach(parse_config(text.replace("MODEL", "vllm/b")), {}).models == ("ollama/a", "vllm/b")
        with pytest.raises(ConfigError, match=r"some-model.*names no provider") as caught:
            Reach(parse_config(text.replace("MODEL", "some-model")), {})
        assert caught.value.line == 2


class TestWhatCannotBeReached:
    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ("model: openai/x", r"'openai/x'.*without a key; add access_key: \$OPENAI_API_KEY"),
            ("model: openai/x, base_url: 'https://api.openai.com/v1'", "without a key"),
            ("model: openai/x, access_key: $MISSING", "variable MISSING is not set"),
            ("model: openai/x, access_key: $EMPTY", "variable EMPTY is not set"),
            ("model: ollama/x, headers: {X-A: 'b ${MISSING}'}", "variable MISSING is not set"),
            ("model: ollama/x, headers: {Content-Length: '3'}", "'Content-Length' belongs to the connection"),
            ("model: acme/x", "'acme' is not known; add base_url and provider_interface"),
            ("model: acme/x, base_url: 'http://a'", "'acme' is not known; add provider_interface: openai"),
            ("model: acme/x, provider_interface: openai", "'acme' is not known; add its base_url"),
            ("model: olama/x", "or did you mean 'ollama'"),
            (
                "model: acme/x, base_url: 'http://a', provider_interface: acme",
                "unknown provider_interface 'acme'; known are openai",
            ),
            ("model: azure_openai/x, access_key: $KEY", "no address of its own; add the base_url"),
            ("model: azure_openai/x, base_url: 'http://a'", "without a key"),
            ("model: amazon_bedrock/x, base_url: 'http://a', access_key: $KEY", "Amazon Bedrock's own API is not spoken"),
            ("model: just-a-name", "names no provider"),
            *(
                (f"model: ollama/x, base_url: '{bad}'", "base_url is not an address")
                for bad in ("localhost:1/v1", "ftp://a", "http://", "http://a:port", "http://a:99999", "http://a b/")
            ),
            ("model: ollama/x, base_url: 'http://me:pw@a/v1'", "holds a user or password"),
            ("model: ollama/x, base_url: 'http://a/v1#b'", "after '#'"),
            ("model: ollama/x, base_url: 'http://a/v1/chat/completions'", "ends with /chat/completions"),
        ],
    )
    def test_it_is_an_error_at_start_with_its_line(self, entry: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            reach("model: vllm/first", entry)
        assert caught.value.line == 3
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("value", ["two\nlines-of-secret", "sécret-of-some-length"])
    def test_a_key_that_no_header_can_hold_is_not_shown(self, value: str) -> None:
        with pytest.raises(ConfigError, match="characters that no header can hold") as caught:
            reach("model: openai/x, access_key: $BAD", environment={"BAD": value})
        assert "secret" not in str(caught.value).replace("access_key", "")
        assert "cret" not in str(caught.value)

    def test_a_line_of_the_field_at_fault(self) -> None:
        text = "model_providers:\n  - model: openai/x\n    base_url: http://a\n    access_key: $MISSING\n" + TAIL
        (problem,) = forwarding_problems(parse_config(text), {})
        assert problem.line == 4

    def test_all_reasons_at_once(self) -> None:
        text = (
            "model_providers:\n  - {model: openai/x, access_key: $A}\n  - {model: ollama/y}\n  - {model: acme/z}\n"
            + TAIL
            + "archroute: {keys: [{name: alice, key: $B}]}\n"
        )
        config = parse_config(text)
        assert [problem.line for problem in forwarding_problems(config, {})] == [2, 4, 6]
        with pytest.raises(ConfigError, match=r"'openai/x'.*\(and 2 more problems; archroute check names them\)") as caught:
            Reach(config, {})
        assert caught.value.line == 2
        assert forwarding_problems(parse_config(TAIL), {}) == ()


def test_a_clients_own_version_of_anthropics_api_passes(upstream: Upstream) -> None:
    """A default of ours in its place would break what the client's package was made for."""
    text = "model_providers: [{model: anthropic/x, access_key: $KEY, base_url: BASE}]\n" + TAIL
    config = parse_config(text.replace("BASE", upstream.url))
    body = {"model": "anthropic/x", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}
    versions = []
    for headers in ({}, {"anthropic-version": "2099-01-01", "anthropic-beta": "some-feature"}):
        gateway = Gateway(config, Kept(), environment=ENVIRONMENT)
        asked = request(body, "messages", headers={**headers, "x-api-key": "of-the-client"})
        assert run(gateway, lambda gateway=gateway, asked=asked: ask(gateway, asked)).status == 200  # type: ignore[misc]
        arrival = upstream.next_arrival()
        assert arrival.header("x-api-key") == KEY
        versions.append((arrival.header("anthropic-version"), arrival.header("anthropic-beta")))
    assert versions == [("2023-06-01", None), ("2099-01-01", "some-feature")]
