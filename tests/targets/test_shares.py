"""Traffic of routes and aliases: shares, ramps and shadows, drawn by key."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.config import (
    ForwardSettings,
    ModelFacts,
    Ramp,
    RoutingConfig,
    Shadow,
    TrafficRule,
    WeightedModel,
    parse_config,
)
from archroute_edge.targets import RequestFacts, order_targets

N = 2000
START = datetime(2026, 12, 1, tzinfo=timezone.utc)
DAY = 86400.0
RAMP = Ramp("a/new", 0.01, 0.5, START, 7 * DAY)
CONFIG = parse_config(
    "model_aliases: {split: {targets: [{model: a/old, weight: 1}, {model: a/new, weight: 1}, {model: a/third, weight: 1}]}}\n"
    "routing_preferences: [{name: bugs, description: d, models: [a/old, a/new, a/third]}]"
)


def with_rule(rule: TrafficRule, place: str = "bugs", models: Mapping[str, ModelFacts] | None = None) -> RoutingConfig:
    facts = models or {}
    if place == "bugs":
        return replace(CONFIG, forward=ForwardSettings(models=facts, routes={place: rule}))
    # An alias states its weights itself.
    targets = tuple(WeightedModel(each.model, rule.weights.get(each.model, each.weight)) for each in CONFIG.aliases[place])
    forward = ForwardSettings(models=facts, aliases={place: replace(rule, weights={})})
    return replace(CONFIG, aliases={place: targets}, forward=forward)


def firsts(config: RoutingConfig, now: float = 0.0, n: int = N, place: str = "bugs") -> list[str | None]:
    return [order_targets(config, place, direct=place != "bugs", key=f"s{index}", now=now).first for index in range(n)]


def assert_share(count: int, share: float) -> None:
    """Within 3.3 standard deviations of a binomial: 1 in 1,000 would be outside, and the keys are fixed."""
    assert abs(count - N * share) <= 3.3 * math.sqrt(N * share * (1 - share)), (count, share)


@pytest.mark.parametrize("place", ["bugs", "split"])
@pytest.mark.parametrize("weights", [{"a/old": 9, "a/new": 1, "a/third": 0}, {"a/old": 0.5, "a/new": 0.3, "a/third": 0.2}])
def test_weights_are_shares_of_conversations(place: str, weights: dict[str, float]) -> None:
    count = Counter(firsts(with_rule(TrafficRule(weights=weights), place), place=place))
    for model, weight in weights.items():
        assert_share(count[model], weight / sum(weights.values()))


@pytest.mark.parametrize(
    ("days", "share"), [(-1, 0.0), (0, 0.01), (1, 0.08), (3.5, 0.255), (7, 0.5), (1000, 0.5)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("weights", [{}, {"a/old": 3, "a/third": 1, "a/new": 5}], ids=["first-takes-rest", "weights"])
def test_a_ramp_is_a_share_that_the_clock_tells(days: float, share: float, weights: dict[str, float]) -> None:
    config = with_rule(TrafficRule(weights=weights, ramp=RAMP))
    count = Counter(firsts(config, START.timestamp() + days * DAY))
    assert_share(count["a/new"], share)
    assert_share(count["a/third"], (1 - share) / 4 if weights else 0.0)


def test_a_target_whose_ramp_has_not_begun_gets_nothing_not_even_as_a_fallback() -> None:
    config = with_rule(TrafficRule(ramp=RAMP))
    before = order_targets(config, "bugs", key="s", now=START.timestamp() - 1)
    assert (before.models, before.reason) == (("a/old", "a/third"), "listed")
    after = order_targets(config, "bugs", key="s", now=START.timestamp())
    assert (set(after.models), after.reason) == ({"a/old", "a/new", "a/third"}, "ramp")


def test_a_ramp_to_the_whole_keeps_the_others_as_fallbacks() -> None:
    config = with_rule(TrafficRule(ramp=replace(RAMP, last=1.0)))
    models = order_targets(config, "bugs", key="s", now=START.timestamp() + 8 * DAY).models
    assert models == ("a/new", "a/old", "a/third")


def test_a_rising_ramp_moves_conversations_to_its_target_alone() -> None:
    config = with_rule(TrafficRule(weights={"a/old": 3, "a/third": 1}, ramp=RAMP))
    days = [firsts(config, START.timestamp() + day * DAY, 500) for day in range(-1, 8)]
    for before, after in pairwise(days):
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert moved
        assert {new for _, new in moved} == {"a/new"}


def test_a_changed_weight_moves_conversations_to_or_from_its_target_alone() -> None:
    weights = {"a/old": 5.0, "a/new": 3.0, "a/third": 2.0}
    before = firsts(with_rule(TrafficRule(weights=weights)), n=500)
    for weight in (0.0, 1.0, 6.0):
        after = firsts(with_rule(TrafficRule(weights={**weights, "a/new": weight})), n=500)
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert moved
        assert all((new if weight > 3 else old) == "a/new" for old, new in moved)


_DRAW = """
from archroute_edge.config import parse_config
from archroute_edge.targets import order_targets
config = parse_config('''
routing_preferences: [{name: bugs, description: d, models: [a/old, a/new, a/third]}]
archroute:
  routes:
    bugs: {weights: {a/old: 3, a/third: 1}, ramp: {model: a/new, from: 1%, to: 50%, start: 2026-12-01, over: 7d}}
''')
# Four days after the start.
print("".join(str(order_targets(config, "bugs", key=f"s{n}", now=1796428800.0).first)[2] for n in range(60)))
"""


def test_keys_draw_the_same_in_every_process() -> None:
    """Python's own hash differs from process to process, so a draw by it would send a conversation elsewhere on a restart."""
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", _DRAW], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "noottnononoonntooonnoootnnoonotoooootnonnoonoontnnttoonttnon"


