from __future__ import annotations

from dataclasses import replace

import pytest

from archroute_edge.config import ForwardSettings, ModelFacts, Price, RoutingConfig, TrafficRule, parse_config
from archroute_edge.gateway import Conversations
from archroute_edge.record import Usage
from archroute_edge.targets import Place, order_targets
from tests.gateway.test_health import Clock

ROUTES = """
default_model: a/cheap
routing_preferences:
  - {name: bugs, description: d, models: [a/dear]}
  - {name: talk, description: d, models: [a/cheap, a/mid]}
"""
PRICES = {
    "a/cheap": ModelFacts(price=Price(1.0, 4.0, 0.1)),
    "a/mid": ModelFacts(price=Price(2.0, 8.0)),
    "a/dear": ModelFacts(price=Price(10.0, 40.0, 1.0)),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_config(percent: float | None = None, ttl: float = 3600.0) -> RoutingConfig:
    forward = ForwardSettings(models=PRICES, max_switch_spend_pct=percent, session_ttl=ttl)
    return replace(parse_config(ROUTES), forward=forward)


def test_a_conversation_keeps_the_model_that_answered(clock: Clock) -> None:
    rules = {"talk": TrafficRule(weights={"a/cheap": 1e9, "a/mid": 1.0})}
    config = replace(make_config(), forward=ForwardSettings(routes=rules))
    store = Conversations(config, clock=clock)
    assert store.find("s", "auto") is None
    store.answered("s", "auto", "a/mid", Usage(100, 20, 60), place=Place("route", "talk"))
    anchor = store.find("s", "auto")
    assert anchor is not None
    assert (anchor.model, anchor.context_tokens, anchor.cached_tokens) == ("a/mid", 120, 60)
    assert store.find("s", "fast") is None, "an alias has models of its own"
    order = order_targets(config, "talk", now=0, anchor=anchor)
    assert (order.models, order.reason) == (("a/mid", "a/cheap"), "sticky")
    order = order_targets(config, "bugs", now=0, anchor=anchor)
    assert (order.models, order.reason) == (("a/dear",), "only_target"), "without a budget, a new route is a new model"
    store.answered("s", "auto", "a/dear", Usage(130, 20, 0), place=Place("route", "bugs"))
    order = order_targets(config, "talk", now=0, anchor=store.find("s", "auto"))
    assert (order.first, order.reason) == ("a/mid", "sticky"), "back on a route, it has the model that it had there"


def test_a_conversation_remembers_a_bounded_number_of_places(clock: Clock) -> None:
    store = Conversations(make_config(), clock=clock)
    for number in range(100):
        store.answered("s", "auto", "a/mid", Usage(1, 1), place=Place("route", str(number)))
    anchor = store.find("s", "auto")
    assert anchor is not None
    assert list(anchor.chosen) == [Place("route", str(number)) for number in range(84, 100)]


def test_tokens_are_estimated_for_an_upstream_that_reports_none(clock: Clock) -> None:
    store = Conversations(make_config(), clock=clock)
    store.answered("s", "auto", "a/mid", Usage(), 77)
    anchor = store.find("s", "auto")
    assert anchor is not None and anchor.context_tokens == 77


def test_money_spent_on_switching_adds_up_and_nothing_is_refunded(clock: Clock) -> None:
    """A switch costs its context x (the candidate's uncached rate - the anchor's cached rate)."""
    store = Conversations(make_config(100.0), clock=clock)
    turns = [("a/cheap", 1_000_000), ("a/dear", 1_100_000), ("a/cheap", 1_200_000), ("a/cheap", 1_300_000)]
    found = []
    for model, tokens in turns:
        store.answered("s", "auto", model, Usage(tokens, 0))
        anchor = store.find("s", "auto")
        assert anchor is not None
        found.append((anchor.first_model, round(anchor.spent, 6), round(anchor.baseline, 6)))
    # 1M x (10 - 0.1) for the switch; back to the cheap one costs 1.1M x (1 - 1) = 0.
    assert found == [("a/cheap", 0.0, 0.0), ("a/cheap", 9.9, 0.1), ("a/cheap", 9.9, 0.21), ("a/cheap", 9.9, 0.33)]


def test_a_switch_beyond_the_budget_is_not_made_until_there_is_enough(clock: Clock) -> None:
    config = make_config(51.0)
    store = Conversations(config, clock=clock)
    reasons = []
    for turn in range(300):
        order = order_targets(config, "talk" if turn == 0 else "bugs", now=0, anchor=store.find("s", "auto"))
        assert order.first is not None
        reasons.append(order.reason)
        store.answered("s", "auto", order.first, Usage(1000, 0))
    # 9.9 for the switch, 0.1 a turn for reading: after 195 turns 51 % of that are enough.
    assert reasons == ["listed", *["over_cap"] * 194, "within_cap", *["same_anchor"] * 104]


def test_an_idle_conversation_has_no_cache_to_lose(clock: Clock) -> None:
    config = make_config(0.0)
    store = Conversations(config, clock=clock)
    store.answered("s", "auto", "a/cheap", Usage(1000, 0))
    clock.now += 300
    assert order_targets(config, "bugs", now=0, anchor=store.find("s", "auto")).reason == "over_cap"
    clock.now += 0.1
    order = order_targets(config, "bugs", now=0, anchor=store.find("s", "auto"))
    assert (order.first, order.reason) == ("a/dear", "free")
    store.answered("s", "auto", "a/dear", Usage(1000, 0))
    anchor = store.find("s", "auto")
    assert anchor is not None
    assert (anchor.first_model, anchor.spent, anchor.baseline) == ("a/dear", 0.0, 0.0)


def test_conversations_end_after_their_last_answer(clock: Clock) -> None:
    store = Conversations(make_config(ttl=100.0), clock=clock)
    store.answered("s", "auto", "a/cheap", Usage(10, 1))
    clock.now += 99
    store.answered("s", "auto", "a/cheap", Usage(20, 1))
    clock.now += 99
    assert store.find("s", "auto") is not None
    clock.now += 1
    assert store.find("s", "auto") is None


def test_conversations_are_bounded(clock: Clock) -> None:
    """Clients name them, so without bounds anybody could fill the memory."""
    store = Conversations(make_config(), most=2, clock=clock)
    for name in "abc":
        store.answered(name, "auto", "a/cheap", Usage(10, 1))
    assert [store.find(name, "auto") is not None for name in "abc"] == [False, True, True]
    store = Conversations(make_config(), clock=clock, most_bytes=100_000)
    for number in range(200):
        store.answered("s" * 1000 + str(number), "auto", "a/cheap", Usage(10, 1))
    assert 20 < len(store) < 100


def test_a_new_configuration_keeps_conversations_whose_model_is_still_a_target(clock: Clock) -> None:
    store = Conversations(make_config(), clock=clock)
    for model in PRICES:
        store.answered(model, "auto", model, Usage(10, 1))
    store.replace(parse_config(ROUTES.replace("[a/cheap, a/mid]", "[a/cheap]")))
    assert [store.find(model, "auto") is not None for model in PRICES] == [True, False, True]
