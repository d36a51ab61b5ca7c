"""The section ``archroute`` and the provider fields that forwarding reads."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from archroute_edge.config import (
    Canary,
    ForwardSettings,
    KeyRule,
    ModelFacts,
    Price,
    Ramp,
    RoutingConfig,
    Shadow,
    TrafficRule,
    load_config,
    parse_config,
)
from archroute_edge.errors import ConfigError

HEAD = """model_providers:
  - {model: acme/small, access_key: $ACME, default: true}
  - {model: acme/large, access_key: $ACME}
  - {model: house/free, name: free, base_url: "http://localhost:1/v1", provider_interface: openai}
  - {model: many/*, access_key: $MANY}
model_aliases:
  both: {targets: [{model: small, weight: 1}, {model: large, weight: 1}]}
routing_preferences:
  - {name: code, description: Writing of code, models: [small, large]}
  - {name: talk, description: Small talk, models: [both, many/one]}
"""
FIRST_LINE = HEAD.count("\n") + 1


def section(text: str) -> RoutingConfig:
    return parse_config(f"{HEAD}archroute:\n{text}")


def test_every_key_of_the_section(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    (tmp_path / "prices.json").write_text("{}", encoding="utf-8")
    path.write_text(
        HEAD
        + """archroute:
  models:
    small: {context_window: 128_000, images: no, tools: yes, first_byte_timeout: 20s, price: {input: 0.5, output: 2, cached: 0}}
    many/one: {images: true}
  prices: prices.json
  routes:
    code:
      weights: {small: 9}
      ramp: {model: acme/large, from: 1%, to: 50%, start: 2026-12-01T00:00:00Z, over: 7d}
      canary: {model: large, window: 50, error_margin: 2%, latency_margin: 150%}
      shadow: {model: free, share: 0.25}
    other: {shadow: {model: many/two, share: 5%}}
  aliases:
    both: {canary: {model: large}}
  keys:
    - {name: alice, key: $ALICE, requests_per_minute: 60, tokens_per_minute: 1000}
    - {name: bob, key: $BOB}
  timeout: 2m
  first_byte_timeout: 1.5
  rest: {after: 5, for: 10m}
  sessions: {ttl: 1h, max_switch_spend_pct: 10}
""",
        encoding="utf-8",
    )
    start = datetime(2026, 12, 1, tzinfo=timezone.utc)
    assert load_config(path).forward == ForwardSettings(
        models={
            "acme/small": ModelFacts(128_000, False, True, Price(0.5, 2.0, 0.0), 20.0),
            "many/one": ModelFacts(images=True),
        },
        prices=tmp_path / "prices.json",
        routes={
            "code": TrafficRule(
                {"acme/small": 9.0},
                Ramp("acme/large", 0.01, 0.5, start, 604_800.0),
                Canary("acme/large", 50, 0.02, 1.5),
                Shadow("house/free", 0.25),
            ),
            "other": TrafficRule(shadow=Shadow("many/two", 0.05)),
        },
        aliases={"both": TrafficRule(canary=Canary("acme/large"))},
        keys=(KeyRule("alice", "$ALICE", 60, 1000), KeyRule("bob", "$BOB")),
        timeout=120.0,
        first_byte_timeout=1.5,
        rest_after=5,
        rest=600.0,
        max_switch_spend_pct=10.0,
        session_ttl=3600.0,
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("  tiemout: 3\n", 1, "unknown key 'tiemout' in the section 'archroute'; did you mean 'timeout'?"),
        ("  weights: {small: 1}\n", 1, "it stands under a route in 'routes' or an alias in 'aliases'"),
        ("  timeout: 0\n", 1, "timeout must be more than 0"),
        ("  timeout: 12x\n", 1, "timeout must be a time: seconds, or 90s, 15m, 12h, 7d, 2w, not '12x'"),
        ("  models:\n    smal: {}\n", 2, "the file defines no model 'smal'; it defines"),
        ("  models:\n    both: {}\n", 2, "'both' is an alias; name a model"),
        ("  models:\n    small: {}\n    acme/small: {}\n", 3, "the model 'acme/small' stands here twice"),
        ("  models: {small: {context_window: 0.5}}\n", 1, "context_window must be a whole number of at least 1"),
        ("  models: {small: {price: {input: 1}}}\n", 1, "the price of 'small' without 'output'"),
        ("  models: {small: {price: {input: -1, output: 1}}}\n", 1, "input is below 0"),
        ("  routes: {cod: {}}\n", 1, "the file has no route 'cod'; it has 'code', 'talk', 'other'"),
        (
            "  routes: {code: {weights: {free: 1}}}\n",
            1,
            "has no target 'house/free'; its targets are 'acme/small', 'acme/large'",
        ),
        ("  routes: {code: {weights: {small: 0}}}\n", 1, "has no weight above 0"),
        ("  routes: {code: {weights: {small: 1, acme/small: 2}}}\n", 1, "two weights for 'acme/small'"),
        ("  aliases: {both: {weights: {small: 1}}}\n", 1, "has its weights in 'model_aliases'"),
        ("  routes: {code: {ramp: {model: large, over: 1d}}}\n", 1, "the ramp of route 'code' without 'start'"),
        ("  routes: {code: {ramp: {model: large, start: 2026-12-01T09:00:00, over: 1d}}}\n", 1, "no time zone: add one"),
        ("  routes: {code: {ramp: {model: large, start: today, over: 1d}}}\n", 1, "must be a time with its zone"),
        ("  routes: {code: {ramp: {model: large, start: 2026-12-01, over: 1d, to: 120%}}}\n", 1, "from 0% to 100%, not '120%'"),
        (
            "  routes: {code: {weights: {large: 1}, ramp: {model: large, start: 2026-12-01, over: 1d}}}\n",
            1,
            "the share of 'acme/large' comes from its ramp",
        ),
        ("  routes: {other: {canary: {model: small}}}\n", 1, "has one target, so there is no incumbent"),
        ("  routes: {code: {canary: {model: large, window: 3}}}\n", 1, "window must be a whole number of at least 10"),
        ("  routes: {code: {shadow: {model: both, share: 1%}}}\n", 1, "'both' is an alias; name a model"),
        ("  keys: [{name: a, key: x}, {name: a, key: y}]\n", 1, "two keys of clients have the name of 'a'"),
        ("  sessions: {max_switch_spend_pct: 120}\n", 1, "is a percentage, from 0 to 100"),
    ],
)
def test_a_mistake_is_an_error_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(text)
    assert message in str(caught.value)
    assert caught.value.line == FIRST_LINE + line


def test_an_unknown_key_of_ours_is_an_error_in_another_programs_file_too() -> None:
    """No other program reads the section, so no later release of one can have added the key."""
    with pytest.raises(ConfigError, match="unknown key 'shiny'"):
        parse_config(f"version: v0.4.0\n{HEAD}archroute: {{shiny: 1}}\n")


def test_a_home_that_is_not_known_is_no_file(tmp_path: Path) -> None:
    """It was a traceback."""
    path = tmp_path / "a.yaml"
    path.write_text(f"{HEAD}archroute: {{prices: ~nosuchuser/p.json}}\n")
    with pytest.raises(ConfigError, match=r"the price file .*/~nosuchuser/p\.json: cannot be read: No such file"):
        load_config(path)


@pytest.mark.parametrize(
    ("written", "hours"),
    [("2026-12-01", 0), ("2026-12-01T02:00:00+02:00", 0), ('"2026-12-01 01:00:00Z"', 1), ("2026-12-01T01:00:00.0Z", 1)],
)
def test_ways_to_write_a_start(written: str, hours: int) -> None:
    ramp = section(f"  routes: {{code: {{ramp: {{model: large, start: {written}, over: 1}}}}}}\n").forward.routes["code"].ramp
    assert ramp is not None
    assert ramp.start == datetime(2026, 12, 1, tzinfo=timezone.utc) + timedelta(hours=hours)


class TestUpstreams:
    """The fields of a provider entry that say how its model is reached."""

    def test_the_fields_of_today(self) -> None:
        config = parse_config(
            "model_providers:\n"
            "  - model: acme/one\n"
            "    access_key: $KEY\n"
            "    base_url: https://acme.example/v2\n"
            "    provider_interface: openai\n"
            "    passthrough_auth: true\n"
            "    headers: {X-Team: blue}\n"
            "default_model: one\n"
            "routing_preferences: [{name: code, description: Writing of code}]\n"
        )
        upstream = config.models[0].upstream
        assert (upstream.access_key, upstream.base_url) == ("$KEY", "https://acme.example/v2")
        assert (upstream.interface, upstream.passthrough_auth, dict(upstream.headers)) == ("openai", True, {"X-Team": "blue"})
        assert (upstream.lines["model"], upstream.lines["access_key"]) == (2, 3)

    @pytest.mark.parametrize(
        ("fields", "base_url"),
        [
            ("endpoint: host.docker.internal:11434", "http://host.docker.internal:11434"),
            ("endpoint: api.acme.example, protocol: https", "https://api.acme.example"),
            ("endpoint: localhost, port: 8001", "http://localhost:8001"),
            ("endpoint: api.acme.example:443", "https://api.acme.example:443"),
            ("base_url: http://localhost:1, base_url_path_prefix: /v2", "http://localhost:1/v2"),
        ],
    )
    def test_addresses_of_earlier_releases(self, fields: str, base_url: str) -> None:
        config = parse_config(
            f"version: '0.1'\nllm_providers:\n  - {{name: one, provider: openai, model: m, {fields}, usage: Writing}}\n"
        )
        upstream = config.models[0].upstream
        assert (upstream.base_url, upstream.interface) == (base_url, "openai")

    @pytest.mark.parametrize(
        ("field", "message"),
        [
            ("access_key: 12345678", "access_key must be text in quotes, not a number"),
            ("headers: {X-Key: 12345678}", "the header 'X-Key' must be text in quotes, not a number"),
            ('headers: {X-Key: "1234\\n5678"}', "the header 'X-Key' must be printable ASCII"),
            ("headers: {X Key: 12345678}", "the header 'X Key' must be text in quotes"),
            ("passthrough_auth: 12345678", "passthrough_auth must be true or false"),
        ],
    )
    def test_a_mistake_does_not_show_a_secret(self, field: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_config(f"model_providers:\n  - {{model: acme/one, {field}}}\nrouting_preferences: [{{name: code}}]\n")
        assert message in str(caught.value)
        assert "5678" not in str(caught.value)

    def test_a_changed_key_or_address_is_a_changed_configuration(self) -> None:
        """A server takes a file that says something new, and only such a file."""
        one, other = (parse_config(HEAD.replace("$MANY", key)) for key in ("$MANY", "$OTHER"))
        assert one != other
        assert one == parse_config(f"{HEAD}# more\n")
