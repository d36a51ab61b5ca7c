"""How many requests a minute a client's key may make, and how many tokens they may use."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from archroute_edge.config import KeyRule

WINDOW_S: Final = 60


class KeyLimits:
    """Counts over the last minute. Belongs to one event loop.

    Args:
        rules: the keys and their limits.
        clock: seconds that only grow.
    """

    def __init__(self, rules: Iterable[KeyRule] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rules: dict[str, KeyRule] = {}
        self._requests: dict[str, _Minute] = {}
        self._tokens: dict[str, _Minute] = {}
        self.replace(rules)

    def replace(self, rules: Iterable[KeyRule]) -> None:
        """Take other limits; what keys have used stays."""
        self._rules = {rule.name: rule for rule in rules}
        for counts in (self._requests, self._tokens):
            for name in [name for name in counts if name not in self._rules]:
                del counts[name]

    def ask(self, name: str | None) -> float | None:
        """Count one more request of a key; or, if it may make none now, the seconds after which it may."""
        rule = self._rules.get(name) if name is not None else None
        if rule is None or name is None:
            return None
        now = self._clock()
        requests, tokens = (counts.setdefault(name, _Minute()) for counts in (self._requests, self._tokens))
        waits = [
            minute.wait(now, limit)
            for minute, limit in ((requests, rule.requests_per_minute), (tokens, rule.tokens_per_minute))
            if limit is not None
        ]
        if any(waits):
            return max(waits)
        requests.add(now, 1)
        return None

    def counts_tokens(self, name: str | None) -> bool:
        """Whether the tokens of a key are limited."""
        rule = self._rules.get(name) if name is not None else None
        return rule is not None and rule.tokens_per_minute is not None

    def used(self, name: str | None, tokens: int) -> None:
        """Count the tokens of a request that has ended."""
        if name in self._rules and tokens:
            self._tokens.setdefault(name, _Minute()).add(self._clock(), tokens)


class _Minute:
    """An amount over the last minute, kept by the second: its size does not depend on how much there was."""

    def __init__(self) -> None:
        self._by_second: OrderedDict[int, int] = OrderedDict()

    def add(self, now: float, amount: int) -> None:
        self._by_second[int(now)] = self._by_second.get(int(now), 0) + amount

    def wait(self, now: float, limit: int) -> float:
        """Seconds until less than ``limit`` is left in the minute; 0 if it is so now."""
        while self._by_second and next(iter(self._by_second)) <= now - WINDOW_S:
            self._by_second.popitem(last=False)
        left = sum(self._by_second.values())
        if left < limit:
            return 0.0
        for second, amount in self._by_second.items():
            left -= amount
            if left < limit:
                return second + WINDOW_S - now
        return float(WINDOW_S)
