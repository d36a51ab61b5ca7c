"""An answer on its way to the client: its bytes as they come, and one account of how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from archroute_edge.gateway._error_bodies import error_event
from archroute_edge.gateway._headers import Headers
from archroute_edge.gateway._redaction import RedactedEvents
from archroute_edge.gateway._stream import EventBorders, KeptEnds
from archroute_edge.gateway._tries import Began, close_quietly
from archroute_edge.gateway._usage import ends_in_error, has_ended
from archroute_edge.http_client import UpstreamError
from archroute_edge.record import Operation, Outcome

logger = logging.getLogger(__name__)

# A part of an event is held back until its rest is there; if that does not come, the upstream means to send such parts.
_HOLD_S: Final = 0.02
_BROKE: Final = "the model's answer broke off; what came of it is not whole"

Ended = Callable[[Outcome, "str | None"], None]
"""Told once how an answer ended, and the word for it if it broke."""


class BrokenAnswerError(Exception):
    """An answer in one piece broke off: the client has to see that it is cut, so its connection is closed."""


class Forwarded:
    """What the client gets.

    Args:
        operation: whose API is spoken.
        status: HTTP status.
        headers: of the reply.
        body: the reply's bytes, or where they come from.
        ends: takes note of the bytes.
        ended: told when it is over.
        holds_request: whether the request's body stays in memory until then.
    """

    def __init__(
        self,
        operation: Operation,
        status: int,
        headers: Headers,
        body: bytes | Began,
        ends: KeptEnds,
        ended: Ended,
        *,
        holds_request: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        self.holds_request = holds_request
        self._operation = operation
        self._body = body
        self._ends = ends
        self._ended: Ended | None = ended
        self._pending: asyncio.Task[bytes | None] | None = None
        self._content = self._passing(body)

    @property
    def content(self) -> AsyncIterator[bytes]:
        """The bytes, each as soon as it is there. :meth:`close` is called behind it, whatever happens.

        Raises:
            BrokenAnswerError: the upstream broke off, and the API has no way to say so.
        """
        return self._content

    def break_off(self, reason: str) -> bytes | None:
        """End it before its end, for which its target is not to blame.

        Gives the last bytes of a stream; None for an answer in one piece, which is cut.
        """
        self._end("aborted", "broken_off")
        if isinstance(self._body, bytes) or not self._body.is_events:
            return None
        return b"\n\n" + error_event(self._operation, reason, "shutting_down", self._ends.tail)

    async def close(self) -> None:
        """End the request at the upstream, if it has not ended: the client has gone."""
        self._end("aborted", None)
        if self._pending is not None:
            self._pending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._pending
        await self._content.aclose()
        if isinstance(self._body, Began):
            await close_quietly(self._body.reply)

    def _passing(self, body: bytes | Began) -> AsyncGenerator[bytes, None]:
        if isinstance(body, bytes):
            return self._whole(body)
        return self._events(body) if body.is_events else self._plain(body)

    async def _whole(self, body: bytes) -> AsyncGenerator[bytes, None]:
        self._end("completed" if self.status < 400 else "failed", None)
        yield body

    async def _plain(self, began: Began) -> AsyncGenerator[bytes, None]:
        if began.head:
            self._ends.add(began.head)
            yield began.head
        try:
            async for chunk in began.chunks:
                self._ends.add(chunk)
                yield chunk
        except UpstreamError as exc:
            logger.warning("%s: its answer broke off: %s", began.model, exc)
            self._end("failed", "broken_answer")
            raise BrokenAnswerError from exc
        self._end("completed", None)

    async def _events(self, began: Began) -> AsyncGenerator[bytes, None]:
        borders, redaction = EventBorders(), RedactedEvents(began.secrets)
        problem: str | None = None
        chunk: bytes | None = began.head
        try:
            while chunk is not None:
                whole = borders.add(chunk)
                passed = redaction.add(whole, is_cut=borders.is_cut)
                if passed:
                    self._ends.add(passed)
                    yield passed
                if borders.is_held:
                    self._pending = asyncio.ensure_future(_next(began.chunks))
                    done, _ = await asyncio.wait({self._pending}, timeout=_HOLD_S)
                    if not done and (passed := redaction.add(borders.flush(), is_cut=True)):
                        self._ends.add(passed)
                        yield passed
                    chunk = await self._pending
                    self._pending = None
                else:
                    chunk = await _next(began.chunks)
        except UpstreamError as exc:
            self._pending = None
            problem = str(exc)
        is_cut = borders.is_cut
        rest = redaction.add(borders.flush(), is_cut=False)
        tail = self._ends.tail + rest
        is_error = ends_in_error(tail)
        is_over = is_error or has_ended(self._operation, tail)
        if problem is None and not is_over and not _is_framed(began):
            problem = "it ended without its last event"
        if problem is not None and not is_over:
            logger.warning("%s: its stream broke off: %s", began.model, problem)
            self._end("failed", "broken_stream")
            yield (b"\n\n" if is_cut else b"") + error_event(self._operation, _BROKE, "broken_stream", self._ends.tail)
            return
        if rest:
            self._ends.add(rest)
            yield rest
        if is_error:
            self._end("failed", "error_event")
        else:
            self._end("completed", None)

    def _end(self, outcome: Outcome, word: str | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(outcome, word)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async for chunk in chunks:
        return chunk
    return None


def _is_framed(began: Began) -> bool:
    """Whether the reply says where it ends; else a connection that breaks looks like its end."""
    return bool(began.reply.header(b"transfer-encoding") or began.reply.header(b"content-length"))
