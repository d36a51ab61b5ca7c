"""One request on its way along its targets, until one answers or none is left."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from archroute_edge.gateway._headers import without
from archroute_edge.gateway._target import Target
from archroute_edge.gateway._tries import Trier, TryResult
from archroute_edge.record import Try

logger = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 60.0
"""Seconds that a request waits in all because upstreams ask for it."""
_MOST_WAITS: Final = 5


class Forwarding:
    """Tries targets in their order. Where all have failed, waits for one that said when to come again.

    Args:
        trier: tries one.
        targets: in their order.
        deadline: as ``time.perf_counter`` has it; no try begins afterwards.
        begins: told the target when a try begins.
        failed: told of each try that failed, with its number.
    """

    def __init__(
        self,
        trier: Trier,
        targets: Sequence[Target],
        deadline: float,
        *,
        begins: Callable[[Target], None],
        failed: Callable[[TryResult, int], None],
    ) -> None:
        self._trier = trier
        self._targets = targets
        self._deadline = deadline
        self._begins = begins
        self._failed = failed
        self.tries: list[Try] = []
        """Those that have ended; of the one that answered, until its first byte."""
        self._current: tuple[Target, float] | None = None

    async def run(self) -> TryResult | None:
        """The try that answered, or else the one that tells the client most; None if no time was left for any.

        Cancelling it ends the request at the upstream.
        """
        failures: list[TryResult] = []
        waits: dict[str, tuple[float, Target]] = {}
        for target in self._targets:
            if self._left() <= 0:
                break
            result = await self._attempt(target, waits)
            if result.began is not None or result.is_final:
                return result
            failures.append(result)
        waited = 0.0
        for _ in range(_MOST_WAITS):
            if not waits:
                break
            at, target = min(waits.values(), key=lambda each: each[0])
            pause = max(0.0, at - time.perf_counter())
            if waited + pause > LONGEST_WAIT_S or pause >= self._left():
                break
            logger.info("%s asks to wait %.1f s, and no other target is left", target.model, pause)
            await asyncio.sleep(pause)
            waited += pause
            if self._left() <= 0:
                break
            del waits[target.model]
            result = await self._attempt(target, waits)
            if result.began is not None or result.is_final:
                return result
            failures.append(result)
        return _most_telling(failures, waits) if failures else None

    async def _attempt(self, target: Target, waits: dict[str, tuple[float, Target]]) -> TryResult:
        self._begins(target)
        self._current = (target, time.perf_counter())
        result = await self._trier.attempt(target, self._left())
        self._current = None
        self.tries.append(result.noted)
        if result.retry_after is not None:
            waits[target.model] = (time.perf_counter() + result.retry_after, target)
        if result.began is None:
            self._failed(result, len(self.tries))
        return result

    def tries_with_current(self, word: str) -> list[Try]:
        """The tries, with the one that was called off meanwhile."""
        if self._current is None:
            return self.tries
        target, started = self._current
        return [*self.tries, Try(target.model, target.provider, None, word, None, 1000 * (time.perf_counter() - started))]

    def _left(self) -> float:
        return self._deadline - time.perf_counter()


def _most_telling(failures: Sequence[TryResult], waits: Mapping[str, tuple[float, Target]]) -> TryResult:
    """The failure that the client learns of: an upstream's own error rather than none, of a target that is set up rightly.

    A client comes again after ``Retry-After``, so that names the time at which the first target takes requests again.
    """
    # A program that does not run here must not hide that a provider asks to come again later.
    found = max(reversed(failures), key=lambda each: (not each.is_misconfigured, (each.noted.status or 0) >= 400))
    if found.whole is None or found.whole.status != 429 or not waits:
        return found
    seconds = max(1, math.ceil(min(at for at, _ in waits.values()) - time.perf_counter()))
    headers = [*without(found.whole.headers, b"retry-after"), (b"retry-after", str(seconds).encode())]
    return replace(found, whole=replace(found.whole, headers=headers))
