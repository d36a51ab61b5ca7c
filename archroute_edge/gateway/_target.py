"""A target as a request sees it: where its bytes go, and with which headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from archroute_edge.gateway._headers import Headers
from archroute_edge.http_client import URL
from archroute_edge.record import Operation


@dataclass(frozen=True)
class Target:
    """A model that can be reached.

    Args:
        model: as the configuration names it.
        provider: the provider's name.
        upstream_model: what the upstream calls it.
        urls: of each API that is spoken there.
        headers: of each of them: credentials, and what the configuration adds.
        defaults: headers of each of them that a client's own replace.
        passthrough_auth: whether the client's credentials go there.
        secrets: what must not come out of it in an error.
        label: stands for it in metrics; of a wildcard that, since clients choose the model.
        first_byte_timeout: seconds, for a stream and for an answer in one piece.
    """

    model: str
    provider: str
    upstream_model: str
    urls: Mapping[Operation, URL]
    headers: Mapping[Operation, Headers] = field(repr=False)
    defaults: Mapping[Operation, Headers] = field(default_factory=dict)
    passthrough_auth: bool = False
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    label: str = ""
    first_byte_timeout: tuple[float, float] = (60.0, 600.0)

    def limit(self, is_stream: bool) -> float:
        """Seconds to wait for the first byte."""
        return self.first_byte_timeout[0 if is_stream else 1]
