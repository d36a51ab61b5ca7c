"""One try to have a target answer: what counts as an answer, what as a failure, and what the client is to blame for."""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from archroute_edge.gateway._error_bodies import dump, error_body
from archroute_edge.gateway._forward_request import ForwardRequest
from archroute_edge.gateway._headers import Headers, reply_headers, upstream_headers, without
from archroute_edge.gateway._model_span import replace_model
from archroute_edge.gateway._redaction import redacted
from archroute_edge.gateway._stream import FirstBytes, FirstEvent
from archroute_edge.gateway._target import Target
from archroute_edge.gateway._usage import read_error_body, read_error_event
from archroute_edge.http_client import OVERLOADED, UpstreamClient, UpstreamError, UpstreamReply
from archroute_edge.record import BLAMELESS, OUT_OF_TIME, Try

logger = logging.getLogger(__name__)

EVENT_STREAM: Final = b"text/event-stream"
_MISCONFIGURED: Final = {401: "not_authorised", 402: "not_paid", 403: "not_authorised", 404: "not_found", 405: "not_found"}
_LONGEST_HEAD: Final = 64 << 10
"""Bytes of a stream that are held until its first event."""
_LONGEST_ERROR: Final = 1 << 20
_ERROR_BODY_S: Final = 2.0
_LONGEST_MESSAGE: Final = 1000
# Of the time that a target may take: one that had less is not to blame for its silence.
_LEAST_SHARE: Final = 0.5
_CLIENTS_FAULT: Final = (400, 413, 422)
_LAST_STATUS: Final = 599


@dataclass(frozen=True)
class Whole:
    """A reply that is whole: an error, from an upstream or ours."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Began:
    """A reply of ``model`` whose first bytes are there, and whose others still come."""

    model: str
    reply: UpstreamReply
    chunks: AsyncIterator[bytes]
    head: bytes
    is_events: bool
    secrets: Sequence[bytes] = field(default=(), repr=False)

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self.reply.status


@dataclass(frozen=True)
class TryResult:
    """How a try went.

    Args:
        noted: what the record keeps of it; of one that began, until its first byte.
        began: the answer, if there is one.
        whole: what the client gets if no other target answers, or at once if it is to blame.
        is_misconfigured: whether the configuration is to blame: a wrong key, name or address.
        retry_after: seconds that the upstream asks for.
    """

    target: Target
    noted: Try
    began: Began | None = None
    whole: Whole | None = None
    is_misconfigured: bool = False
    retry_after: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether another target would say the same, since this one is not to blame."""
        return self.is_blameless and self.noted.error != OUT_OF_TIME

    @property
    def is_blameless(self) -> bool:
        """Whether it says nothing about the target."""
        return self.noted.error in BLAMELESS


