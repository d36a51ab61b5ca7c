"""What all endpoints share: the service, its limits, and waiting for it on behalf of a client that may go away."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from archroute_edge.config import RoutingConfig
from archroute_edge.conversation import Messages
from archroute_edge.deciders import CASCADE
from archroute_edge.decision import Decision
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.record import EntrySinks
from archroute_edge.routes import RouteTable
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings, check_inline_table, earliest
from archroute_edge.server.http._affinity import AffinityStore
from archroute_edge.server.http._api_errors import ApiError, ClientGoneError, unavailable
from archroute_edge.server.http._client_watch import until_gone
from archroute_edge.server.http._entries import decision_entry
from archroute_edge.server.http._metrics import Metrics
from archroute_edge.server.http._reply_bodies import ErrorReply

Result = TypeVar("Result")

_DESCRIPTIONS = {
    400: "The request cannot be used: not JSON, not of this shape, or nothing in it to route.",
    401: "The API key is missing or wrong.",
    403: "The Host or Origin header names something foreign.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not declared as JSON, or compressed with something else than zstd.",
    422: "A question is of a kind that the server's model was not made for.",
    429: "Too many requests wait; try again after `Retry-After` seconds.",
    503: "No decision in time, the engine failed, or the server is shutting down.",
}

_WITH_BODY = tuple(status for status in _DESCRIPTIONS if status not in (404, 422))


def responses_of_protocols() -> dict[int | str, dict[str, Any]]:
    """Error answers of endpoints that are asked questions of several kinds."""
    return error_responses(*sorted({*_WITH_BODY, 422}))


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error answers for an endpoint's description; those of every endpoint with a body where none are named."""
    return {status: {"model": ErrorReply, "description": _DESCRIPTIONS[status]} for status in statuses or _WITH_BODY}


@dataclass(frozen=True)
class Answered:
    """A decision, and what it was chosen from."""

    decision: Decision
    config: RoutingConfig
    is_inline: bool


