"""The HTTP client: sends one request, gives the reply's bytes as they come, and says in one word what went wrong.

It follows no redirects, keeps no cookies, and takes no proxies and no credentials from the environment.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

if sys.version_info >= (3, 11):
    import httpx2
else:
    # Its predecessor, with the same names; httpx2 needs Python 3.11.
    import httpx as httpx2

URL = httpx2.URL
InvalidURL = httpx2.InvalidURL

_MOST_CONNECTIONS: Final = 1024
_MOST_IDLE: Final = 32
# Servers that close idle connections do so after 5 seconds or more; a request must not meet that.
_IDLE_S: Final = 4.0
_CONNECT_S: Final = 10.0
_QUOTED: Final = re.compile(r""":? *(?:\bbytearray\()?\bb['"].*""", re.DOTALL)
_LONGEST_MESSAGE: Final = 160

OVERLOADED: Final = "overloaded"
"""The word for too many requests at once."""

Headers = Sequence[tuple[bytes, bytes]]


class UpstreamError(Exception):
    """A request to an upstream failed.

    Args:
        word: what happened, for programs.
        message: the same for people, without the address's secrets.
    """

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class UpstreamReply:
    """A reply whose bytes still come.

    Args:
        response: what the library gave.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers: Headers = response.headers.raw
        self._stream = response.stream

    def header(self, name: bytes) -> bytes:
        """A header's value, the first one; empty if it is missing."""
        return next((value for each, value in self.headers if each.lower() == name), b"")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes, neither decoded nor joined.

        Raises:
            UpstreamError: the connection broke.
        """
        with _failures():
            assert isinstance(self._stream, httpx2.AsyncByteStream)
            async for chunk in self._stream:
                yield chunk

    async def close(self) -> None:
        """End it, read to its end or not."""
        assert isinstance(self._stream, httpx2.AsyncByteStream)
        await self._stream.aclose()


class UpstreamClient:
    """Connections to upstreams, kept open between requests.

    Args:
        proxy: address of a proxy for all upstreams but those on this machine.
        tls: the certificates to trust; the usual ones unless given.
    """

    def __init__(self, proxy: str | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        limits = httpx2.Limits(
            max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_IDLE, keepalive_expiry=_IDLE_S
        )
        self._direct = httpx2.AsyncHTTPTransport(verify=tls or _tls(), trust_env=False, limits=limits)
        self._proxied = self._direct
        if proxy is not None:
            self._proxied = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=limits, proxy=proxy)

    async def send(self, url: URL, headers: Headers, body: bytes, *, stall: float, method: str = "POST") -> UpstreamReply:
        """The reply to a request, once its head is there. Cancelling it closes the connection.

        Args:
            url: where to.
            headers: all but those of the connection and the body's length.
            body: what is sent.
            stall: seconds without one byte after which it has failed; the caller bounds the whole.
            method: of HTTP.

        Raises:
            UpstreamError: no connection, or no reply that is HTTP.
        """
        limits = {"connect": min(stall, _CONNECT_S), "read": stall, "write": stall, "pool": _CONNECT_S}
        extensions = {"timeout": limits, "trace": _Handshake().follow}
        length = [(b"content-length", str(len(body)).encode())] if body else []
        content = _Body(body) if body else None
        with _failures():
            request = httpx2.Request(method, url, headers=[*headers, *length], content=content, extensions=extensions)
            transport = self._proxied if self._proxied is self._direct or not is_here(url.host) else self._direct
            return UpstreamReply(await transport.handle_async_request(request))

    async def close(self) -> None:
        """Close all connections."""
        await self._direct.aclose()
        await self._proxied.aclose()


class _Body:
    """A request's body, which is let go when it has been sent. The library would keep it until the reply has been read.

    Args:
        body: its bytes.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, self._body = self._body, b""
        yield body


class _Handshake:
    """Closes a connection whose TLS handshake is cancelled. The library does so only for a handshake that fails."""

    def __init__(self) -> None:
        self._stream: Any = None

    async def follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Take one event of the library's ``trace`` extension."""
        if event.endswith(".connect_tcp.complete"):
            self._stream = info["return_value"]
        elif event.endswith(".start_tls.failed") and self._stream is not None:
            await self._stream.aclose()


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@cache
def _tls() -> ssl.SSLContext:
    """The system's certificates; reading them takes a tenth of a second."""
    return httpx2.create_ssl_context(trust_env=False)


def tls_of(file: str) -> ssl.SSLContext:
    """A context that trusts the certificates in a PEM file, and no others.

    Raises:
        OSError: it cannot be read, or holds none.
    """
    return ssl.create_default_context(cafile=file)


@contextmanager
def _failures() -> Iterator[None]:
    """The library's errors as ours."""
    try:
        yield
    except httpx2.PoolTimeout as exc:
        raise UpstreamError(OVERLOADED, "too many requests are on their way to upstreams") from exc
    except httpx2.ConnectTimeout as exc:
        raise UpstreamError("timeout", "no connection in time") from exc
    except httpx2.TimeoutException as exc:
        raise UpstreamError("timeout", "no byte in time") from exc
    except httpx2.ConnectError as exc:
        raise _connect_error(exc) from exc
    except (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError) as exc:
        raise UpstreamError("connection_broken", "the connection broke") from exc
    except httpx2.RemoteProtocolError as exc:
        raise UpstreamError("bad_reply", f"the reply is no HTTP, or cut off: {_said(exc)}") from exc
    except httpx2.TransportError as exc:
        raise UpstreamError("connection_failed", f"{type(exc).__name__}: {_said(exc)}") from exc


def _connect_error(exc: BaseException) -> UpstreamError:
    cause: BaseException | None = exc
    seen = []
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, ssl.SSLError):
            return UpstreamError("connection_failed", f"no TLS connection: {cause.reason or cause}")
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
            return UpstreamError("connection_refused", "the connection was refused")
        cause = cause.__cause__ or cause.__context__
    return UpstreamError("connection_failed", f"no connection: {_said(exc)}")


def _said(exc: BaseException) -> str:
    """A library's message up to the bytes that it quotes: they may hold a key, of a reply or of our own headers."""
    return _QUOTED.sub("", str(exc))[:_LONGEST_MESSAGE]
