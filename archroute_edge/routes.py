"""Routes and route tables: validated once, then trusted everywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from archroute_edge._unicode import normalized
from archroute_edge.errors import RouteTableError

OTHER = "other"
"""The model's answer if no route fits; no route may have this name."""

MAX_ROUTES = 256
"""Most routes in one table."""


@dataclass(frozen=True)
class Route:
    """One way a conversation can go.

    Args:
        name: the model's answer for it; any text but ``other``.
        description: the messages that belong on this route, in plain words.
        models: the models for it, in order of preference.

    Raises:
        RouteTableError: the name is empty, reserved, or not valid Unicode.
    """

    name: str
    description: str = ""
    models: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.description, str):
            raise RouteTableError(f"route {self.name!r}: name and description must be text")
        if not isinstance(self.models, (str, Sequence)):
            raise RouteTableError(f"route {self.name!r}: models must be a list of names")
        # A tuple, so that routes can be compared and hashed.
        object.__setattr__(self, "models", (self.models,) if isinstance(self.models, str) else tuple(self.models))
        if not all(isinstance(model, str) and model for model in self.models):
            raise RouteTableError(f"route {self.name!r}: models must be non-empty text")
        if not self.name.strip():
            raise RouteTableError("a route has an empty name; every route needs one")
        for what, text in (("name", self.name), ("description", self.description)):
            if any("\ud800" <= char <= "\udfff" for char in text):
                raise RouteTableError(f"route {self.name!r}: the {what} holds a lone surrogate, which is not valid Unicode")
        if normalized("NFC", self.name) == OTHER:
            raise RouteTableError(f"a route may not be called {OTHER!r}: it is the answer if no route fits")


@dataclass(frozen=True)
class RouteTable:
    """An ordered, validated set of routes. The order is part of the prompt, so it is kept.

    Args:
        routes: at least one and at most :data:`MAX_ROUTES` routes with distinct names.

    Raises:
        RouteTableError: no routes, too many, or two names that are equal after NFC normalisation.
    """

    routes: tuple[Route, ...]
    _by_name: dict[str, Route] = field(init=False, repr=False, compare=False, hash=False)

    def __init__(self, routes: Iterable[Route]) -> None:
        if not isinstance(routes, Iterable):
            raise RouteTableError(f"routes is {routes!r:.80}; it must be a list of Route objects or a RouteTable")
        object.__setattr__(self, "routes", tuple(routes))
        for route in self.routes:
            if not isinstance(route, Route):
                raise RouteTableError(f"a route table holds Route objects, not {type(route).__name__}: {route!r:.80}")
        if not self.routes:
            raise RouteTableError("there are no routes; at least one is needed")
        if len(self.routes) > MAX_ROUTES:
            raise RouteTableError(f"{len(self.routes)} routes are more than the {MAX_ROUTES} that one table may hold")
        seen: dict[str, str] = {}
        for route in self.routes:
            key = normalized("NFC", route.name)
            if key in seen:
                same = "" if seen[key] == route.name else " (they are equal after Unicode normalisation)"
                raise RouteTableError(f"two routes are called {route.name!r}{same}; names must be distinct")
            seen[key] = route.name
        object.__setattr__(self, "_by_name", {route.name: route for route in self.routes})

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def __getitem__(self, name: str) -> Route:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in table order."""
        return tuple(route.name for route in self.routes)


def as_table(routes: Iterable[Route] | RouteTable) -> RouteTable:
    """``routes`` as a validated table."""
    return routes if isinstance(routes, RouteTable) else RouteTable(routes)
