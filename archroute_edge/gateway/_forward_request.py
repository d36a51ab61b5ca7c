"""A request that is to be forwarded, as it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archroute_edge.decision import Decision
from archroute_edge.record import Operation


@dataclass(frozen=True)
class RouteFound:
    """Where the router sends a request.

    Args:
        decision: the router's; None if it could make none.
        reason: why there is none: ``queue_full``, ``timeout``, ``engine_failed``, ``not_understood``. The default model
            answers.
    """

    decision: Decision | None
    reason: str | None = None


@dataclass(frozen=True)
class ForwardRequest:
    """One request of a client.

    Args:
        operation: whose API it speaks.
        raw: its body, as it came.
        body: the same, parsed.
        headers: of the request, as they came, names in lower case.
        model: what it asks for: ``auto``, an alias or a model.
        found: for ``auto``: the route.
        session: names the conversation; None if it cannot be told from others.
        client: name of the client's API key.
        started: when it came, as ``time.perf_counter`` has it.
    """

    operation: Operation
    raw: bytes
    body: dict[str, object]
    headers: Sequence[tuple[bytes, bytes]]
    model: str
    found: RouteFound | None
    session: str | None
    client: str | None
    started: float
