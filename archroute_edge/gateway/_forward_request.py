"""A request that is to be forwarded, as it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from archroute_edge.decision import Decision
from archroute_edge.record import Operation
from archroute_edge.targets import RequestFacts

AUTO = "auto"
"""The model that asks for a decision."""


@dataclass(frozen=True)
class RouteFound:
    """Where the router sends a request.

    Args:
        decision: the router's; None if it could make none. The default model answers then.
        reason: why there is none: ``queue_full``, ``timeout``, ``engine_failed`` or ``not_understood``.
        ms: how long the request has waited for it.
    """

    decision: Decision | None
    reason: str | None = None
    ms: float = 0.0


@dataclass(frozen=True)
class ForwardRequest:
    """One request of a client.

    Args:
        operation: whose API it speaks.
        raw: its body, as it came.
        body: the same, parsed; its ``model`` is a text.
        model_at: where that stands in ``raw``, as :func:`model_span` finds it.
        facts: of the body, as :meth:`Gateway.facts_of` finds them.
        headers: of the request, as they came, names in lower case.
        found: the route, if ``model`` is :data:`AUTO`.
        session: names the conversation; None if it cannot be told from others.
        client: name of the client's API key.
        server_key_in: the headers that held the server's API key, in lower case; none if it asks for none.
        started: when it came, as ``time.perf_counter`` has it.
        query: what stands behind the path, as it goes upstream; empty for nothing.
    """

    operation: Operation
    raw: bytes = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    model_at: tuple[int, int]
    facts: RequestFacts
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)
    found: RouteFound | None
    session: str | None
    client: str | None
    server_key_in: frozenset[bytes]
    started: float
    query: bytes = b""

    @property
    def model(self) -> str:
        """What it asks for: :data:`AUTO`, an alias or a model."""
        return str(self.body["model"])

    @property
    def is_stream(self) -> bool:
        """Whether it asks for a stream."""
        return self.body.get("stream") is True

    def without_body(self) -> ForwardRequest:
        """The same, without what is only needed to send it."""
        return replace(self, raw=b"", headers=(), body={name: self.body.get(name) for name in ("model", "stream")})