class Trier:
    """Tries targets for one request.

    Args:
        client: sends.
        request: what is asked.
        stall: seconds without a byte after which an answer that has begun is broken.
    """

    def __init__(self, client: UpstreamClient, request: ForwardRequest, *, stall: float) -> None:
        self._client = client
        self._request = request
        self._stall = stall

    async def attempt(self, target: Target, most: float) -> TryResult:
        """Ask one target, for ``most`` seconds.

        If that is all that is left of the request's time, and little of what the target may take, silence is no failure of it.
        """
        started = time.perf_counter()
        own_limit = target.limit(self._request.is_stream)
        limit = min(most, own_limit)
        reply: UpstreamReply | None = None
        is_kept = False
        try:
            with anyio.fail_after(max(limit, 0.0)):
                reply = await self._send(target)
                if reply.status < 300:
                    result = await self._began(target, reply, started)
                else:
                    result = await self._refused(target, reply, started)
            is_kept = result.began is not None
            return result
        except UpstreamError as exc:
            return self._failed(target, started, exc.word, str(exc), reply)
        except TimeoutError:
            result = self._failed(target, started, "timeout", f"no first byte within {limit:g} s", reply)
            if limit < _LEAST_SHARE * own_limit:
                return replace(result, noted=replace(result.noted, error=OUT_OF_TIME))
            return result
        finally:
            if reply is not None and not is_kept:
                await close_quietly(reply)

    async def _send(self, target: Target) -> UpstreamReply:
        request = self._request
        operation = request.operation
        headers = upstream_headers(
            request.headers,
            target.headers[operation],
            passthrough=target.passthrough_auth,
            server_key_in=request.server_key_in,
            defaults=target.defaults.get(operation, ()),
        )
        body = request.raw
        if target.upstream_model != request.model:
            body = replace_model(body, request.model_at, target.upstream_model)
        url = target.urls[operation]
        if request.query:
            url = url.copy_with(query=b"&".join(each for each in (url.query, request.query) if each))
        return await self._client.send(url, headers, body, stall=self._stall)

    async def _began(self, target: Target, reply: UpstreamReply, started: float) -> TryResult:
        """The answer, once it has a first byte, or a first event; what may be an error is read to its end."""
        # What is compressed passes unread.
        is_readable = _is_readable(reply)
        is_events = is_readable and reply.header(b"content-type").partition(b";")[0].strip().lower() == EVENT_STREAM
        chunks = reply.chunks()
        first, most = (FirstEvent(), _LONGEST_HEAD) if is_events else (FirstBytes(), _LONGEST_ERROR)
        came = bytearray()
        async for chunk in chunks:
            came += chunk
            if came and (not is_readable or first.has_come(chunk) or len(came) > most):
                head = bytes(came)
                break
        else:
            head = bytes(came)
            # Its end has come. A stream of a single event may lack the line behind it.
            is_answer = b"data:" in head if is_events else bool(head.strip()) or reply.status == 204
            if not is_answer:
                word = "empty_stream" if is_events else "empty_answer"
                return self._failed(target, started, word, "an answer without anything in it", reply)
        error = read_error_event(head) if is_events else read_error_body(head) if is_readable else None
        if error is not None:
            return self._began_with_error(target, reply, started, error)
        began = Began(target.model, reply, chunks, head, is_events, target.secrets)
        return TryResult(target, self._noted(target, started, reply.status, None), began)

    def _began_with_error(self, target: Target, reply: UpstreamReply, started: float, error: dict[str, Any]) -> TryResult:
        """A stream whose first event is an error, or a body that is one.

        Nothing has gone to the client, so it counts as the status that it names.
        """
        named = error.get("code", error.get("status"))
        status = named if type(named) is int and 400 <= named < 600 else 502
        said = redacted(str(error.get("message")).encode("utf-8", "replace"), target.secrets).decode()
        word = "refused" if status in _CLIENTS_FAULT else "error_event"
        body = self._error(status, f"{target.model} answers with an error: {said}"[:_LONGEST_MESSAGE], word)
        whole = Whole(status, [(b"content-type", b"application/json")], body)
        return TryResult(target, self._noted(target, started, reply.status, word), whole=whole)

    async def _refused(self, target: Target, reply: UpstreamReply, started: float) -> TryResult:
        """A reply that is no answer: whose fault it is, and what the client would get."""
        status = reply.status
        if status < 400:
            where = "the upstream redirects, and redirects are not followed: correct its base_url"
            return self._failed(target, started, "redirect", where, reply)
        if status > _LAST_STATUS:
            return self._failed(target, started, "bad_reply", f"the status {status} is none of HTTP's", reply)
        whole = await self._whole(target, reply)
        if status in _MISCONFIGURED:
            word = _MISCONFIGURED[status]
            logger.error("%s answers %d (%s): see its key and its name in the configuration", target.model, status, word)
            return TryResult(target, self._noted(target, started, status, word), whole=whole, is_misconfigured=True)
        if status == 429 or status >= 500 or status == 408:
            word = {408: "timeout", 429: "rate_limited"}.get(status, "server_error")
            wait = retry_after(reply.header(b"retry-after")) if status in (429, 503, 529) else None
            return TryResult(target, self._noted(target, started, status, word), whole=whole, retry_after=wait)
        return TryResult(target, self._noted(target, started, status, "refused"), whole=whole)

    async def _whole(self, target: Target, reply: UpstreamReply) -> Whole:
        """An error as the client may see it: without keys of ours that it quotes."""
        body = bytearray()
        is_readable = _is_readable(reply)
        with anyio.move_on_after(_ERROR_BODY_S) as scope, suppress(UpstreamError):
            async for chunk in reply.chunks():
                body += chunk
                if len(body) > _LONGEST_ERROR:
                    is_readable = False
                    break
        headers = without(reply_headers(reply.headers, keeps_length=False), b"content-encoding")
        if scope.cancelled_caught or not is_readable or not body:
            message = f"{target.model} answered with status {reply.status}, and nothing that can be passed on"
            body = bytearray(self._error(reply.status, message, "upstream_error"))
            headers = [*without(headers, b"content-type"), (b"content-type", b"application/json")]
        headers = [(name, redacted(value, target.secrets)) for name, value in headers]
        return Whole(reply.status, headers, redacted(bytes(body), target.secrets))

    def _failed(self, target: Target, started: float, word: str, message: str, reply: UpstreamReply | None) -> TryResult:
        status = 503 if word == OVERLOADED else 504 if word == "timeout" else 502
        logger.warning("%s: %s (%s)", target.model, message, word)
        body = self._error(status, f"{target.model} does not answer: {message}", word)
        whole = Whole(status, [(b"content-type", b"application/json")], body)
        noted = self._noted(target, started, None if reply is None else reply.status, word)
        return TryResult(target, noted, whole=whole)

    def _error(self, status: int, message: str, code: str) -> bytes:
        return dump(error_body(self._request.operation, status, message, code))

    def _noted(self, target: Target, started: float, status: int | None, error: str | None) -> Try:
        ms = 1000 * (time.perf_counter() - started)
        return Try(target.model, target.provider, status, error, ms if error is None else None, ms)


def _is_readable(reply: UpstreamReply) -> bool:
    """Whether it is not compressed."""
    return reply.header(b"content-encoding").lower() in (b"", b"identity")


async def close_quietly(reply: UpstreamReply) -> None:
    """Close a reply, whatever its connection says to that."""
    with anyio.CancelScope(shield=True), suppress(Exception):
        await reply.close()


def retry_after(value: bytes, now: float | None = None) -> float | None:
    """The seconds of a ``Retry-After``, stated as such or as a date; None if there are none."""
    text = value.decode("latin-1").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return max(seconds, 0.0) if seconds == seconds and seconds < float("inf") else None
