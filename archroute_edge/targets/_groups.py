"""The members of a route or an alias, among which its traffic is shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from archroute_edge.config import RoutingConfig, SelectionPolicy, TrafficRule
from archroute_edge.errors import RouteTableError
from archroute_edge.routes import OTHER
from archroute_edge.targets._order_words import Place
from archroute_edge.targets._shares import ramp_share

_NO_RULE: Final = TrafficRule()


@dataclass(frozen=True)
class Group:
    """A route or an alias. Its members are models, or aliases with members of their own.

    Args:
        place: what it is.
        members: in the order of the configuration, without those that get no traffic.
        weights: of the members; empty if their order counts.
        rule: how they share the traffic besides.
        policy: how they are ranked if they do not share it.
        is_default: whether they stand in because no route fits, or the route names no model.
    """

    place: Place
    members: tuple[str | Group, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    rule: TrafficRule = _NO_RULE
    policy: SelectionPolicy = "none"
    is_default: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the members, as weights and rules call them."""
        return tuple(each if isinstance(each, str) else each.place.name for each in self.members)

    @property
    def models(self) -> tuple[str, ...]:
        """Of the members and theirs, each once."""
        found: dict[str, None] = {}
        for each in self.members:
            found.update(dict.fromkeys([each] if isinstance(each, str) else each.models))
        return tuple(found)

    @property
    def all(self) -> tuple[Group, ...]:
        """This group, and the aliases among its members."""
        return (self, *(each for each in self.members if isinstance(each, Group)))

    @property
    def places(self) -> tuple[Place, ...]:
        """Of all of them; a model that was asked for by its own name has none."""
        return tuple(each.place for each in self.all if each.place.kind != "model")

    def only(self, is_kept: Callable[[str], bool]) -> Group:
        """The group with those models alone."""
        return self._filtered(lambda _, member: not isinstance(member, str) or is_kept(member))

    def without(self, is_dropped: Callable[[Group, str], bool]) -> Group:
        """The group without the members, by their names, that are dropped from it or from the alias that they stand in."""
        return self._filtered(
            lambda group, member: not is_dropped(group, member if isinstance(member, str) else member.place.name)
        )

    def _filtered(self, is_kept: Callable[[Group, str | Group], bool]) -> Group:
        """The same group if nothing is left out; an alias without members is left out, too."""
        found = [each if isinstance(each, str) else each._filtered(is_kept) for each in self.members]
        kept = tuple(
            new
            for old, new in zip(self.members, found, strict=True)
            if is_kept(self, old) and (isinstance(new, str) or new.members)
        )
        is_same = len(kept) == len(self.members) and all(a is b for a, b in zip(kept, self.members, strict=True))
        return self if is_same else replace(self, members=kept)


def route_group(config: RoutingConfig, route: str | None, now: float, stand_in: str | None = None) -> Group:
    """The targets of a route; the default model, or else ``stand_in``, if none fits (None, ``other``) or it names no model.

    Raises:
        RouteTableError: the table has no route of that name.
    """
    name = OTHER if route is None else route
    listed: Sequence[str] = ()
    if name != OTHER:
        if name not in config.table:
            raise RouteTableError(f"no route is called {name!r}")
        listed = config.table[name].models
    is_default = not listed
    default = stand_in if config.default_model is None else config.default_model
    if not listed and default is not None:
        listed = (default,)
    rule = config.forward.routes.get(name, _NO_RULE)
    members = tuple(_member(config, each, now) for each in _with_traffic(listed, rule, rule.weights, now))
    return Group(Place("route", name), members, rule.weights, rule, config.selection.get(name, "none"), is_default)


def named_group(config: RoutingConfig, name: str, now: float) -> Group:
    """The targets of an alias; or a model by its name."""
    found = _member(config, name, now)
    return Group(Place("model", name), (found,)) if isinstance(found, str) else found


def _member(config: RoutingConfig, name: str, now: float) -> str | Group:
    targets = config.aliases.get(name)
    if targets is None:
        return name
    rule = config.forward.aliases.get(name, _NO_RULE)
    weights = {target.model: target.weight for target in targets}
    members = _with_traffic([target.model for target in targets], rule, weights, now)
    return Group(Place("alias", name), tuple(members), weights, rule)


def _with_traffic(listed: Sequence[str], rule: TrafficRule, weights: Mapping[str, float], now: float) -> Sequence[str]:
    """Those that get any. One whose weight is not stated does if all in front of it fail."""
    found = []
    for each in dict.fromkeys(listed):
        is_growing = rule.ramp is not None and rule.ramp.model == each
        if (ramp_share(rule.ramp, now) if rule.ramp is not None and is_growing else weights.get(each, 1.0)) > 0:
            found.append(each)
    return found or listed


def group_at(config: RoutingConfig, place: Place) -> Group | None:
    """The targets that a route or an alias has at the end of its ramp; None if the configuration has no such place."""
    if place.kind == "alias":
        return named_group(config, place.name, math.inf) if place.name in config.aliases else None
    return route_group(config, place.name, math.inf) if place.name == OTHER or place.name in config.table else None


def places_of(config: RoutingConfig, route: str | None, asked_model: str | None) -> tuple[Place, ...]:
    """Where the traffic of a request was shared: on its route and that route's aliases, or on the alias that it asked for."""
    if route is not None:
        found = group_at(config, Place("route", route))
    else:
        found = None if asked_model is None else group_at(config, Place("alias", asked_model))
    return () if found is None else found.places
