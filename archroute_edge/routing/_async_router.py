"""Routing from asyncio: the same answers, and an event loop that never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any
from uuid import UUID

from archroute_edge.conversation import Messages
from archroute_edge.decision import Decision, Warmup
from archroute_edge.routes import Route, RouteTable
from archroute_edge.routing._router import Router
from archroute_edge.routing._service import RoutingService


class AsyncRouter:
    """A router for asyncio: ``async with await AsyncRouter.open(routes) as router: await router.route(...)``.

    Cancelling a task that waits for a decision takes it off the queue, or stops its evaluation.

    Args:
        service: what decides.
        owned: whether it is closed with this.
    """

    def __init__(self, service: RoutingService, *, owned: bool) -> None:
        self.service = service
        self._owned = owned

    @classmethod
    async def open(
        cls, routes: Iterable[Route] | RouteTable | None = None, *, queue_limit: int = 64, **settings: Any
    ) -> AsyncRouter:
        """Load a model in a thread; ``routes`` and ``settings`` are the arguments of :class:`archroute_edge.Router`.

        Raises:
            ArchRouteError: as :class:`archroute_edge.Router`.
        """
        router = await asyncio.to_thread(partial(Router, routes, **settings))
        return cls(RoutingService(router, queue_limit=queue_limit), owned=True)

    @classmethod
    def over(cls, service: RoutingService) -> AsyncRouter:
        """An async face of ``service``, which stays open when this is closed."""
        return cls(service, owned=False)

    async def route(
        self,
        messages: Messages,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        key: str | int | UUID | None = None,
        deadline: float | None = None,
        caller: str | None = None,
    ) -> Decision:
        """Decide where ``messages`` belong; arguments and errors are those of :meth:`RoutingService.submit`."""
        future = self.service.submit(messages, routes=routes, scores=scores, key=key, deadline=deadline, caller=caller)
        return await asyncio.wrap_future(future)

    async def route_many(
        self,
        conversations: Sequence[Messages],
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        scores: bool = False,
        keys: Sequence[str | int | UUID | None] | None = None,
        caller: str | None = None,
    ) -> list[Decision]:
        """Decide on several conversations; arguments and errors are those of :meth:`RoutingService.submit_many`."""
        future = self.service.submit_many(conversations, routes=routes, scores=scores, keys=keys, caller=caller)
        return await asyncio.wrap_future(future)

    async def warm(
        self,
        messages: Messages | None = None,
        *,
        routes: Iterable[Route] | RouteTable | None = None,
        whole: bool = False,
        scores: bool = False,
        caller: str | None = None,
    ) -> Warmup:
        """Evaluate ahead of time, as :meth:`RoutingService.warm` does.

        Raises:
            asyncio.CancelledError: something newer of the same caller took the place of this one.
        """
        future = self.service.warm(messages, routes=routes, whole=whole, scores=scores, caller=caller)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Finish what waits and close the service, if it was opened here."""
        if self._owned:
            await asyncio.to_thread(self.service.close)

    async def __aenter__(self) -> AsyncRouter:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.aclose()
