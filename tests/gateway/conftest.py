"""A gateway over upstreams of the test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from archroute_edge.config import (
    ForwardSettings,
    ModelDefinition,
    RoutingConfig,
    WeightedModel,
    parse_config,
)
from archroute_edge.config import Upstream as Reached
from archroute_edge.gateway import BrokenAnswerError, ForwardRequest, Gateway, model_span
from archroute_edge.gateway._request_facts import request_facts
from archroute_edge.record import Entry, Operation
from tests.upstream import Upstream

KEY = "sk-upstream-1234567890"
_CONFIG = parse_config("""
default_model: p/one
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors, models: [p/one, p/two]}
""")
Result = TypeVar("Result")


class Kept(list[Entry]):
    """A sink in memory."""

    add = list.append


@dataclass(frozen=True)
class Reply:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_cut: bool

    def json(self) -> Any:
        return json.loads(self.body)


def configure(
    urls: dict[str, str],
    *,
    aliases: dict[str, list[str]] | None = None,
    passthrough: bool = False,
    interface: str = "litellm",
    **settings: Any,
) -> RoutingConfig:
    """A configuration of models by the addresses of their upstreams; the targets of an alias are tried in their order."""
    upstream = Reached(access_key=None if passthrough else KEY, passthrough_auth=passthrough, interface=interface)
    return replace(
        _CONFIG,
        models=tuple(ModelDefinition(name, upstream=replace(upstream, base_url=url)) for name, url in urls.items()),
        aliases={
            name: tuple(WeightedModel(each, 1e9**-number) for number, each in enumerate(targets))
            for name, targets in (aliases or {}).items()
        },
        forward=ForwardSettings(**settings),
    )


def request(
    body: dict[str, Any] | bytes,
    operation: Operation = "chat",
    *,
    headers: dict[str, str] | None = None,
    client: str | None = None,
    session: str | None = None,
    server_key_in: frozenset[bytes] = frozenset(),
    query: bytes = b"",
) -> ForwardRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    parsed = json.loads(raw)
    span = model_span(raw)
    assert span is not None
    return ForwardRequest(
        operation,
        raw,
        parsed,
        span,
        request_facts(parsed),
        sent,
        None,
        session,
        client,
        server_key_in,
        time.perf_counter(),
        query,
    )


async def ask(gateway: Gateway, asked: ForwardRequest) -> Reply:
    """The whole reply."""
    forwarded = await gateway.forward(asked)
    body = b""
    is_cut = False
    try:
        async for chunk in forwarded.content:
            body += chunk
    except BrokenAnswerError:
        is_cut = True
    finally:
        await forwarded.close()
    return Reply(forwarded.status, {name.decode(): value.decode() for name, value in forwarded.headers}, body, is_cut)


def run(gateway: Gateway, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of ``work`` on a loop of its own; the gateway is closed behind it."""

    async def working() -> Result:
        try:
            return await asyncio.wait_for(work(), 30)
        finally:
            await gateway.close()

    return asyncio.run(working())


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as found:
        yield found


@pytest.fixture
def second() -> Iterator[Upstream]:
    with Upstream() as found:
        yield found
