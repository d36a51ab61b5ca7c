"""How traffic is shared, as a client sees it: weights, ramps that a conversation outlasts, canaries, filters, shadows."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from tests.server.gateway_server import BUG, CHAT, GatewayServer, two_models
from tests.upstream import Upstream, never, refused_url, resets, status, streamed
from tests.upstream_replies import chat_events

Start = Callable[..., GatewayServer]

HALVES = """
model_aliases:
  shared: {targets: [{model: one/big, weight: 1}, {model: two/small, weight: 1}]}
"""
"""An alias, so that no decision has to be made."""


def answering(server: GatewayServer, name: object, **more: object) -> str:
    """The model that answers a conversation of that name."""
    answer = server.ask(headers={"X-Model-Affinity": f"session-{name}"}, **more)  # type: ignore[arg-type]
    assert answer.status_code == 200
    return answer.headers["x-archroute-model"]


def sharing(server: GatewayServer, name: object) -> str:
    """The model of the alias's that answers a conversation of that name."""
    return answering(server, name, model="shared")


def test_weights_share_conversations_and_every_server_alike(forwarding: Start, one: Upstream, two: Upstream) -> None:
    config = two_models(one.url, two.url, more=HALVES)
    server, other = forwarding(config), forwarding(config)
    first = [sharing(server, name) for name in range(50)]
    assert abs(first.count("one/big") - 25) <= 4 * math.sqrt(50 * 0.25)
    assert [sharing(other, name) for name in reversed(range(50))] == first[::-1]


def test_a_weighted_target_that_fails_is_replaced_by_the_others(forwarding: Start, two: Upstream) -> None:
    with refused_url() as nowhere:
        server = forwarding(two_models(nowhere, two.url, more=HALVES))
        assert {sharing(server, name) for name in range(12)} == {"two/small"}


def ramp(days: float) -> str:
    """From nothing to all within a day, begun so many days ago."""
    start = (datetime.now(timezone.utc) - timedelta(days=days)).isoformat()
    return f"""
{HALVES}
archroute:
  aliases:
    shared: {{ramp: {{model: two/small, from: 0%, to: 100%, start: "{start}", over: 1d}}}}
"""


def test_a_conversation_keeps_its_model_through_a_ramp(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if the rising share moved conversations that run already, and cost them the upstream's cache."""
    server = forwarding(two_models(one.url, two.url, more=ramp(-1)))
    assert {sharing(server, name) for name in range(3)} == {"one/big"}
    server.configure(two_models(one.url, two.url, more=ramp(2)))
    assert {sharing(server, name) for name in range(3)} == {"one/big"}
    assert {sharing(server, name) for name in range(3, 6)} == {"two/small"}


def test_half_way_up_a_ramp_has_half(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url, more=ramp(0.5)))
    found = [sharing(server, name) for name in range(50)]
    assert abs(found.count("two/small") - 25) <= 4 * math.sqrt(50 * 0.25)


