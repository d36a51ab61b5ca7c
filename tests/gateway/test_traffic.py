"""How traffic is shared, over upstreams: what a gateway knows comes to bear on the next request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from archroute_edge.config import Canary, ModelFacts, Price, Ramp, RoutingConfig, TrafficRule
from archroute_edge.decision import RankedTarget
from archroute_edge.gateway import ForwardRequest, Gateway, RouteFound
from archroute_edge.gateway._shadowing import MOST_COPIES, Shadows
from archroute_edge.routes import Route, RouteTable
from archroute_edge.targets import fallback_decision
from tests.gateway.conftest import Kept, ask, configure, request, run
from tests.upstream import Upstream, status

AUTO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def config(upstream: Upstream, second: Upstream) -> RoutingConfig:
    return configure({"p/one": upstream.url, "p/two": second.url})


def with_rule(config: RoutingConfig, rule: TrafficRule) -> RoutingConfig:
    return replace(config, forward=replace(config.forward, routes={"bug_fixing": rule}))


def routed(config: RoutingConfig, session: str | None, route: str = "bug_fixing") -> ForwardRequest:
    decision = replace(fallback_decision(config, None, 1.0, 0.0), route=route, reason=None)
    return replace(request(AUTO, session=session), found=RouteFound(decision))


def test_conversations_keep_their_model_through_a_ramp(config: RoutingConfig, kept: Kept) -> None:
    """Changing it throws away the prompt that the provider has in its cache."""

    def ramp(start: int) -> RoutingConfig:
        return with_rule(config, TrafficRule(ramp=Ramp("p/two", 1.0, 1.0, datetime(start, 1, 1, tzinfo=timezone.utc), 1.0)))

    gateway = Gateway(ramp(2100), kept)

    async def work() -> None:
        await ask(gateway, routed(config, "old"))
        gateway.replace(ramp(2020))
        await ask(gateway, routed(config, "old"))
        await ask(gateway, routed(config, "new"))
        await ask(gateway, routed(config, None))

    run(gateway, work)
    assert [(each.model, each.model_reason) for each in kept] == [
        ("p/one", "only_target"),
        ("p/one", "sticky"),
        ("p/two", "ramp"),
        ("p/two", "ramp"),
    ]


def test_expected_scores_of_the_decision_order_the_targets_and_a_conversation_keeps_its_model(
    config: RoutingConfig, second: Upstream, kept: Kept
) -> None:
    """The gateway orders anew, by what it knows; without the decision's values it would go back to the order of the file."""
    config = replace(config, selection={"bug_fixing": "quality"}, forward=replace(config.forward, rest_after=1000))
    listed = replace(config, table=RouteTable([Route("bug_fixing", "d", ["p/one", "p/two"])]))
    gateway = Gateway(listed, kept)

    def ranked(session: str | None, one: float, two: float) -> ForwardRequest:
        asked = routed(listed, session)
        assert asked.found is not None and asked.found.decision is not None
        targets = tuple(
            RankedTarget(model, value, None, value, "best_value") for model, value in (("p/one", one), ("p/two", two))
        )
        return replace(asked, found=RouteFound(replace(asked.found.decision, targets=targets)))

    async def work() -> None:
        await ask(gateway, ranked("a", 0.2, 0.9))
        await ask(gateway, ranked("a", 0.9, 0.2))
        second.will(status(500))
        await ask(gateway, ranked(None, 0.2, 0.9))
        await ask(gateway, ranked(None, 0.9, 0.2))
        await ask(gateway, routed(listed, None))

    run(gateway, work)
    assert [(each.model, each.model_reason, len(each.tries)) for each in kept] == [
        ("p/two", "quality", 1),
        ("p/two", "sticky", 1),
        ("p/one", "quality", 2),
        ("p/one", "quality", 1),
        ("p/one", "no_scores", 1),
    ]


def test_a_canary_that_fails_is_drawn_back(config: RoutingConfig, second: Upstream, kept: Kept) -> None:
    rule = TrafficRule(weights={"p/one": 1, "p/two": 1}, canary=Canary("p/two", window=10))
    config = replace(config, forward=replace(config.forward, rest_after=1000))
    gateway = Gateway(with_rule(config, rule), kept)
    second.will(*[status(500)] * 60)

    async def work() -> None:
        for number in range(60):
            await ask(gateway, routed(config, f"s{number}"))

    run(gateway, work)
    assert {each.model for each in kept} == {"p/one"}
    failed = [len(each.tries) == 2 for each in kept]
    assert sum(failed) == 10
    assert not any(failed[-20:])
    assert "withdrawn" in {each.model_reason for each in kept[-20:]}


def test_a_budget_for_switching_goes_by_what_upstreams_report(config: RoutingConfig, kept: Kept) -> None:
    """Each reply reports 12 tokens of prompt and 7 of answer: 19 that another model would have to read."""
    prices = {"p/one": ModelFacts(price=Price(1.0, 1.0, 0.1)), "p/two": ModelFacts(price=Price(1.95, 2.0, 0.2))}
    forward = replace(config.forward, models=prices, max_switch_spend_pct=100.0)
    listed = replace(config, forward=forward)
    gateway = Gateway(listed, kept)

    async def work() -> None:
        await ask(gateway, routed(listed, "s", "other"))
        # p/one is no target of the route any more: a switch costs 19 x 1.85, and each request adds 19 x 0.1 to the baseline.
        gateway.replace(with_rule(listed, TrafficRule(weights={"p/one": 0, "p/two": 1})))
        for _ in range(21):
            await ask(gateway, routed(listed, "s"))

    run(gateway, work)
    assert [each.model_reason for each in kept] == ["default_model", *["over_cap"] * 18, "within_cap", *["same_anchor"] * 2]
    assert [each.model for each in kept] == [*["p/one"] * 19, *["p/two"] * 3]


def test_the_first_model_stands_in_for_a_default_model(
    config: RoutingConfig, upstream: Upstream, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """An editor sends small talk as well, and must not get an error for it."""
    chat_only = replace(config.models[0], upstream=replace(config.models[0].upstream, interface="openai"))
    gateway = Gateway(replace(config, default_model=None, models=(chat_only, *config.models[1:])), kept)

    async def work() -> None:
        for operation in ("chat", "messages"):
            assert (await ask(gateway, replace(routed(config, None, "other"), operation=operation))).status == 200

    run(gateway, work)
    assert [(each.model, each.model_reason) for each in kept] == [("p/one", "no_default_model"), ("p/two", "no_default_model")]
    assert "requests that fit no route go to 'p/one', the first model, since there is no default model" in caplog.text


def test_if_wildcards_alone_are_defined_the_first_target_stands_in(config: RoutingConfig, kept: Kept) -> None:
    every = replace(config.models[0], model="p/*")
    gateway = Gateway(replace(config, default_model=None, models=(every,)), kept)
    assert run(gateway, lambda: ask(gateway, routed(config, None, "other"))).headers["x-archroute-model"] == "p/one"


def test_copies_for_shadow_models_that_find_no_room_are_told(caplog: pytest.LogCaptureFixture) -> None:
    shadows = Shadows()

    async def copy() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        for _ in range(MOST_COPIES + 5):
            shadows.send(1, copy)
        await shadows.close()

    asyncio.run(work())
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["1", "2", "4"]
