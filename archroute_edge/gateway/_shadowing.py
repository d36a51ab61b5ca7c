"""Copies of requests for other models, sent after the clients have their answers, and never in their way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

logger = logging.getLogger(__name__)

MOST_COPIES: Final = 8
MOST_BYTES: Final = 32 << 20
LONGEST_S: Final = 300.0


class Shadows:
    """What is on its way. One more is dropped if there are too many, or their bodies are too large together."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._n_bytes = 0
        self.dropped = 0
        """Copies that were not sent."""

    def send(self, n_bytes: int, copy: Callable[[], Awaitable[None]]) -> None:
        """Run ``copy`` beside everything else, if there is room for its ``n_bytes``."""
        if len(self._running) >= MOST_COPIES or self._n_bytes + n_bytes > MOST_BYTES:
            self.dropped += 1
            # The more there are, the rarer the lines: after 1, 2, 4, 8 ...
            if self.dropped & (self.dropped - 1) == 0:
                logger.warning("copies for shadow models that were dropped, since too many are under way: %d", self.dropped)
            return
        self._n_bytes += n_bytes
        task = asyncio.ensure_future(self._run(copy))
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._n_bytes -= n_bytes

        task.add_done_callback(ended)

    async def close(self) -> None:
        """End all of them."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    @staticmethod
    async def _run(copy: Callable[[], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(copy(), LONGEST_S)
        except asyncio.TimeoutError:
            logger.info("a shadow model took longer than %g s", LONGEST_S)
        except Exception:
            logger.exception("a request could not be copied to a shadow model")