def test_a_conversation_is_known_without_being_named(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Its first messages stay the same; most clients name no session."""
    server = forwarding(two_models(one.url, two.url, more=HALVES))
    found: list[str] = []
    for number in range(8):
        messages = [{"role": "user", "content": f"{BUG} {number}"}]
        models = set()
        for _ in range(3):
            answer = server.client.post(CHAT, json={"model": "shared", "messages": messages})
            models.add(answer.headers["x-archroute-model"])
            messages += [{"role": "assistant", "content": "done"}, {"role": "user", "content": "and now?"}]
        assert len(models) == 1
        found += models
    assert set(found) == {"one/big", "two/small"}


CANARY = f"""
{HALVES}
archroute:
  rest: {{after: 1000, for: 1}}
  aliases:
    shared: {{canary: {{model: two/small, window: 10, error_margin: 10%, latency_margin: 1000%}}}}
"""


def test_a_canary_that_fails_more_often_is_drawn_back(forwarding: Start, one: Upstream, two: Upstream) -> None:
    with Upstream(status(500)) as broken:
        server = forwarding(two_models(one.url, broken.url, more=CANARY))
        assert {sharing(server, name) for name in range(60)} == {"one/big"}
        asked = len(broken.arrivals)
        assert asked >= 10
        assert {sharing(server, name) for name in range(60, 80)} == {"one/big"}
        assert len(broken.arrivals) == asked


def test_a_canary_that_does_as_well_stays(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url, more=CANARY))
    for name in range(40):
        sharing(server, name)
    assert "two/small" in {sharing(server, name) for name in range(40, 60)}


FACTS = """
archroute:
  models:
    one/big: {images: false, tools: false, context_window: 1000}
"""
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def test_targets_that_cannot_take_a_request_are_left_out(forwarding: Start, one: Upstream, two: Upstream) -> None:
    server = forwarding(two_models(one.url, two.url, more=FACTS))
    assert answering(server, 1) == "one/big"
    assert answering(server, 2, tools=TOOLS) == "two/small"
    assert answering(server, 3, text=BUG + " x" * 5000) == "two/small"
    assert answering(server, 4, max_tokens=2000) == "two/small"
    content = [{"type": "text", "text": BUG}, IMAGE]
    answer = server.client.post(CHAT, json={"model": "auto", "messages": [{"role": "user", "content": content}]})
    assert answer.headers["x-archroute-model"] == "two/small"
    assert len(one.arrivals) == 1


def test_the_cheapest_target_answers(forwarding: Start, one: Upstream, two: Upstream) -> None:
    prices = """
archroute:
  models:
    one/big: {price: {input: 5, output: 10}}
    two/small: {price: {input: 0.1, output: 0.2, cached: 0.05}}
"""
    config = two_models(one.url, two.url, more=prices)
    config = config.replace(
        "models: [one/big, two/small]", "models: [one/big, two/small], selection_policy: {prefer: cheapest}"
    )
    server = forwarding(config)
    answer = server.ask()
    assert answer.headers["x-archroute-model"] == "two/small"
    (entry,) = server.entries.wait_for(1)
    assert entry.model_reason == "cheapest"
    assert entry.cost == pytest.approx((8 * 0.1 + 4 * 0.05 + 7 * 0.2) / 1e6)


SHADOW = """
model_aliases:
  shadowed: {target: one/big}
archroute:
  aliases:
    shadowed: {shadow: {model: two/small, share: 100%}}
"""


def test_a_shadow_gets_the_request_after_the_answer(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(streamed(chat_events(), gate_after=3))
    server = forwarding(two_models(one.url, two.url, more=SHADOW))
    body = {"model": "shadowed", "messages": [{"role": "user", "content": BUG}], "stream": True, "seed": 7}
    with server.client.stream("POST", CHAT, json=body) as answer:
        parts = answer.iter_raw()
        came = next(parts)
        assert not two.arrivals
        one.open_gate()
        assert came + b"".join(parts) == b"".join(chat_events())
    copy = two.next_arrival()
    assert copy.json() == {**body, "model": "small"}
    assert copy.header("authorization") == "Bearer sk-two-secret"
    first, shadow = server.entries.wait_for(2)
    assert (first.shadow_of, shadow.shadow_of, shadow.model) == (None, first.id, "two/small")
    assert shadow.usage.output == 7


def test_a_shadow_never_slows_or_fails_a_request(forwarding: Start, one: Upstream, two: Upstream) -> None:
    two.will(*[never, status(500), resets] * 3)
    server = forwarding(two_models(one.url, two.url, more=SHADOW))
    assert {answering(server, name, model="shadowed") for name in range(9)} == {"one/big"}


def test_shadows_that_pile_up_are_left_out(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if a slow shadow held every request that ever came."""
    with Upstream(never) as slow:
        server = forwarding(two_models(one.url, slow.url, more=SHADOW))
        for name in range(30):
            answering(server, name, model="shadowed")
        # Shadows are sent after the answer, so the first may be on its way still.
        slow.next_arrival()
        assert slow.n_connections < 30