def test_a_route_and_its_aliases_draw_independently() -> None:
    """With equal draws, all conversations of the route's first tenth would be in the first tenth of its alias, too."""
    config = parse_config(
        "model_aliases: {bugs: {targets: [{model: a/old, weight: 1}, {model: a/new, weight: 1}]}}\n"
        "routing_preferences: [{name: bugs, description: d, models: [a/old, a/new]}]"
    )
    config = replace(config, forward=ForwardSettings(routes={"bugs": TrafficRule(weights={"a/old": 1, "a/new": 1})}))
    by_route = firsts(config)
    by_alias = [order_targets(config, "bugs", direct=True, key=f"s{index}", now=0).first for index in range(N)]
    assert_share(sum(a == b for a, b in zip(by_route, by_alias, strict=True)), 0.5)


def test_targets_without_a_stated_weight_are_fallbacks() -> None:
    seen = {
        order_targets(with_rule(TrafficRule(weights={"a/new": 1, "a/third": 1})), "bugs", key=str(index), now=0).models
        for index in range(50)
    }
    assert seen == {("a/new", "a/third", "a/old"), ("a/third", "a/new", "a/old")}


def test_a_filtered_target_leaves_its_share_to_those_that_would_have_it() -> None:
    """The first of the others takes the rest of a ramp: if it cannot take the request, the next does, not the ramp's target."""
    config = with_rule(TrafficRule(ramp=RAMP), models={"a/old": ModelFacts(images=False)})
    count: Counter[str | None] = Counter()
    facts = RequestFacts(images=True)
    for index in range(N):
        count[order_targets(config, "bugs", facts=facts, key=f"s{index}", now=START.timestamp() + DAY).first] += 1
    assert_share(count["a/new"], 0.08)
    assert_share(count["a/third"], 0.92)


def test_a_shadow_is_drawn_by_key() -> None:
    config = with_rule(TrafficRule(shadow=Shadow("a/shadow", 0.05)))
    drawn = [order_targets(config, "bugs", key=f"s{index}", now=0).shadow for index in range(N)]
    assert set(drawn) == {None, "a/shadow"}
    assert_share(N - drawn.count(None), 0.05)
    assert drawn[:500] == [order_targets(config, "bugs", key=f"s{index}", now=9e9).shadow for index in range(500)]
    more = with_rule(TrafficRule(shadow=Shadow("a/shadow", 0.5)))
    assert all(order_targets(more, "bugs", key=f"s{index}", now=0).shadow for index in range(N) if drawn[index])


@pytest.mark.parametrize(
    ("shadow", "facts", "expected"),
    [
        (Shadow("a/shadow", 1.0), RequestFacts(), "a/shadow"),
        (Shadow("a/shadow", 0.0), RequestFacts(), None),
        (Shadow("a/old", 1.0), RequestFacts(), None),
        (Shadow("a/shadow", 1.0), RequestFacts(tools=True), None),
    ],
    ids=["all", "none", "itself", "cannot take it"],
)
def test_a_shadow_is_another_model_that_can_take_the_request(shadow: Shadow, facts: RequestFacts, expected: str | None) -> None:
    config = with_rule(TrafficRule(shadow=shadow), models={"a/shadow": ModelFacts(tools=False)})
    assert order_targets(config, "bugs", facts=facts, now=0).shadow == expected


_WEIGHTS = st.dictionaries(st.sampled_from(["a/old", "a/new", "a/third"]), st.sampled_from([0.0, 1.0, 9.0]))
_RAMPS = st.none() | st.builds(
    Ramp,
    st.sampled_from(["a/old", "a/new", "a/elsewhere"]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 1.0]),
    st.just(START),
    st.sampled_from([0.0, DAY]),
)


@settings(max_examples=30)
@given(
    weights=_WEIGHTS,
    ramp=_RAMPS,
    unfit=st.sets(st.sampled_from(["a/old", "a/new", "a/third"])),
    hours=st.integers(-1, 30),
    key=st.none() | st.text(max_size=3),
    place=st.sampled_from(["bugs", "split"]),
)
def test_every_target_stands_in_the_order_once_or_is_left_out(
    weights: dict[str, float], ramp: Ramp | None, unfit: set[str], hours: int, key: str | None, place: str
) -> None:
    """A request that lost its last target to a rule would fail though somebody could have answered it."""
    config = with_rule(
        TrafficRule(weights=weights, ramp=ramp), place, {model: ModelFacts(context_window=10) for model in unfit}
    )
    order = order_targets(
        config,
        place,
        direct=place == "split",
        facts=RequestFacts(prompt_tokens=11),
        key=key,
        now=START.timestamp() + hours * 3600,
    )
    assert order.models and order.reason is not None
    assert len(set(order.models)) == len(order.models)
    assert {*order.models, *(each.model for each in order.left_out)} <= {"a/old", "a/new", "a/third"}
    if order.reason != "none_fits":
        assert not unfit & set(order.models)
    fit = {model for model in ("a/old", "a/new", "a/third") if weights.get(model, 1) > 0 and model not in unfit}
    missing = fit - set(order.models)
    assert not missing or (ramp is not None and missing <= {ramp.model}) or order.reason == "none_fits"
