"""Requests and tokens a minute."""

from __future__ import annotations

from archroute_edge.config import KeyRule
from archroute_edge.gateway._key_limits import KeyLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_requests_of_a_minute() -> None:
    clock = Clock()
    limits = KeyLimits([KeyRule("a", "k", requests_per_minute=2), KeyRule("b", "l")], clock)
    assert [limits.ask("a"), limits.ask("a")] == [None, None]
    clock.now += 20
    assert limits.ask("a") == 40
    assert [limits.ask("b"), limits.ask(None), limits.ask("nobody")] == [None, None, None]
    clock.now += 40
    assert limits.ask("a") is None


def test_a_refused_request_does_not_count() -> None:
    clock = Clock()
    limits = KeyLimits([KeyRule("a", "k", requests_per_minute=1)], clock)
    limits.ask("a")
    for _ in range(5):
        assert limits.ask("a") == 60
    clock.now += 60
    assert limits.ask("a") is None


def test_tokens_of_a_minute() -> None:
    clock = Clock()
    limits = KeyLimits([KeyRule("a", "k", tokens_per_minute=100)], clock)
    limits.ask("a")
    limits.used("a", 60)
    clock.now += 10
    limits.used("a", 60)
    assert limits.ask("a") == 50
    clock.now += 50
    assert limits.ask("a") is None


def test_a_new_configuration_keeps_what_was_used() -> None:
    clock = Clock()
    limits = KeyLimits([KeyRule("a", "k", requests_per_minute=5)], clock)
    limits.ask("a")
    limits.replace([KeyRule("a", "k", requests_per_minute=1)])
    assert limits.ask("a") == 60
    limits.replace([])
    assert limits.ask("a") is None
