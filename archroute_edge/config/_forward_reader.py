"""The section ``archroute`` of a configuration, which no other program reads: its nodes to :class:`ForwardSettings`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, TypeVar

from archroute_edge.config._forward_schema import (
    Canary,
    ForwardSettings,
    KeyRule,
    ModelFacts,
    Price,
    Ramp,
    Shadow,
    TrafficRule,
)
from archroute_edge.config._keys import (
    CANARY,
    CLIENT_KEY,
    MODEL_FACTS,
    OURS,
    PRICE,
    RAMP,
    REST,
    SESSIONS,
    SHADOW,
    TRAFFIC_RULE,
)
from archroute_edge.config._models import ModelSection
from archroute_edge.config._node import Node, shorten
from archroute_edge.errors import ArchRouteError
from archroute_edge.system import expanded

Value = TypeVar("Value")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])")
_PERCENT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_LONGEST_S: Final = 366 * 86_400.0
_MOST: Final = 10**12


def read_forward(section: Node, models: ModelSection, routes: Mapping[str, Sequence[str]]) -> ForwardSettings:
    """What the section says.

    Args:
        section: the section.
        models: the models of the file, which it may name.
        routes: route name to its targets, ``other`` among them.

    Raises:
        ConfigError: a wrong type, an unknown key, a share or a time that makes no sense, a model or a route that is not there.
    """
    fields = section.fields(OURS)
    rest = fields["rest"].fields(REST) if "rest" in fields else {}
    sessions = fields["sessions"].fields(SESSIONS) if "sessions" in fields else {}
    standard = ForwardSettings()
    return ForwardSettings(
        models=_facts(fields["models"], models) if "models" in fields else {},
        prices=file_beside(fields["prices"]) if "prices" in fields else None,
        routes=_rules(fields["routes"], models, routes, "route") if "routes" in fields else {},
        aliases=_rules(fields["aliases"], models, _targets_of(models), "alias") if "aliases" in fields else {},
        keys=_client_keys(fields["keys"]) if "keys" in fields else (),
        timeout=_read(fields, "timeout", seconds, standard.timeout),
        first_byte_timeout=_read(fields, "first_byte_timeout", seconds, standard.first_byte_timeout),
        rest_after=_read(rest, "after", lambda node: whole(node, 1), standard.rest_after),
        rest=_read(rest, "for", seconds, standard.rest),
        max_switch_spend_pct=_read(sessions, "max_switch_spend_pct", _percentage, None),
        session_ttl=_read(sessions, "ttl", seconds, standard.session_ttl),
    )


def seconds(node: Node) -> float:
    """A time of more than nothing and at most a year: seconds, or a text such as ``90s``, ``15m``, ``12h``, ``7d``, ``2w``."""
    found = _DURATION.fullmatch(node.content.strip()) if node.kind == "text" else None
    value = float(found[1]) * _UNITS[found[2]] if found else None
    if value is None and node.kind != "a number":
        raise _unreadable(node, "a time: seconds, or 90s, 15m, 12h, 7d, 2w")
    value = node.number() if value is None else value
    if not 0 < value <= _LONGEST_S:
        raise node.error_inside(f"{node.what} must be more than 0 and at most a year, not {shorten(str(node.content))}")
    return value


def share(node: Node) -> float:
    """A part of the whole, 0 to 1, or a text such as ``5%``."""
    found = _PERCENT.fullmatch(node.content.strip()) if node.kind == "text" else None
    if found is None and node.kind != "a number":
        raise _unreadable(node, "a share: 5%, or a number from 0 to 1")
    value = float(found[1]) / 100 if found else node.number()
    if not 0 <= value <= 1:
        raise node.error_inside(f"{node.what} must be from 0 to 1, or from 0% to 100%, not {shorten(str(node.content))}")
    return value


def margin(node: Node) -> float:
    """A part that may be larger than the whole: a number of at least 0, or a text such as ``150%``."""
    found = _PERCENT.fullmatch(node.content.strip()) if node.kind == "text" else None
    if found is None and node.kind != "a number":
        raise _unreadable(node, "a margin: 50%, or a number of at least 0")
    return float(found[1]) / 100 if found else at_least_0(node)


def moment(node: Node) -> datetime:
    """A point in time, as ISO 8601 and YAML write it; a date alone is its first moment in UTC."""
    expected = "a time with its zone, such as 2026-12-01T09:00:00Z, or a date"
    if node.kind not in ("a date", "text"):
        raise node.wrong(expected)
    text = str(node.content).strip()
    try:
        # Python 3.10 reads no "Z".
        found = datetime.fromisoformat(re.sub(r"\s*[Zz]$", "+00:00", text))
    except ValueError:
        raise node.error_inside(f"{node.what} must be {expected}, not {shorten(text)}") from None
    if found.tzinfo is None:
        if len(text) > len("2026-12-01"):
            raise node.error_inside(f"{node.what} has no time zone: add one, such as {text}Z")
        found = found.replace(tzinfo=timezone.utc)
    return found


def whole(node: Node, least: int = 0) -> int:
    """A whole number, as files write it."""
    number = node.number()
    if not number.is_integer() or not least <= number <= _MOST:
        raise node.error_inside(f"{node.what} must be a whole number of at least {least}, not {shorten(str(node.content))}")
    return int(number)


def _unreadable(node: Node, expected: str) -> ArchRouteError:
    """An error that says what has to stand there, and the text that does."""
    if node.kind != "text":
        return node.wrong(expected)
    return node.error_inside(f"{node.what} must be {expected}, not {shorten(node.content)}")


def _read(fields: dict[str, Node], name: str, read: Callable[[Node], Value], default: Value) -> Value:
    return read(fields[name]) if name in fields else default


def at_least_0(node: Node) -> float:
    """A number that is not negative."""
    number = node.number()
    if number < 0:
        raise node.error_inside(f"{node.what} is below 0")
    return number


def _percentage(node: Node) -> float:
    number = node.number()
    if not 0 <= number <= 100:
        raise node.error_inside(f"{node.what} is a percentage, from 0 to 100")
    return number


def file_beside(node: Node) -> Path:
    """A file; relative to the one that names it."""
    path = expanded(node.name())
    # Relative to the file that names it, wherever the program was started.
    return path if node.source.path is None else node.source.path.parent / path


def _facts(section: Node, models: ModelSection) -> dict[str, ModelFacts]:
    found: dict[str, ModelFacts] = {}
    for key, value in section.entries():
        what = f"the model {shorten(key.content)}"
        model = model_of(key.called("archroute: models"), models)
        if model in found:
            raise key.error(f"the model {shorten(model)} stands here twice")
        fields = value.fields(MODEL_FACTS, what)
        price = fields["price"].fields(PRICE, f"the price of {shorten(key.content)}") if "price" in fields else None
        found[model] = ModelFacts(
            context_window=_read(fields, "context_window", lambda node: whole(node, 1), None),
            images=_read(fields, "images", Node.flag, None),
            tools=_read(fields, "tools", Node.flag, None),
            price=None if price is None else _price(price),
            first_byte_timeout=_read(fields, "first_byte_timeout", seconds, None),
        )
    return found


def _price(fields: dict[str, Node]) -> Price:
    return Price(at_least_0(fields["input"]), at_least_0(fields["output"]), _read(fields, "cached", at_least_0, None))


def model_of(node: Node, models: ModelSection) -> str:
    """A model of the file; no alias."""
    name = models.names.resolve(node)
    if name in models.aliases:
        raise node.error_inside(f"{node.what}: {shorten(name)} is an alias; name a model")
    return name


def _targets_of(models: ModelSection) -> dict[str, Sequence[str]]:
    return {name: [target.model for target in targets] for name, targets in models.aliases.items()}


def _rules(section: Node, models: ModelSection, places: Mapping[str, Sequence[str]], kind: str) -> dict[str, TrafficRule]:
    found: dict[str, TrafficRule] = {}
    for key, value in section.entries():
        if key.content not in places:
            known = ", ".join(map(shorten, list(places)[:8])) or "none"
            raise key.error(f"the file has no {kind} {shorten(key.content)}; it has {known}")
        what = f"{kind} {shorten(key.content)}"
        fields = value.fields(TRAFFIC_RULE, what)
        if kind == "alias" and "weights" in fields:
            raise fields["weights"].error(f"{what} has its weights in 'model_aliases'; change them there")
        targets = _Targets(what, places[key.content], models)
        weights = targets.weights(fields["weights"]) if "weights" in fields else {}
        ramp = targets.ramp(fields["ramp"]) if "ramp" in fields else None
        if ramp is not None and ramp.model in weights:
            message = f"{what}: the share of {shorten(ramp.model)} comes from its ramp; take it out of the weights"
            raise fields["weights"].error(message)
        canary = targets.canary(fields["canary"]) if "canary" in fields else None
        shadow = targets.shadow(fields["shadow"]) if "shadow" in fields else None
        found[key.content] = TrafficRule(weights, ramp, canary, shadow)
    return found


class _Targets:
    """The targets of a route or an alias, of which a rule speaks."""

    def __init__(self, what: str, names: Sequence[str], models: ModelSection) -> None:
        self._what = what
        self._names = names
        self._models = models

    def weights(self, section: Node) -> dict[str, float]:
        found: dict[str, float] = {}
        for key, value in section.entries():
            model = self._target(key.called(f"{self._what}: weights"))
            if model in found:
                raise key.error(f"{self._what} has two weights for {shorten(model)}")
            found[model] = at_least_0(value.called(f"{self._what}: the weight of {shorten(model)}"))
        if not any(found.values()):
            raise section.error(f"{self._what} has no weight above 0")
        return found

    def ramp(self, section: Node) -> Ramp:
        fields = section.fields(RAMP, f"the ramp of {self._what}")
        first, last = _read(fields, "from", share, 0.0), _read(fields, "to", share, 1.0)
        if len(self._names) < 2:
            raise section.error(f"{self._what} has one target, so no traffic can move; list the others first")
        return Ramp(self._target(fields["model"]), first, last, moment(fields["start"]), seconds(fields["over"]))

    def canary(self, section: Node) -> Canary:
        fields = section.fields(CANARY, f"the canary of {self._what}")
        if len(self._names) < 2:
            raise section.error(f"{self._what} has one target, so there is no incumbent to compare it with")
        standard = Canary("")
        return Canary(
            self._target(fields["model"]),
            _read(fields, "window", lambda node: whole(node, 10), standard.window),
            _read(fields, "error_margin", share, standard.error_margin),
            _read(fields, "latency_margin", margin, standard.latency_margin),
        )

    def shadow(self, section: Node) -> Shadow:
        fields = section.fields(SHADOW, f"the shadow of {self._what}")
        return Shadow(model_of(fields["model"], self._models), share(fields["share"]))

    def _target(self, node: Node) -> str:
        name = self._models.names.resolve(node)
        if name not in self._names:
            targets = ", ".join(map(shorten, self._names)) or "none"
            raise node.error_inside(f"{self._what} has no target {shorten(name)}; its targets are {targets}")
        return name


def _client_keys(section: Node) -> tuple[KeyRule, ...]:
    found: dict[str, KeyRule] = {}
    keys: set[str] = set()
    for value in section.items():
        fields = value.fields(CLIENT_KEY)
        name, key = fields["name"].name(), fields["key"].secret()
        if name in found or key in keys:
            raise value.error(f"two keys of clients have the {'name' if name in found else 'key'} of {shorten(name)}")
        keys.add(key)
        limits = [_read(fields, f"{each}_per_minute", lambda node: whole(node, 1), None) for each in ("requests", "tokens")]
        found[name] = KeyRule(name, key, limits[0], limits[1], fields["key"].line)
    return tuple(found.values())
