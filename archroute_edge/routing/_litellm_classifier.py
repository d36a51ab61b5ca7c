"""The classifier that LiteLLM's auto router calls. LiteLLM imports this, never the other way round."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

from archroute_edge.config import load_config
from archroute_edge.conversation import Messages
from archroute_edge.routes import OTHER, Route, RouteTable
from archroute_edge.routing._async_router import AsyncRouter
from archroute_edge.routing._router import Router
from archroute_edge.routing._service import RoutingService


class LiteLLMRequest(Protocol):
    """What the classifier reads of LiteLLM's ``RoutingContext``."""

    @property
    def structured_messages(self) -> Messages:
        """The conversation as OpenAI's chat completions have it, whichever API the request came through."""


class LiteLLMClassifier:
    """Names the tier of a request for LiteLLM (``classifier_type: custom``); the tiers have the routes' names.

    An instance is the ``classifier_plugin`` of LiteLLM's configuration. LiteLLM goes on with its own fallback if this raises,
    takes longer than ``classifier_plugin_timeout_ms`` (the decision is then cancelled), or declines.

    Args:
        routes: as for :class:`archroute_edge.Router`, and so ``settings``.
        other: the tier of conversations that fit no route; None declines them.
        queue_limit: requests that may wait.

    Raises:
        ArchRouteError: as :class:`archroute_edge.Router`.
    """

    def __init__(
        self,
        routes: Iterable[Route] | RouteTable | None = None,
        *,
        other: str | None = OTHER,
        queue_limit: int = 64,
        **settings: Any,
    ) -> None:
        self.service = RoutingService(Router(routes, **settings), queue_limit=queue_limit)
        self._router = AsyncRouter.over(self.service)
        self._other = other

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], **settings: Any) -> LiteLLMClassifier:
        """A classifier for the configuration file at ``path``.

        Raises:
            ConfigError: the file cannot be used; the message names the line.
        """
        return cls(config=load_config(path), **settings)

    async def classify(self, context: LiteLLMRequest) -> str | None:
        """The tier of the request, or None to leave it to LiteLLM's fallback."""
        decision = await self._router.route(context.structured_messages)
        return decision.route if decision.matched else self._other

    def __deepcopy__(self, _memo: dict[int, object]) -> LiteLLMClassifier:
        """This itself: LiteLLM copies its configuration, and a copy has no use for a model of its own."""
        return self

    def __repr__(self) -> str:
        # The same in every process, since LiteLLM names a deployment by a hash of its configuration.
        return f"LiteLLMClassifier({', '.join(self.service.router.config.table.names)})"

    def close(self) -> None:
        """Free the model; requests that wait are decided before."""
        self.service.close()
