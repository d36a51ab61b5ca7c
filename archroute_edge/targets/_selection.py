"""From a route to the models that may serve it: aliases, traffic shares, stickiness and the default."""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass

from archroute_edge.config import RoutingConfig, WeightedModel
from archroute_edge.errors import RouteTableError
from archroute_edge.routes import OTHER


@dataclass(frozen=True)
class ModelChoice:
    """Models in the order in which to try them; a caller falls back along it when one fails."""

    models: tuple[str, ...]

    @property
    def first(self) -> str | None:
        """The model to ask first; None where the configuration names none."""
        return self.models[0] if self.models else None


def select_models(
    config: RoutingConfig, route: str | None, *, key: str | None = None, rng: random.Random | None = None
) -> ModelChoice:
    """The models for a route, in the order of the configuration.

    An alias with several targets is replaced by all of them, one drawn by weight in front. ``cheapest`` and ``fastest``
    need prices and latencies that are not known offline, so they keep the order too. No match, and a route without
    models, give the default model, or no model where there is no default.

    Args:
        config: routes, models and aliases.
        route: a route's name; None or ``other`` where none fits.
        key: something that stays the same over a conversation; equal keys draw equal targets, on every machine.
        rng: what draws where there is no key.

    Raises:
        RouteTableError: the table has no route of that name.
    """
    listed: tuple[str, ...] = ()
    if route is not None and route != OTHER:
        if route not in config.table:
            raise RouteTableError(f"no route is called {route!r}")
        listed = tuple(config.table[route].models)
    if not listed and config.default_model is not None:
        listed = (config.default_model,)
    models: dict[str, None] = {}
    for name in listed:
        targets = config.aliases.get(name)
        models.update(dict.fromkeys([name] if targets is None else _draw(name, targets, key, rng)))
    return ModelChoice(tuple(models))


def _draw(alias: str, targets: tuple[WeightedModel, ...], key: str | None, rng: random.Random | None) -> list[str]:
    """Targets with a weight above 0, in an order drawn by weight.

    Each target gets an exponentially distributed time with its weight as the rate; the earliest comes first with the
    probability of its share. With a key the times depend on the key and the target alone, so changing one weight moves
    only conversations that its target wins or loses.
    """
    weighted = [target for target in targets if target.weight > 0]
    if len(weighted) == 1:
        return [weighted[0].model]
    if key is None:
        rng = rng or random.Random()
        draws = [1.0 - rng.random() for _ in weighted]
    else:
        draws = [_uniform(key, alias, target.model) for target in weighted]
    times = {target.model: -math.log(draw) / target.weight for target, draw in zip(weighted, draws, strict=True)}
    return sorted(times, key=lambda model: times[model])


def _uniform(*parts: str) -> float:
    """A number in (0, 1] that only the parts decide."""
    digest = hashlib.sha256(json.dumps(parts).encode("ascii")).digest()
    return (int.from_bytes(digest[:6], "big") + 1) / 2**48
