"""Routing from asyncio: the same answers, and an event loop that never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from archroute_edge.conversation import Messages
from archroute_edge.decision import Decision, Warmup
from archroute_edge.router import Router
from archroute_edge.routes import Route, RouteTable
from archroute_edge.service import RoutingService


class AsyncRouter:
    """A router for asyncio. Cancelling a task that waits for a decision stops its evaluation.

    ``await AsyncRouter.open(...)`` takes the arguments of :class:`Router` and loads the model in a thread;
    :meth:`over` shares a service that is there already.
    """

    def __init__(self, service: RoutingService, *, owned: bool) -> None:
        self.service = service
        self._owned = owned

    @classmethod
    async def open(cls, routes: Iterable[Route] | RouteTable | None = None, **settings: Any) -> AsyncRouter:
        """Load a model, without holding up the event loop; arguments and errors are those of :class:`Router`."""
        router = await asyncio.to_thread(partial(Router, routes, **settings))
        return cls(RoutingService(router), owned=True)

    @classmethod
    def over(cls, service: RoutingService) -> AsyncRouter:
        """An async face of ``service``, which stays open when this is closed."""
        return cls(service, owned=False)

    async def route(self, messages: Messages, **settings: Any) -> Decision:
        """Decide where ``messages`` belong; arguments and errors are those of :meth:`RoutingService.submit`."""
        return await asyncio.wrap_future(self.service.submit(messages, **settings))

    async def route_many(self, conversations: Sequence[Messages], **settings: Any) -> list[Decision]:
        """Decide on several conversations, as :meth:`RoutingService.submit_many` does."""
        return await asyncio.wrap_future(self.service.submit_many(conversations, **settings))

    async def warm(self, messages: Messages | None = None, **settings: Any) -> Warmup:
        """Evaluate ahead of time, as :meth:`RoutingService.warm` does."""
        return await asyncio.wrap_future(self.service.warm(messages, **settings))

    async def aclose(self) -> None:
        """Close the service, if it was opened here, once what waits is finished."""
        if self._owned:
            await asyncio.to_thread(self.service.close)

    async def __aenter__(self) -> AsyncRouter:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.aclose()
