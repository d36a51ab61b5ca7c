"""Whose key a request holds: the server's own, or one of the clients' of the configuration."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers

AUTHORIZATION: Final = "authorization"
_OF_FORWARDING: Final = ("x-archroute-key", AUTHORIZATION, "x-api-key")


@dataclass(frozen=True)
class KeyFound:
    """A key that was accepted.

    Args:
        client: its name; None for the server's own.
        headers: all that hold such a key: clients send theirs in several. They are this server's, and go to no other.
    """

    client: str | None
    headers: tuple[str, ...]


class ClientKeys:
    """The keys that are accepted.

    Args:
        own: the server's own; None if it has none.
        is_forwarding: whether a key may also stand in ``x-archroute-key``, which leaves the other headers to the provider, or
            in ``x-api-key``, as Anthropic's clients send theirs.
    """

    def __init__(self, own: str | None, *, is_forwarding: bool = False) -> None:
        self._own = own
        self._headers = _OF_FORWARDING if is_forwarding else (AUTHORIZATION,)
        self._keys: tuple[tuple[str | None, bytes], ...] = ()
        self.replace({})

    def replace(self, clients: Mapping[str, str]) -> None:
        """Take other keys of clients, by their names."""
        keys: list[tuple[str | None, str]] = [*clients.items()]
        if self._own is not None:
            keys.append((None, self._own))
        self._keys = tuple((name, key.encode("utf-8")) for name, key in keys)

    @property
    def are_needed(self) -> bool:
        """Whether requests need a key at all."""
        return bool(self._keys)

    @property
    def hint(self) -> str:
        """What to send, for a message."""
        more = ", x-api-key: KEY, or x-archroute-key: KEY" if len(self._headers) > 1 else ""
        return f"send the server's API key: Authorization: Bearer KEY{more}"

    def find(self, headers: Headers) -> KeyFound | None:
        """The first key of a request; None if it holds none that is accepted. A header that stands twice counts as missing."""
        client: str | None = None
        holding: list[str] = []
        for header in self._headers:
            values = headers.getlist(header)
            sent = values[0].strip() if len(values) == 1 else ""
            if header == AUTHORIZATION:
                scheme, _, sent = sent.partition(" ")
                sent = sent.strip() if scheme.lower() == "bearer" else ""
            # Each is compared as a whole whatever was sent, so that the time it takes says nothing about any.
            sent_bytes = sent.encode("latin-1")
            for name, key in self._keys:
                if hmac.compare_digest(sent_bytes, key):
                    client = client if holding else name
                    holding.append(header)
        return KeyFound(client, tuple(holding)) if holding else None
