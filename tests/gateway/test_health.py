from __future__ import annotations

import logging
import random
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from archroute_edge.config import Canary, ForwardSettings, Ramp, RoutingConfig, TrafficRule, WeightedModel, parse_config
from archroute_edge.gateway import Health, PastTry
from archroute_edge.targets import Place, TargetKnowledge, order_targets

BUGS = Place("route", "bugs")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_config(**forward: object) -> RoutingConfig:
    config = parse_config("routing_preferences: [{name: bugs, description: d, models: [a/old, a/new, a/last]}]")
    return replace(config, forward=ForwardSettings(**forward))  # type: ignore[arg-type]


def on_trial(window: int = 40) -> RoutingConfig:
    rule = TrafficRule(weights={"a/old": 9, "a/new": 1}, canary=Canary("a/new", window, 0.2, 0.5))
    return make_config(routes={"bugs": rule})


def first_of(config: RoutingConfig, knowledge: TargetKnowledge) -> set[str | None]:
    return {order_targets(config, "bugs", key=str(n), now=0, knowledge=knowledge).first for n in range(100)}


def test_a_target_rests_after_failures_in_a_row_and_comes_back_with_one_trial(clock: Clock) -> None:
    config = make_config(rest_after=3, rest=30.0)
    health = Health(config, clock)
    for ok in (False, False, True, False, False):
        health.ended("a/old", ok)
    assert not health.is_resting("a/old")
    health.ended("a/old", False)
    assert health.is_resting("a/old")
    order = order_targets(config, "bugs", now=0, knowledge=health)
    assert (order.models, order.reason) == (("a/new", "a/last", "a/old"), "resting")
    clock.now += 29.9
    assert health.is_resting("a/old")
    clock.now += 0.1
    assert not health.is_resting("a/old")
    health.started("a/old", 5.0)
    assert health.is_resting("a/old"), "one request tries it, not all that come meanwhile"
    health.ended("a/old", False)
    clock.now += 29.9
    assert health.is_resting("a/old"), "a failed trial is a rest more, without three failures"
    clock.now += 0.1
    health.started("a/old", 5.0)
    health.ended("a/old", True, 12.0)
    assert not health.is_resting("a/old")
    health.ended("a/old", False)
    assert not health.is_resting("a/old"), "failures are counted anew"


