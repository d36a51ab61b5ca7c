"""Which headers pass: of a request to an upstream, and of its reply to the client."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

Headers = Sequence[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
CREDENTIALS: Final = frozenset(
    (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"openai-organization", b"openai-project")
)
"""What a client says of itself to a provider; it goes there only with ``passthrough_auth``."""
_NOT_UP: Final = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"accept-encoding",
    b"expect",
    b"cookie",
    b"cookie2",
    b"origin",
    b"referer",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-model-affinity",
}
_NOT_UP_PREFIXES: Final = (b"x-archroute-", b"x-plano-", b"x-forwarded-", b"sec-", b"access-control-", b"cf-")
# Of a reply: what acts on a browser or a connection, or would be taken for ours.
_NOT_DOWN: Final = _HOP_BY_HOP | {
    b"set-cookie",
    b"set-cookie2",
    b"location",
    b"content-location",
    b"refresh",
    b"date",
    b"server",
    b"alt-svc",
    b"strict-transport-security",
    b"clear-site-data",
    b"content-security-policy",
    b"report-to",
    b"reporting-endpoints",
    b"nel",
    b"link",
    b"www-authenticate",
}
_NOT_DOWN_PREFIXES: Final = (b"x-archroute-", b"access-control-", b"cross-origin-")
_ALWAYS: Final = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))


def upstream_headers(
    client: Headers, own: Headers, *, passthrough: bool, server_key_in: frozenset[bytes], defaults: Headers = ()
) -> list[tuple[bytes, bytes]]:
    """The headers of a request to an upstream.

    Args:
        client: the client's, names in lower case.
        own: the target's: credentials and what the configuration adds. They replace the client's of the same name.
        passthrough: whether the client's credentials go there.
        server_key_in: the headers that held the key of this server, which go nowhere.
        defaults: the target's for those that neither has.
    """
    dropped = {name.lower() for name, _ in own} | _named_by_connection(client) | server_key_in
    if not passthrough:
        dropped |= CREDENTIALS
    kept = [
        (name, value)
        for name, value in client
        if name not in _NOT_UP and name not in dropped and not name.startswith(_NOT_UP_PREFIXES)
    ]
    present = {name for name, _ in (*kept, *own)}
    return [*kept, *_ALWAYS, *(each for each in defaults if each[0] not in present), *own]


def reply_headers(upstream: Headers, *, keeps_length: bool = True) -> list[tuple[bytes, bytes]]:
    """The headers of an upstream's reply that pass to the client.

    Args:
        upstream: the reply's.
        keeps_length: whether the client gets as many bytes as come.
    """
    lowered = [(name.lower(), value) for name, value in upstream]
    dropped = _named_by_connection(lowered)
    if not keeps_length or any(name == b"transfer-encoding" for name, _ in lowered):
        # The length of a reply in chunks is what comes, whatever is said beside.
        dropped.add(b"content-length")
    return [
        (name, value)
        for name, value in lowered
        if name not in _NOT_DOWN and name not in dropped and not name.startswith(_NOT_DOWN_PREFIXES)
    ]


def _named_by_connection(headers: Headers) -> set[bytes]:
    """Headers that a ``Connection`` header says are of the connection."""
    values = [value for name, value in headers if name == b"connection"]
    return {part.strip().lower() for value in values for part in value.split(b",")}


def header_value(text: str) -> bytes:
    """A text as a header's value; what is not printable ASCII is percent-encoded, and so is a blank at either end."""
    quoted = quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")
    return re.sub("^ | $", "%20", quoted).encode("ascii")


def without(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> list[tuple[bytes, bytes]]:
    """Headers but those of these names."""
    return [(name, value) for name, value in headers if name not in names]
