from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archroute_edge.config import (
    Canary,
    ForwardSettings,
    ModelDefinition,
    ModelFacts,
    Price,
    RoutingConfig,
    SelectionPolicy,
    TrafficRule,
    parse_config,
)
from archroute_edge.conversation import estimate_tokens
from archroute_edge.decision import ModelReason
from archroute_edge.errors import RouteTableError
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets import Anchor, LeftOut, Place, RequestFacts, TargetOrder, order_targets

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
  - {name: last, description: d, models: [c/last]}
"""


@pytest.fixture
def config() -> RoutingConfig:
    return parse_config(SPLIT)


@pytest.mark.parametrize(
    ("route", "models", "reason"),
    [
        ("code", ("a/big", "b/new"), "no_latencies"),
        ("talk", ("a/mini", "c/last"), "listed"),
        ("bare", ("a/mini",), "default_model"),
        ("other", ("a/mini",), "default_model"),
        (None, ("a/mini",), "default_model"),
        ("last", ("c/last",), "only_target"),
        ("trial", ("a/big", "b/new", "c/last"), "weights"),
    ],
)
def test_models_of_a_route(config: RoutingConfig, route: str | None, models: tuple[str, ...], reason: ModelReason) -> None:
    order = order_targets(config, route, key="1", now=0)
    assert (order.models, order.first, order.reason) == (models, models[0], reason)


@pytest.mark.parametrize(
    ("name", "models", "reason"),
    [
        ("fast", ("a/mini",), "asked_for"),
        ("split", ("a/big", "b/new"), "weights"),
        ("c/last", ("c/last",), "asked_for"),
        ("talk", ("talk",), "asked_for"),
    ],
)
def test_models_of_an_alias_or_of_a_model_that_a_client_asks_for(
    config: RoutingConfig, name: str, models: tuple[str, ...], reason: ModelReason
) -> None:
    order = order_targets(config, name, direct=True, key="1", now=0)
    assert (order.models, order.reason) == (models, reason)


def test_no_model_is_invented() -> None:
    config = RoutingConfig(RouteTable([Route("code", "d")]))
    for route in ("code", "other", None):
        assert order_targets(config, route, now=0) == TargetOrder((), None)


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
        order_targets(config, "trial", key=f"k{index}" if keyed else None, rng=rng, now=0).first for index in range(2000)
    )
    assert 0.77 < count["a/big"] / 2000 < 0.83


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


LISTED = parse_config("routing_preferences: [{name: r, description: d, models: [a/one, a/two, a/three]}]")


def facts_known(policy: SelectionPolicy = "none", percent: float | None = None, **facts: ModelFacts) -> RoutingConfig:
    models = {f"a/{name}": each for name, each in facts.items()}
    return replace(LISTED, selection={"r": policy}, forward=ForwardSettings(models=models, max_switch_spend_pct=percent))


@dataclass
class Known:
    """What a gateway knows of targets."""

    latencies: Mapping[str, float] = field(default_factory=dict)
    resting: tuple[str, ...] = ()
    withdrawn: tuple[tuple[Place, str], ...] = ()

    def latency_ms(self, model: str) -> float | None:
        return self.latencies.get(model)

    def is_resting(self, model: str) -> bool:
        return model in self.resting

    def is_withdrawn(self, place: Place, model: str) -> bool:
        return (place, model) in self.withdrawn


SMALL = ModelFacts(context_window=1000)
BLIND = ModelFacts(context_window=9000, images=False, tools=True)
SKILLED = ModelFacts(images=True, tools=True)


@pytest.mark.parametrize(
    ("facts", "models", "reason"),
    [
        (RequestFacts(), ("a/one", "a/two", "a/three"), "listed"),
        (RequestFacts(prompt_tokens=1000), ("a/one", "a/two", "a/three"), "listed"),
        (RequestFacts(prompt_tokens=900, answer_tokens=101), ("a/two", "a/three"), "listed"),
        (RequestFacts(prompt_tokens=90_000), ("a/three",), "only_one_fits"),
        (RequestFacts(images=True), ("a/one", "a/three"), "listed"),
        (RequestFacts(prompt_tokens=1001, images=True), ("a/three",), "only_one_fits"),
        (RequestFacts(tools=True), ("a/one", "a/two", "a/three"), "listed"),
    ],
)
def test_targets_that_cannot_take_the_request_are_left_out(
    facts: RequestFacts, models: tuple[str, ...], reason: ModelReason
) -> None:
    """What is not stated of a model leaves nothing out."""
    order = order_targets(facts_known(one=SMALL, two=BLIND, three=SKILLED), "r", facts=facts, now=0)
    assert (order.models, order.reason) == (models, reason)
    assert {each.model for each in order.left_out} == {"a/one", "a/two", "a/three"} - set(models)


def test_if_none_fits_the_listed_order_stays_and_each_one_says_why() -> None:
    no_tools = ModelFacts(tools=False)
    config = facts_known(one=SMALL, two=BLIND, three=no_tools)
    order = order_targets(config, "r", facts=RequestFacts(2000, images=True, tools=True), now=0)
    assert (order.models, order.reason) == (("a/one", "a/two", "a/three"), "none_fits")
    assert order.left_out == (
        LeftOut("a/one", "context_window"),
        LeftOut("a/two", "images"),
        LeftOut("a/three", "tools"),
    )
    order = order_targets(config, "r", facts=RequestFacts(2000, None, True, True), now=0, knowledge=Known(resting=("a/one",)))
    assert (order.models, order.reason) == (("a/two", "a/three", "a/one"), "none_fits")


def test_facts_are_found_under_either_name_of_a_model() -> None:
    definitions = (ModelDefinition("a/one", "first"), ModelDefinition("a/two", "second"))
    config = replace(facts_known(one=SMALL), models=definitions)
    by_name = replace(config, table=RouteTable([Route("r", "d", ["first", "second"])]))
    order = order_targets(by_name, "r", facts=RequestFacts(1001), now=0)
    assert order.models == ("second",)


@pytest.mark.parametrize(
    "text",
    ["How do I sort a list in Python? " * 50, "\u3053\u3093\u306b\u3061\u306f" * 100, "def f(x): return x[0] + 1\n" * 50],
)
def test_an_estimate_of_tokens_is_as_large_as_a_count(text: str) -> None:
    """Tokenizers of large models need a token for some two to six bytes."""
    n_bytes = len(text.encode())
    assert n_bytes / 6 < estimate_tokens([text]) < n_bytes / 2
    assert estimate_tokens([text, "\ud800"]) >= estimate_tokens([text])


@pytest.mark.parametrize(
    ("facts", "models"),
    [
        # 1,000 tokens in and 500 out, if nothing is known: 2.0, 1.7 and unknown, per thousand dollars.
        (RequestFacts(), ("a/two", "a/one", "a/three")),
        # Long prompts favour what reads for little, and short answers, too.
        (RequestFacts(prompt_tokens=50_000), ("a/one", "a/two", "a/three")),
        (RequestFacts(prompt_tokens=1000, answer_tokens=10), ("a/one", "a/two", "a/three")),
        (RequestFacts(prompt_tokens=10, answer_tokens=100_000), ("a/two", "a/one", "a/three")),
    ],
)
def test_cheapest_is_the_price_of_this_request(facts: RequestFacts, models: tuple[str, ...]) -> None:
    config = facts_known("cheapest", one=ModelFacts(price=Price(0.5, 3.0)), two=ModelFacts(price=Price(1.2, 1.0)))
    order = order_targets(config, "r", facts=facts, now=0)
    assert (order.models, order.reason) == (models, "cheapest")


def test_without_prices_cheapest_keeps_the_order_and_says_so() -> None:
    order = order_targets(facts_known("cheapest"), "r", now=0)
    assert (order.models, order.reason) == (("a/one", "a/two", "a/three"), "no_prices")


@pytest.mark.parametrize("policy", ["cheapest", "fastest", "quality"])
def test_a_policy_does_not_rank_the_default_that_stands_in(policy: SelectionPolicy) -> None:
    config = replace(parse_config(SPLIT), selection={"bare": policy})
    order = order_targets(config, "bare", now=0)
    assert (order.models, order.reason) == (("a/mini",), "default_model")
    order = order_targets(replace(config, default_model=None), "bare", now=0, stand_in="a/big")
    assert (order.models, order.reason) == (("a/big",), "no_default_model")


def test_fastest_goes_by_latency_after_those_not_measured_yet() -> None:
    known = Known({"a/one": 300.0, "a/three": 100.0})
    order = order_targets(facts_known("fastest"), "r", now=0, knowledge=known)
    assert (order.models, order.reason) == (("a/two", "a/three", "a/one"), "no_latencies")
    known = Known({"a/one": 300.0, "a/two": 200.0, "a/three": 100.0})
    order = order_targets(facts_known("fastest"), "r", now=0, knowledge=known)
    assert (order.models, order.reason) == (("a/three", "a/two", "a/one"), "fastest")


def test_weights_come_before_a_policy() -> None:
    config = facts_known("cheapest", two=ModelFacts(price=Price(0.0, 0.0)))
    forward = replace(config.forward, routes={"r": TrafficRule(weights={"a/three": 1, "a/one": 0, "a/two": 0})})
    order = order_targets(replace(config, forward=forward), "r", now=0)
    assert (order.models, order.reason) == (("a/three",), "only_target")


@pytest.mark.parametrize(
    ("resting", "models", "reason"),
    [
        (("a/one",), ("a/two", "a/three", "a/one"), "resting"),
        (("a/two",), ("a/one", "a/three", "a/two"), "listed"),
        (("a/one", "a/two", "a/three"), ("a/one", "a/two", "a/three"), "listed"),
    ],
)
def test_targets_that_rest_stand_last(resting: tuple[str, ...], models: tuple[str, ...], reason: ModelReason) -> None:
    order = order_targets(LISTED, "r", now=0, knowledge=Known(resting=resting))
    assert (order.models, order.reason, order.left_out) == (models, reason, ())


def test_a_withdrawn_canary_leaves_the_order_unless_no_other_is_left() -> None:
    rule = TrafficRule(weights={"a/one": 0, "a/two": 1, "a/three": 1}, canary=Canary("a/two"))
    config = replace(LISTED, forward=ForwardSettings(routes={"r": rule}))
    known = Known(withdrawn=((Place("route", "r"), "a/two"),))
    orders = [order_targets(config, "r", key=str(number), now=0, knowledge=known) for number in range(50)]
    assert {(order.models, order.left_out) for order in orders} == {(("a/three",), (LeftOut("a/two", "withdrawn"),))}
    assert {order.reason for order in orders} == {"weights", "withdrawn"}
    alone = replace(
        config, forward=ForwardSettings(routes={"r": replace(rule, weights={"a/one": 0, "a/two": 1, "a/three": 0})})
    )
    assert order_targets(alone, "r", now=0, knowledge=known).models == ("a/two",)


@pytest.mark.parametrize(
    ("known", "facts", "first", "reason"),
    [
        (Known(), RequestFacts(), "a/two", "sticky"),
        (Known(resting=("a/two",)), RequestFacts(), "a/one", "weights"),
        (Known(), RequestFacts(prompt_tokens=1001), "a/one", "weights"),
    ],
    ids=["kept", "rests", "does not fit"],
)
def test_a_conversation_keeps_its_model_while_that_can_take_it(
    known: Known, facts: RequestFacts, first: str, reason: ModelReason
) -> None:
    config = shared(facts_known(two=SMALL), {"a/one": 1e9, "a/two": 1.0})
    order = order_targets(config, "r", facts=facts, now=0, knowledge=known, anchor=CHOSEN)
    assert (order.first, order.reason) == (first, reason)


CHOSEN = Anchor("a/two", "a/two", chosen={Place("route", "r"): "a/two"})


def shared(config: RoutingConfig, weights: dict[str, float]) -> RoutingConfig:
    return replace(config, forward=replace(config.forward, routes={"r": TrafficRule(weights=weights)}))


@pytest.mark.parametrize(
    "anchor",
    [Anchor("a/two", "a/two"), Anchor("a/two", "a/two", chosen={Place("route", "other"): "a/two"}), CHOSEN],
    ids=["unknown", "another route", "this route"],
)
def test_what_the_file_lists_first_stands_first_whatever_model_the_conversation_has(anchor: Anchor) -> None:
    """Else one turn of small talk, or one failure, would leave a conversation with the second choice."""
    order = order_targets(LISTED, "r", now=0, anchor=anchor)
    assert (order.models, order.reason) == (("a/one", "a/two", "a/three"), "listed")


def test_a_model_that_another_route_chose_is_not_kept_on_this_one() -> None:
    config = shared(LISTED, {"a/one": 1e9, "a/two": 1.0})
    anchor = Anchor("a/two", "a/two", chosen={Place("route", "other"): "a/two"})
    assert order_targets(config, "r", now=0, anchor=anchor).first == "a/one"


def test_a_conversation_leaves_a_model_that_is_no_target_of_its_route_any_more() -> None:
    rule = TrafficRule(weights={"a/one": 1, "a/two": 0})
    config = replace(LISTED, forward=ForwardSettings(routes={"r": rule}))
    order = order_targets(config, "r", now=0, anchor=CHOSEN)
    assert order.models == ("a/one", "a/three")


PRICED = {"one": ModelFacts(price=Price(10.0, 30.0)), "old": ModelFacts(price=Price(2.0, 8.0, 0.5))}


@pytest.mark.parametrize(
    ("anchor", "first", "reason"),
    [
        # A switch costs 1,000 x (10 - 0.5) = 9,500 millionths of a dollar; the cap is 10 % of the baseline and this read, 500.
        (Anchor("a/old", "a/old", 1000, baseline=0.0945), "a/one", "within_cap"),
        (Anchor("a/old", "a/old", 1000, baseline=0.0944), "a/old", "over_cap"),
        (Anchor("a/old", "a/old", 1000, baseline=0.1, spent=0.0006), "a/old", "over_cap"),
        (Anchor("a/old", "a/old", 1000, is_warm=False), "a/one", "free"),
        (Anchor("a/old", "a/old", 0), "a/one", "free"),
        (Anchor("a/one", "a/old", 1000), "a/one", "same_anchor"),
        (Anchor("a/unknown", "a/unknown", 1000), "a/one", "no_pricing"),
    ],
)
def test_a_budget_for_switching(anchor: Anchor, first: str, reason: ModelReason) -> None:
    order = order_targets(facts_known("none", 10.0, **PRICED), "r", now=0, anchor=anchor)
    assert (order.first, order.reason) == (first, reason)
    assert set(order.models) == {"a/one", "a/two", "a/three", first}


def test_a_cheaper_model_is_free_whatever_the_budget() -> None:
    config = facts_known("none", 0.0, one=ModelFacts(price=Price(0.4, 1.0)), old=PRICED["old"])
    order = order_targets(config, "r", now=0, anchor=Anchor("a/old", "a/old", 1000, spent=5.0))
    assert (order.first, order.reason) == ("a/one", "free")


def test_a_model_that_a_client_names_is_asked_whatever_the_budget() -> None:
    config = facts_known("none", 0.0, **PRICED)
    order = order_targets(config, "a/one", direct=True, now=0, anchor=Anchor("a/old", "a/old", 1000))
    assert (order.models, order.reason) == (("a/one",), "asked_for")


def test_a_model_over_the_cap_is_not_kept_if_it_cannot_answer() -> None:
    config = facts_known("none", 0.0, **PRICED)
    anchor = Anchor("a/old", "a/old", 1000)
    order = order_targets(config, "r", now=0, anchor=anchor, knowledge=Known(resting=("a/old",)))
    assert (order.first, order.reason) == ("a/one", "listed")


_SOME = st.sets(st.sampled_from(["a/one", "a/two", "a/three"]))


@settings(max_examples=40)
@given(
    resting=_SOME,
    withdrawn=_SOME,
    unfit=_SOME,
    policy=st.sampled_from(["none", "cheapest", "fastest"]),
    weights=st.dictionaries(st.sampled_from(["a/one", "a/two", "a/three"]), st.sampled_from([1.0, 5.0])),
    present=st.sampled_from([None, "a/one", "a/two"]),
)
def test_whatever_is_known_the_first_is_one_that_can_answer(
    resting: set[str],
    withdrawn: set[str],
    unfit: set[str],
    policy: SelectionPolicy,
    weights: dict[str, float],
    present: str | None,
) -> None:
    """Each step of the order alone is right; a later one must not bring back what an earlier one has left out."""
    rule = TrafficRule(weights=weights, canary=Canary("a/three"))
    facts = {model: ModelFacts(context_window=10, price=Price(1.0, 1.0)) for model in sorted(unfit)}
    config = replace(LISTED, selection={"r": policy}, forward=ForwardSettings(models=facts, routes={"r": rule}))
    known = Known({"a/two": 5.0}, tuple(resting), tuple((Place("route", "r"), model) for model in withdrawn))
    anchor = None if present is None else Anchor(present, present, chosen={Place("route", "r"): present})
    order = order_targets(config, "r", facts=RequestFacts(20), key="k", now=0, knowledge=known, anchor=anchor)
    fitting = {"a/one", "a/two", "a/three"} - unfit or {"a/one", "a/two", "a/three"}
    able = fitting - withdrawn or fitting
    assert set(order.models) == able
    awake = able - resting or able
    assert order.first in awake
    if present in awake and order.reason != "none_fits" and weights.keys() & awake:
        assert order.first == present