def test_a_name_that_a_client_has_chosen_is_one_line_of_the_log(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A wildcard lets it choose any, one with line breaks and a line of its own too."""
    health = Health(make_config(rest_after=1), clock)
    health.ended("openai/x\nERROR all is lost", False)
    [line] = [each.getMessage() for each in caplog.records]
    assert "\n" not in line


def test_a_failure_of_before_the_rest_makes_it_no_longer(clock: Clock) -> None:
    health = Health(make_config(rest_after=1, rest=30.0), clock)
    health.ended("a/old", False)
    clock.now += 20
    health.ended("a/old", False)
    clock.now += 10
    assert not health.is_resting("a/old")


def test_a_tried_target_is_back_with_its_first_byte_and_rests_at_once_if_the_stream_breaks(clock: Clock) -> None:
    """A stream may take minutes, and a target that breaks every stream would never rest if first bytes counted as success."""
    health = Health(make_config(rest_after=3, rest=30.0), clock)
    for _ in range(3):
        health.ended("a/old", False)
    clock.now += 30
    health.started("a/old", 5.0)
    health.answering("a/old")
    assert not health.is_resting("a/old")
    health.ended("a/old", False, 10.0)
    assert health.is_resting("a/old")


@pytest.mark.parametrize("tell", [True, False], ids=["the client went away", "never told"])
def test_a_trial_without_a_result_blocks_nobody(clock: Clock, tell: bool) -> None:
    health = Health(make_config(rest_after=1, rest=30.0), clock)
    health.ended("a/old", False)
    clock.now += 30
    health.started("a/old", 5.0)
    if tell:
        health.ended("a/old", None)
    else:
        clock.now += 5
    assert not health.is_resting("a/old")


def test_latencies_are_medians_of_answers_of_the_last_hour(clock: Clock) -> None:
    health = Health(make_config(), clock)
    for latency in (10.0, 900.0):
        health.ended("a/old", True, latency)
    health.ended("a/old", False, 5.0)
    assert health.latency_ms("a/old") is None
    health.ended("a/old", True, 20.0)
    assert health.latency_ms("a/old") == 20.0
    clock.now += 3601
    assert health.latency_ms("a/old") is None


def test_fastest_measures_every_target_and_then_takes_the_fastest(clock: Clock) -> None:
    config = replace(make_config(), selection={"bugs": "fastest"})
    health = Health(config, clock)
    took = {"a/old": 300.0, "a/new": 100.0, "a/last": 200.0}
    asked = []
    for _ in range(12):
        order = order_targets(config, "bugs", now=0, knowledge=health)
        assert order.first is not None
        asked.append(order.first)
        health.ended(order.first, True, took[order.first])
    assert asked == ["a/old"] * 3 + ["a/new"] * 3 + ["a/last"] * 3 + ["a/new"] * 3
    order = order_targets(config, "bugs", now=0, knowledge=health)
    assert (order.models, order.reason) == (("a/new", "a/last", "a/old"), "fastest")


def test_a_canary_with_more_errors_is_withdrawn_until_the_configuration_changes(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    config = on_trial()
    health = Health(config, clock)
    for _ in range(40):
        health.ended("a/old", True, 100.0, [BUGS])
    for number in range(39):
        health.ended("a/new", number % 2 > 0, 100.0, [BUGS])
    assert first_of(config, health) == {"a/old", "a/new"}, "39 requests are not 40"
    health.ended("a/new", True, 100.0, [BUGS])
    assert first_of(config, health) == {"a/old"}
    [line] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert line.getMessage() == (
        "a/new is withdrawn from the route bugs: 20 of its last 40 requests failed, and 0 of the incumbent's; "
        "it gets no more requests there until the configuration changes"
    )
    order = order_targets(config, "bugs", key="7", now=0, knowledge=health)
    assert [(each.model, each.why) for each in order.left_out] == [("a/new", "withdrawn")]
    for _ in range(50):
        health.ended("a/new", True, 1.0, [BUGS])
    assert first_of(config, health) == {"a/old"}
    health.replace(config)
    assert first_of(config, health) == {"a/old", "a/new"}


def test_a_difference_that_chance_makes_withdraws_nothing(clock: Clock) -> None:
    """10 errors of 40 are beyond the margin of 20 %, but some stretch of equal targets' requests shows as much."""
    health = Health(on_trial(), clock)
    for number in range(40):
        health.ended("a/old", True, 100.0, [BUGS])
        health.ended("a/new", number >= 10, 100.0, [BUGS])
    assert not health.is_withdrawn(BUGS, "a/new")


def test_a_canary_as_good_as_the_incumbent_stays(clock: Clock) -> None:
    """Without any margin, chance is all that the windows show, and they are looked at with each request."""
    draw = random.Random(11)
    rule = TrafficRule(weights={"a/old": 7, "a/new": 3}, canary=Canary("a/new", 100, 0.0, 0.0))
    health = Health(make_config(routes={"bugs": rule}), clock)
    for _ in range(5000):
        model = "a/new" if draw.random() < 0.3 else "a/old"
        health.ended(model, draw.random() > 0.05, draw.lognormvariate(6, 0.8), [BUGS])
    assert not health.is_withdrawn(BUGS, "a/new")


def test_a_slow_canary_is_withdrawn(clock: Clock) -> None:
    health = Health(on_trial(), clock)
    for number in range(60):
        health.ended("a/old", True, 100.0 + number % 3, [BUGS])
        health.ended("a/new", True, 140.0 + number % 3, [BUGS])
    assert not health.is_withdrawn(BUGS, "a/new"), "40 % longer is within the margin of 50 %"
    for _ in range(21):
        health.ended("a/new", True, 160.0, [BUGS])
    assert health.is_withdrawn(BUGS, "a/new")
    assert not health.is_withdrawn(Place("route", "poems"), "a/new")


@pytest.mark.parametrize(("window", "slowest", "is_withdrawn"), [(10, 500.0, True), (10, 3000.0, False), (100, 3000.0, True)])
def test_a_small_window_shows_latencies_that_do_not_overlap(
    clock: Clock, window: int, slowest: float, is_withdrawn: bool
) -> None:
    """archroute check warns about windows below 33."""
    health = Health(on_trial(window), clock)
    for number in range(window):
        health.ended("a/old", True, slowest if number == 3 else 100.0, [BUGS])
        health.ended("a/new", True, 1000.0, [BUGS])
    assert health.is_withdrawn(BUGS, "a/new") == is_withdrawn


def test_windows_slide(clock: Clock) -> None:
    """Errors of long ago are forgotten, on both sides."""
    health = Health(on_trial(), clock)
    for _ in range(39):
        health.ended("a/new", False, None, [BUGS])
    for _ in range(40):
        health.ended("a/new", True, 50.0, [BUGS])
    for _ in range(40):
        health.ended("a/old", True, 50.0, [BUGS])
    assert not health.is_withdrawn(BUGS, "a/new")


def test_a_fallback_is_no_sample(clock: Clock) -> None:
    health = Health(on_trial(), clock)
    for _ in range(80):
        health.ended("a/old", True, 100.0, [BUGS])
        health.ended("a/new", False)
    assert not health.is_withdrawn(BUGS, "a/new")


def test_a_canary_of_an_alias_is_compared_wherever_the_alias_stands(clock: Clock) -> None:
    config = parse_config("routing_preferences: [{name: bugs, description: d, models: [split]}]")
    config = replace(
        config,
        aliases={"split": (WeightedModel("a/old", 3), WeightedModel("a/other", 1), WeightedModel("a/new", 1))},
        forward=ForwardSettings(aliases={"split": TrafficRule(canary=Canary("a/new", 10, 0.1, 1.0))}),
    )
    health = Health(config, clock)
    for direct in (False, True):
        order = order_targets(config, "split" if direct else "bugs", direct=direct, now=0)
        for _ in range(1 if direct else 9):
            health.ended("a/new", False, None, order.places)
            health.ended("a/other", False, None, order.places)
            health.ended("a/old", True, 10.0, order.places)
        assert health.is_withdrawn(Place("alias", "split"), "a/new") == direct


def test_a_canary_is_compared_before_its_ramp_begins_to_rise(clock: Clock) -> None:
    """Its share is 0 when the program starts, and the comparison has to be there later on."""
    rule = TrafficRule(
        ramp=Ramp("a/new", 0.01, 0.5, datetime(2100, 1, 1, tzinfo=timezone.utc), 60.0), canary=Canary("a/new", 10, 0.1, 1.0)
    )
    health = Health(make_config(routes={"bugs": rule}), clock)
    for _ in range(10):
        health.ended("a/old", True, 1.0, [BUGS])
        health.ended("a/new", False, None, [BUGS])
    assert health.is_withdrawn(BUGS, "a/new")


def test_the_record_fills_windows_and_latencies(clock: Clock) -> None:
    def past(age: float, model: str, ok: bool, is_first: bool = True) -> PastTry:
        return PastTry(5000.0 - age, "bugs", "auto", model, ok, 80.0 if ok else None, is_first)

    tries = [past(200 - number, "a/old", True) for number in range(40)]
    tries += [past(100 - number, "a/new", number > 19) for number in range(40)]
    health = Health(on_trial(), clock)
    health.fill(tries, now=5000.0)
    assert health.is_withdrawn(BUGS, "a/new"), "a restart does not forget what was withdrawn"
    assert health.latency_ms("a/old") == 80.0
    assert not health.is_resting("a/new"), "that it failed long ago says nothing about now"
    changed = Health(on_trial(), clock)
    changed.fill(tries, now=5000.0, changed=4950.0)
    assert not changed.is_withdrawn(BUGS, "a/new"), "the configuration has changed since"
    later = Health(on_trial(), clock)
    later.fill([each._replace(is_first=False) for each in tries], now=9000.0)
    assert not later.is_withdrawn(BUGS, "a/new")
    assert later.latency_ms("a/old") is None


def test_what_is_known_of_targets_is_bounded(clock: Clock) -> None:
    """A provider's wildcard lets clients name any model."""
    health = Health(make_config(rest_after=1), clock)
    health.ended("a/first", False)
    for number in range(999):
        health.ended(f"a/{number}", True, 1.0)
    assert health.is_resting("a/first")
    health.ended("a/one-more", True, 1.0)
    assert not health.is_resting("a/first")
