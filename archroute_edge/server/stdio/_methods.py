"""What a host can ask for over stdio: the methods, their parameters, and what they answer."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, Final

from archroute_edge import __version__
from archroute_edge.config import read_routes
from archroute_edge.decision import Decision, Warmup
from archroute_edge.errors import RequestError
from archroute_edge.models import models_on_this_machine
from archroute_edge.routes import RouteTable
from archroute_edge.routing import RoutingService
from archroute_edge.server import MAX_BATCH, StdioSettings, check_inline_table
from archroute_edge.server.stdio._json_rpc import INVALID_PARAMS


class Parameters:
    """The parameters of a request; each is read as the type that it has to be.

    Raises:
        RequestError: there is one that the method does not know.
    """

    def __init__(self, method: str, values: dict[str, Any], known: tuple[str, ...]) -> None:
        self._method = method
        self._values = values
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name.lower(), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known) or 'none'}"
                raise self._error(f"has no parameter {name[:60]!r}; {hint}")

    def _error(self, message: str) -> RequestError:
        return RequestError(f"{self._method} {message}", code=INVALID_PARAMS)

    def needed(self, name: str) -> Any:
        """A value of any type that has to be there."""
        if name not in self._values:
            raise self._error(f"needs the parameter {name!r}")
        return self._values[name]

    def anything(self, name: str) -> Any:
        """A value of any type, None where there is none."""
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        """True or false; false where there is none."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise self._error(f"takes true or false as {name!r}")
        return value

    def text(self, name: str) -> str | None:
        """Text, or None."""
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise self._error(f"takes text as {name!r}")
        return value

    def texts(self, name: str, count: int) -> list[str | None] | None:
        """A list of ``count`` texts and nulls, or None."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(each is None or isinstance(each, str) for each in value):
            raise self._error(f"takes a list of texts as {name!r}")
        if len(value) != count:
            raise self._error(f"was given {len(value)} {name} for {count} conversations; give one for each, or none")
        return value

    def seconds(self, name: str) -> float | None:
        """A number above 0, or None."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
            raise self._error(f"takes seconds, a number above 0, as {name!r}")
        return float(value)

    def conversations(self, name: str) -> list[Any]:
        """A list of conversations, which are read later."""
        value = self.needed(name)
        if not isinstance(value, list) or not 0 < len(value) <= MAX_BATCH:
            raise self._error(f"takes a list of 1 to {MAX_BATCH} conversations as {name!r}")
        return value

    def routes(self) -> RouteTable | None:
        """The routes that came with the request, or None."""
        value = self._values.get("routes")
        return None if value is None else check_inline_table(read_routes(value))


@dataclass(frozen=True)
class Method:
    """A method: the names of its parameters, what it does, and what the reply says of the result.

    ``start`` gives the result, or its future. ``finish`` makes plain values of it, of None as well where the request
    ``may_be_left_off``.
    """

    parameters: tuple[str, ...]
    start: Callable[[RoutingService, StdioSettings, Parameters], Any]
    finish: Callable[[Any], Any]
    may_be_left_off: bool = False


def _route(service: RoutingService, settings: StdioSettings, given: Parameters) -> Future[Decision]:
    deadlines = [each for each in (given.seconds("deadline"), settings.deadline) if each is not None]
    return service.submit(
        given.needed("messages"),
        routes=given.routes(),
        scores=given.flag("scores"),
        key=given.text("key"),
        deadline=min(deadlines, default=None),
        caller=given.text("caller"),
    )


def _route_many(service: RoutingService, _settings: StdioSettings, given: Parameters) -> Future[list[Decision]]:
    conversations = given.conversations("conversations")
    return service.submit_many(
        conversations,
        routes=given.routes(),
        scores=given.flag("scores"),
        keys=given.texts("keys", len(conversations)),
        caller=given.text("caller"),
    )


def _warm(service: RoutingService, _settings: StdioSettings, given: Parameters) -> Future[Warmup]:
    return service.warm(given.anything("messages"), routes=given.routes(), caller=given.text("caller"))


def _info(service: RoutingService, settings: StdioSettings, _given: Parameters) -> dict[str, Any]:
    router = service.router
    return {
        "name": "archroute-edge",
        "version": __version__,
        "model": "+".join(file.name for file in router.model_files),
        "model_files": [str(file.path) for file in router.model_files],
        "routes": [asdict(route) for route in router.config.table],
        "default_model": router.config.default_model,
        "limits": {"line_bytes": settings.max_line, "batch": MAX_BATCH, "deadline": settings.deadline},
        "service": asdict(service.stats()),
    }


def _models(_service: RoutingService, _settings: StdioSettings, _given: Parameters) -> list[dict[str, Any]]:
    return [
        {"name": file.name, "path": str(file.path), "prompt_format": file.prompt_format} for file in models_on_this_machine()
    ]


def _warmed(done: Warmup | None) -> dict[str, Any]:
    """None stands for a warm-up that was called off, or that a newer one took the place of."""
    if done is None:
        return {"done": False, "tokens": 0, "evaluated": 0, "total_ms": 0.0}
    return {"done": True, **asdict(done), "total_ms": round(done.total_ms, 3)}


METHODS: Final = {
    "route": Method(("messages", "routes", "scores", "key", "deadline", "caller"), _route, Decision.to_dict),
    "route_many": Method(
        ("conversations", "routes", "scores", "keys", "caller"),
        _route_many,
        lambda decisions: [each.to_dict() for each in decisions],
    ),
    "warm": Method(("messages", "routes", "caller"), _warm, _warmed, may_be_left_off=True),
    "info": Method((), _info, lambda found: found),
    "models": Method((), _models, lambda found: found),
}
