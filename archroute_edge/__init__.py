"""LLM routing on your own machine: which route does a conversation belong to, and so which model should answer it?

>>> from archroute_edge import Route, Router
>>> with Router(routes=[Route("bug_fixing", "identifying and fixing errors in code")], model="mini") as router:
...     decision = router.route("my test fails with an IndexError")
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from archroute_edge.calibration import Calibration
from archroute_edge.config import RoutingConfig, load_config, parse_config
from archroute_edge.conversation import Messages
from archroute_edge.decision import Decision, Timings, TokenCounts, Warmup
from archroute_edge.engine.cancellation import Cancellation
from archroute_edge.errors import ArchRouteError
from archroute_edge.router import Router
from archroute_edge.routes import OTHER, Route, RouteTable
from archroute_edge.service import RoutingService

if TYPE_CHECKING:
    from archroute_edge.async_router import AsyncRouter

__version__ = "0.1.0"

__all__ = [
    "OTHER",
    "ArchRouteError",
    "AsyncRouter",
    "Calibration",
    "Cancellation",
    "Decision",
    "Messages",
    "Route",
    "RouteTable",
    "Router",
    "RoutingConfig",
    "RoutingService",
    "Timings",
    "TokenCounts",
    "Warmup",
    "__version__",
    "load_config",
    "parse_config",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # asyncio takes a tenth as long to import as everything else, and a command has no use for it.
    if name == "AsyncRouter":
        from archroute_edge.async_router import AsyncRouter

        return AsyncRouter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
