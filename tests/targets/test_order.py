from __future__ import annotations

import random
from collections import Counter

import pytest

from archroute_edge.config import RoutingConfig, parse_config
from archroute_edge.errors import RouteTableError
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets import order_targets

SPLIT = """
default_model: fast
model_aliases:
  fast: {target: a/mini}
  split: {targets: [{model: a/big, weight: 80}, {model: b/new, weight: 20}, {model: c/off, weight: 0}]}
routing_preferences:
  - {name: code, description: d, models: [a/big, b/new], selection_policy: {prefer: fastest}}
  - {name: talk, description: d, models: [fast, a/mini, c/last]}
  - {name: trial, description: d, models: [split, a/big, c/last]}
  - {name: bare, description: d}
"""


@pytest.fixture
def config() -> RoutingConfig:
    return parse_config(SPLIT)


@pytest.mark.parametrize(
    ("route", "models"),
    [
        ("code", ("a/big", "b/new")),
        ("talk", ("a/mini", "c/last")),
        ("bare", ("a/mini",)),
        ("other", ("a/mini",)),
        (None, ("a/mini",)),
    ],
)
def test_models_of_a_route(config: RoutingConfig, route: str | None, models: tuple[str, ...]) -> None:
    choice = order_targets(config, route, now=0)
    assert choice.models == models
    assert choice.first == models[0]


def test_no_model_is_invented() -> None:
    config = RoutingConfig(RouteTable([Route("code", "d")]))
    for route in ("code", "other", None):
        assert order_targets(config, route, now=0).models == ()
        assert order_targets(config, route, now=0).first is None


def test_an_unknown_route_is_an_error(config: RoutingConfig) -> None:
    with pytest.raises(RouteTableError, match="nowhere"):
        order_targets(config, "nowhere", now=0)


def test_a_split_falls_back_to_its_other_targets_and_never_to_weight_0(config: RoutingConfig) -> None:
    seen = {order_targets(config, "trial", key=str(index), now=0).models for index in range(100)}
    assert seen == {("a/big", "b/new", "c/last"), ("b/new", "a/big", "c/last")}


def test_a_key_sticks(config: RoutingConfig) -> None:
    for key in ("session-1", "", "日本", "\ud800"):
        first = order_targets(config, "trial", key=key, now=0)
        assert all(order_targets(config, "trial", key=key, rng=random.Random(seed), now=0) == first for seed in range(20))


def test_keys_draw_the_same_on_every_machine(config: RoutingConfig) -> None:
    drawn = "".join(order_targets(config, "trial", key=f"session-{index}", now=0).models[0][0] for index in range(20))
    assert drawn == "aaababaabbabaaaaaaaa"


@pytest.mark.parametrize("keyed", [True, False])
def test_shares_follow_the_weights(config: RoutingConfig, keyed: bool) -> None:
    rng = random.Random(7)
    count = Counter(
        order_targets(config, "trial", key=f"k{index}" if keyed else None, rng=rng, now=0).first for index in range(5000)
    )
    assert 0.77 < count["a/big"] / 5000 < 0.83


def test_an_injected_generator_makes_draws_repeatable(config: RoutingConfig) -> None:
    def draws(seed: int) -> list[str | None]:
        rng = random.Random(seed)
        return [order_targets(config, "trial", rng=rng, now=0).first for _ in range(50)]

    assert draws(1) == draws(1)
    assert len(set(draws(1))) == 2


def test_without_key_or_generator_draws_vary(config: RoutingConfig) -> None:
    assert {order_targets(config, "trial", now=0).first for _ in range(400)} == {"a/big", "b/new"}


def test_a_changed_weight_moves_only_what_it_must(config: RoutingConfig) -> None:
    """A plain hash over the total would reshuffle conversations between targets that did not change."""
    changed = parse_config(SPLIT.replace("weight: 20", "weight: 40"))
    for index in range(500):
        before = order_targets(config, "trial", key=str(index), now=0).first
        after = order_targets(changed, "trial", key=str(index), now=0).first
        assert after == before or (before, after) == ("a/big", "b/new")
