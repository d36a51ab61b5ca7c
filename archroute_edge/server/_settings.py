"""What a server is told: where it listens, who may ask, and how much; and the bounds of what is kept beyond a request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from archroute_edge.errors import RouteTableError, SettingsError
from archroute_edge.routes import RouteTable

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8642
DEFAULT_QUEUE = 64
DEFAULT_FORWARD_QUEUE = 256
"""With forwarding: one refused there is not tried again later, but sent to the default model."""
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_BODY = 4 << 20
DEFAULT_MAX_FORWARDED_BODY = 32 << 20
DEFAULT_MAX_AFFINITY = 10_000
DEFAULT_AFFINITY_TTL_S = 600.0
MAX_BATCH = 256
"""Conversations that one request may hold; over stdio also requests that one line may."""

MAX_NAME_BYTES: Final = 1 << 10
"""Of a route's name, and of a model's, in UTF-8."""
MAX_DESCRIPTION_BYTES: Final = 1 << 18
"""Of a route's description."""
MAX_MODELS: Final = 64
"""Models of one route."""
MAX_TABLE_BYTES: Final = 1 << 20
"""All names, descriptions and models of a table that comes with a request."""
MAX_PIN_BYTES: Final = 64 << 20
"""All sessions that are remembered, as they are held in memory."""


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        api_key: what clients send as ``Authorization: Bearer KEY``; needed where ``host`` is not loopback.
        allowed_hosts: further names that a ``Host`` header may hold, without ports.
        queue_limit: requests that may wait.
        deadline: seconds after which a request is answered with the fallback instead; None waits for the decision.
        timeout: seconds after which a request is answered with 503; its body has to arrive in that time, too.
        max_body: bytes of a request's body.
        max_forwarded_body: the same of a request that is forwarded, which may hold images.
        max_affinity: sessions that are remembered; 0 remembers none.
        affinity_ttl: seconds that a session is remembered after its decision.
        implicit_sessions: whether a conversation is a session without a header that names one.
        forward: whether requests go on to the models of their routes; else nothing leaves the machine.
        proxy: address of a proxy through which requests are forwarded, but to models on this machine.
        keep_content: whether entries hold texts.

    Raises:
        SettingsError: a setting makes no sense, or there is no key where one is needed.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    api_key: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    queue_limit: int = DEFAULT_QUEUE
    deadline: float | None = None
    timeout: float = DEFAULT_TIMEOUT_S
    max_body: int = DEFAULT_MAX_BODY
    max_forwarded_body: int = DEFAULT_MAX_FORWARDED_BODY
    max_affinity: int = DEFAULT_MAX_AFFINITY
    affinity_ttl: float = DEFAULT_AFFINITY_TTL_S
    implicit_sessions: bool = False
    forward: bool = False
    proxy: str | None = field(default=None, repr=False)
    keep_content: bool = False

    def __post_init__(self) -> None:
        if self.api_key is None and not self.is_loopback:
            raise SettingsError(
                f"{self.host} is not loopback, so others can reach it: give an API key with --api-key-file, "
                "or listen on 127.0.0.1"
            )
        if self.api_key is not None and (
            not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key
        ):
            raise SettingsError("the API key must be printable ASCII without blanks, and not empty")

        if self.proxy is not None and not _is_proxy(self.proxy):
            raise SettingsError("the proxy must be an address such as http://proxy.example:3128")
        for name in self.allowed_hosts:
            if not name or "/" in name or (":" in name and not _is_address(name)):
                raise SettingsError(f"allowed host {name!r}: give a name or an address, without scheme and port")

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def host_names(self) -> frozenset[str] | None:
        """What a ``Host`` header may name, in lower case; None for anything.

        On loopback it is what keeps web pages out that give their own name this address. Elsewhere the key does.
        """
        named = {name.lower() for name in self.allowed_hosts}
        if self.is_loopback:
            return frozenset({"localhost", "127.0.0.1", "::1", self.host.lower(), *named})
        return frozenset({self.host.lower(), *named}) if named else None


@dataclass(frozen=True)
class StdioSettings:
    """Settings of a server over stdio.

    Args:
        max_line: bytes that a line may have.
        deadline: seconds after which a request is answered with the fallback instead; None waits for the decision.
    """

    max_line: int = DEFAULT_MAX_BODY
    deadline: float | None = None


def _is_proxy(address: str) -> bool:
    try:
        found = urlsplit(address)
        # Asking for a port that is none raises.
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_inline_table(table: RouteTable) -> RouteTable:
    """``table``, which came with a request, if it is not too large to be kept.

    A configuration, which is the operator's own, has no such bounds.

    Raises:
        RouteTableError: a text in it is too long, or all of them together are.
    """
    total = 0
    for number, route in enumerate(table):
        place = f"routes[{number}]"
        total += _checked(f"the name of {place}", route.name, MAX_NAME_BYTES)
        total += _checked(f"the description of {place}", route.description, MAX_DESCRIPTION_BYTES)
        if len(route.models) > MAX_MODELS:
            raise RouteTableError(f"{place} names {len(route.models):,} models; a request may name {MAX_MODELS} for a route")
        total += sum(_checked(f"a model's name of {place}", model, MAX_NAME_BYTES) for model in route.models)
    if total > MAX_TABLE_BYTES:
        raise RouteTableError(f"the routes have {total:,} bytes of text; those of a request may have {MAX_TABLE_BYTES:,}")
    return table


def _checked(what: str, text: str, most: int) -> int:
    n_bytes = len(text.encode("utf-8", "surrogatepass"))
    if n_bytes > most:
        raise RouteTableError(f"{what} has {n_bytes:,} bytes; in a request it may have {most:,}")
    return n_bytes
