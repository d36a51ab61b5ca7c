"""LLM routing on your own machine: which route does a conversation belong to, and so which model should answer it?

>>> from archroute_edge import Route, Router
>>> with Router(routes=[Route("bug_fixing", "identifying and fixing errors in code")], model="mini") as router:
...     decision = router.route("my test fails with an IndexError")
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archroute_edge.config import RoutingConfig, load_config, parse_config
    from archroute_edge.conversation import Messages
    from archroute_edge.deciders import Calibration
    from archroute_edge.decision import Decision, Timings, TokenCounts, Warmup
    from archroute_edge.engine import Cancellation
    from archroute_edge.errors import ArchRouteError
    from archroute_edge.routes import OTHER, Route, RouteTable
    from archroute_edge.routing import AsyncRouter, LiteLLMClassifier, Router, RoutingService

__version__ = "0.1.0"

__all__ = [
    "OTHER",
    "ArchRouteError",
    "AsyncRouter",
    "Calibration",
    "Cancellation",
    "Decision",
    "LiteLLMClassifier",
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


# Each is imported when it is first used: a command has no use for asyncio, and `archroute --help` none for a router.
_MODULES = {
    "AsyncRouter": "routing",
    "Calibration": "deciders",
    "RoutingConfig": "config",
    "load_config": "config",
    "parse_config": "config",
    "Messages": "conversation",
    "Decision": "decision",
    "Timings": "decision",
    "TokenCounts": "decision",
    "Warmup": "decision",
    "Cancellation": "engine",
    "ArchRouteError": "errors",
    "LiteLLMClassifier": "routing",
    "Router": "routing",
    "OTHER": "routes",
    "Route": "routes",
    "RouteTable": "routes",
    "RoutingService": "routing",
}


# Not for type checkers, to which it would make every name right.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
            return value
        # `archroute_edge.errors.ModelError`, with no import but this package's, is what a type checker allows.
        for module in _MODULES.values():
            if module.partition(".")[0] == name:
                importlib.import_module(f"{__name__}.{module}")
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
