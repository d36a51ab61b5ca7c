"""``selection_policy: {prefer: quality, ...}``: what it says, and what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from archroute_edge.config import QualityPolicy, RoutingConfig, load_config, parse_config
from archroute_edge.errors import ConfigError

TEXT = """\
default_model: a/small
model_providers:
  - {{model: a/small}}
  - {{model: b/large, name: big}}
  - {{model: c/spare}}
model_aliases:
  split: {{targets: [{{model: c/spare, weight: 1}}]}}
routing_preferences:
  - name: code
    description: code and more
    models: [a/small, big, split]
    selection_policy: {policy}
"""


def policy_of(policy: str, path: Path | None = None) -> QualityPolicy:
    config = parse_config(TEXT.format(policy=policy), path=path)
    assert config.selection == {"code": "quality"}
    return config.quality["code"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{prefer: quality}", QualityPolicy()),
        ("{prefer: quality, predictor: my.safetensors}", QualityPolicy(Path("my.safetensors"))),
        ("{prefer: quality, share: 0.3}", QualityPolicy(share=0.3)),
        ("{prefer: quality, share: 30%}", QualityPolicy(share=0.3)),
        ("{prefer: quality, share: 0}", QualityPolicy(share=0.0)),
        ("{prefer: quality, cost_per_1k: 2.50}", QualityPolicy(cost_per_1k=2.5)),
        ("{prefer: quality, rate: 0.1, predictor: }", QualityPolicy(rate=0.1)),
        (
            "{prefer: quality, scored_as: {a/small: small, big: frontier, spare: mid}}",
            QualityPolicy(scored_as={"a/small": "small", "b/large": "frontier", "c/spare": "mid"}),
        ),
    ],
)
def test_what_a_policy_says(policy: str, expected: QualityPolicy) -> None:
    assert policy_of(policy) == expected


def test_a_predictor_is_sought_beside_the_file_that_names_it(tmp_path: Path) -> None:
    """A server is started anywhere."""
    found = policy_of("{prefer: quality, predictor: models/my.safetensors}", tmp_path / "routes.yaml")
    assert found.predictor == tmp_path / "models" / "my.safetensors"
    found = policy_of("{prefer: quality, predictor: /opt/my.safetensors}", tmp_path / "routes.yaml")
    assert found.predictor == Path("/opt/my.safetensors")
    found = policy_of("{prefer: quality, predictor: ~/my.safetensors}", tmp_path / "routes.yaml")
    assert found.predictor == Path.home() / "my.safetensors"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            "{prefer: best}",
            "needs prefer: none, cheapest, fastest, long_context_quality or quality, not 'best'",
        ),
        ("{prefer: cheapest, share: 0.3}", "share is for prefer: quality, not 'cheapest'; leave it out"),
        ("{prefer: qualty, share: 0.3}", "or quality, not 'qualty'"),
        ("{share: 0.3}", "needs prefer: none, cheapest"),
        ("{prefer: quality, share: 0.3, rate: 1}", "share and rate are two ways to say what an answer may cost; keep one"),
        ("{prefer: quality, cost_per_1k: 1, rate: 1}", "cost_per_1k and rate are two ways"),
        ("{prefer: quality, share: 1.5}", "share must be from 0 to 1, or from 0% to 100%, not '1.5'"),
        ("{prefer: quality, share: many}", "share must be a share: 5%, or a number from 0 to 1"),
        ("{prefer: quality, rate: -1}", "rate is below 0"),
        ("{prefer: quality, rate: .inf}", "rate must be a finite"),
        ("{prefer: quality, cost_per_1k: -0.1}", "cost_per_1k is below 0"),
        ("{prefer: quality, predictor: 3}", "predictor must be text"),
        ("{prefer: quality, predictor: ''}", "predictor is empty"),
        ("{prefer: quality, shares: 0.3}", "unknown key 'shares' in a selection policy; did you mean 'share'?"),
        ("{prefer: quality, threshold: 0.3}", "did you mean 'share'?"),
        ("{prefer: quality, scored_as: small}", "scored_as must be a mapping"),
        ("{prefer: quality, scored_as: {d/none: small}}", "the file defines no model 'd/none'"),
        ("{prefer: quality, scored_as: {split: small}}", "'split' is an alias; name a model"),
        ("{prefer: quality, scored_as: {a/small: ''}}", "scored_as: 'a/small' is empty"),
        ("{prefer: quality, scored_as: {big: x, b/large: y}}", "has two names for 'b/large'"),
    ],
)
def test_what_is_wrong_with_a_policy_is_an_error_with_its_line(policy: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(TEXT.format(policy=policy))
    assert message in str(caught.value)
    assert caught.value.line == 12


def test_a_name_for_a_model_of_another_route_is_an_error() -> None:
    text = TEXT.format(policy="{prefer: quality, scored_as: {c/spare: x}}").replace(", split]", "]")
    with pytest.raises(ConfigError, match=r"the route has no target 'c/spare'; its targets are 'a/small', 'b/large'"):
        parse_config(text)


def test_a_gateways_file_may_prefer_quality_too() -> None:
    config = parse_config("version: v0.4.0\n" + TEXT.format(policy="{prefer: quality, share: 0.3}"))
    assert (config.format, config.quality["code"].share) == ("gateway", 0.3)


def test_another_predictor_under_the_same_name_is_another_configuration(tmp_path: Path) -> None:
    """A server takes a configuration only if it differs from the one in use."""
    path, predictor = tmp_path / "routes.yaml", tmp_path / "my.safetensors"
    path.write_text(TEXT.format(policy="{prefer: quality, predictor: my.safetensors}"))
    missing = load_config(path)
    predictor.write_bytes(b"one")
    first = load_config(path)
    assert first == load_config(path) != missing
    os.utime(predictor, ns=(1, 1))
    assert load_config(path) != first
    assert load_config(path).quality["code"].modified == 1


def test_where_a_policy_stands_is_no_part_of_what_it_says() -> None:
    """A comment above it would end every session."""
    text = TEXT.format(policy="{prefer: quality, share: 0.3}")
    one, other = parse_config(text), parse_config("# why\n" + text)
    assert (one.quality["code"].line, other.quality["code"].line) == (12, 13)
    assert without_lines(one) == without_lines(other)


def without_lines(config: RoutingConfig) -> RoutingConfig:
    return replace(config, route_lines={})