class Serving:
    """One service with the server's limits around it.

    Args:
        service: owns the router.
        settings: limits.
        metrics: what is counted.
        entries: gets an entry of every decision; further sinks may be hung in there.
    """

    def __init__(
        self, service: RoutingService, settings: ServerSettings, metrics: Metrics, entries: EntrySinks | None = None
    ) -> None:
        self.service = service
        self.settings = settings
        self.metrics = metrics
        self.entries = EntrySinks() if entries is None else entries
        self.affinity = AffinityStore(settings.max_affinity, settings.affinity_ttl)
        self.is_warm = False
        self.is_closing = False
        self.is_forced = False
        """Whether it is to end without finishing what runs."""

    @property
    def config(self) -> RoutingConfig:
        """The configuration that new requests are decided by."""
        return self.service.router.config

    @property
    def has_failed(self) -> bool:
        """Whether the service's thread has ended though the server has not."""
        return self.service.is_closed and not self.is_closing

    @property
    def model_name(self) -> str:
        """What the model is called; of a cascade both, as ``--model`` has it."""
        return CASCADE.join(file.name for file in self.service.router.model_files)

    def is_calibrated(self, decision: Decision) -> bool:
        """Whether the probabilities of a decision are calibrated; of a cascade, those of its encoder may be."""
        router = self.service.router
        return router.calibration is not None and decision.decided_by == router.model_file.name

    def inline(self, routes: RouteTable | None) -> RouteTable | None:
        """The routes of a request; None where they are the configuration's own, as a gateway sends them.

        Raises:
            RouteTableError: they are too large to be kept.
        """
        # Its own have names in the metrics, and a warm-up of them serves decisions on them.
        if routes is None or _asks_the_same(routes, self.config.table):
            return None
        return check_inline_table(routes)

    async def decide(
        self,
        request: Request,
        messages: Messages,
        *,
        routes: RouteTable | None = None,
        scores: bool = False,
        key: str | None = None,
        deadline: float | None = None,
        user: str | None = None,
        asked_model: str | None = None,
    ) -> Answered:
        """The decision on ``messages``, or the fallback at the deadline; it is the answer to the request, and is noted as such.

        Raises:
            ApiError, ClientGoneError, ArchRouteError: as :meth:`ask`.
        """
        answered = await self.ask(request, messages, routes=routes, scores=scores, key=key, deadline=deadline, user=user)
        self.note(request, answered.decision, messages, asked_model=asked_model, session=key)
        return answered

    def note(
        self,
        request: Request,
        decision: Decision,
        messages: Messages,
        *,
        asked_model: str | None = None,
        session: str | None = None,
    ) -> None:
        """Make an entry of a decision on ``messages`` that answers a request."""
        kept = messages if self.settings.keep_content else None
        entry = decision_entry(decision, kept, asked_model=asked_model, session=session, client=client_of(request))
        self.entries.add(entry)

    async def ask(
        self,
        request: Request,
        messages: Messages,
        *,
        routes: RouteTable | None = None,
        scores: bool = False,
        key: str | None = None,
        deadline: float | None = None,
        user: str | None = None,
        is_watched: bool = False,
    ) -> Answered:
        """The decision on ``messages``, or the fallback at the deadline.

        Args:
            request: whose client goes away or not.
            messages, routes, scores, key, deadline, user: as in requests.
            is_watched: whether the caller watches the client itself, and is cancelled when it goes away.

        Raises:
            ApiError: 503 when the server's time limit has passed.
            ClientGoneError: the client went away; the decision has been called off.
            ArchRouteError: as :meth:`RoutingService.submit`.
        """
        config, routes = self.config, self.inline(routes)
        deadline = earliest(deadline, self.settings.deadline)
        caller = caller_of(request, user)
        future = self.service.submit(messages, routes=routes, scores=scores, key=key, deadline=deadline, caller=caller)
        decision = await self.wait(request, future, is_watched=is_watched)
        self.metrics.decided(decision, is_inline=routes is not None)
        return Answered(decision, config, routes is not None)

    async def wait(self, request: Request, future: Future[Result], *, is_watched: bool = False) -> Result:
        """The result of ``future``, unless the client goes away or the time limit passes before; it is cancelled then.

        Raises:
            ApiError: 503 when the server's time limit has passed.
            ClientGoneError: the client went away.
            DecisionCancelledError: the service called it off.
        """
        answer = asyncio.wrap_future(future)
        gone = None if is_watched else asyncio.ensure_future(until_gone(request.receive))
        try:
            either: set[asyncio.Future[Any]] = {answer} if gone is None else {answer, gone}
            await asyncio.wait(either, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.cancelled():
                raise DecisionCancelledError("the service called it off")
            if answer.done():
                return answer.result()
            if gone is not None and gone.done():
                raise ClientGoneError
            self.metrics.timed_out()
            raise unavailable(f"no decision within {self.settings.timeout:g} s", "timeout")
        finally:
            if gone is not None:
                gone.cancel()
            answer.cancel()


def client_of(request: Request) -> str | None:
    """Name of the client's API key; None if it has none, or the server's own."""
    name: str | None = getattr(request.state, "client_name", None)
    return name


def check_own_key(request: Request) -> None:
    """Refuse a client's key where what is shown is about the requests of all.

    Raises:
        ApiError: it is one.
    """
    if client_of(request) is not None:
        raise ApiError(403, "this needs the server's own key, not a client's; see --api-key-file", code="server_key_needed")


def caller_of(request: Request, user: str | None) -> str:
    """Who asks: what the request says, else the machine that it comes from; noted, in case that it is refused."""
    caller = f"user {user}" if user else f"host {request.client.host if request.client else ''}"
    request.state.caller = caller
    return caller


def _asks_the_same(one: RouteTable, other: RouteTable) -> bool:
    """Whether two tables make the same prompts: the models behind their routes are no part of those."""
    # Routes that name models of their own are answered with those.
    if any(route.models for route in one):
        return False
    return [(route.name, route.description) for route in one] == [(route.name, route.description) for route in other]
