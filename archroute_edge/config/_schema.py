"""What a configuration says about routing. What it says about forwarding stands in ``_forward_schema``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from archroute_edge.config._forward_schema import ForwardSettings, Upstream
from archroute_edge.routes import RouteTable

ConfigFormat = Literal["own", "gateway", "chat-ui"]
"""Whose file it is: ours, archgw's or Plano's, or the list of routes of huggingface/chat-ui."""

SelectionPolicy = Literal["none", "cheapest", "fastest", "long_context_quality", "quality"]
"""How a route's models are ranked, as Plano v0.4 names it; ``quality`` is ours."""


@dataclass(frozen=True)
class QualityPolicy:
    """How ``prefer: quality`` weighs expected scores against prices. At most one of share, cost and rate is stated.

    Args:
        predictor: file of the predictor; None for the bundled one.
        share: share of requests that may go to the dearest model, 0 to 1.
        cost_per_1k: US dollars that 1,000 requests may cost.
        rate: what a US dollar is worth in expected scores.
        scored_as: model to the predictor's name for it.
        line: where the policy stands, counted from 1, for messages.
        modified: when the predictor was last written, so that another file is another configuration.
    """

    predictor: Path | None = None
    share: float | None = None
    cost_per_1k: float | None = None
    rate: float | None = None
    scored_as: Mapping[str, str] = field(default_factory=dict, hash=False)
    line: int | None = field(default=None, compare=False)
    modified: int | None = None


@dataclass(frozen=True)
class ModelDefinition:
    """A model that the file defines.

    Args:
        model: as written, usually ``provider/model``; ``provider/*`` stands for all models of a provider.
        name: another name that the file may call it by.
        internal: whether it is the gateway's own router, which decides and answers no user.
        upstream: how it is reached.
    """

    model: str
    name: str | None = None
    internal: bool = False
    upstream: Upstream = field(default_factory=Upstream)

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all models of a provider."""
        return self.model.endswith("/*")


@dataclass(frozen=True)
class WeightedModel:
    """One target of an alias and its share of the traffic; shares need not add up to anything."""

    model: str
    weight: float = 1.0


@dataclass(frozen=True)
class Advice:
    """Something usable that the model's authors, or we, would do otherwise.

    Args:
        message: what is unwise and what to do, in one line.
        route: the route it is about; None where it is about the whole table.
        line: line in the file, counted from 1.
    """

    message: str
    route: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class IgnoredKey:
    """A key that stands in a file and is not read.

    Args:
        key: as written.
        where: the kind of mapping that it stands in, such as "a model provider".
        line: line in the file, counted from 1.
        known: whether other programs are known to read it; one that is not costs a warning as well.
    """

    key: str
    where: str
    line: int
    known: bool = True


@dataclass(frozen=True)
class RoutingConfig:
    """The routing part of a configuration.

    Args:
        table: the routes, in the order of the file. ``Route.models`` holds model names and alias names.
        default_model: a model name or alias name for conversations that fit no route.
        models: the models that the file defines; empty where it defines none.
        aliases: alias name to its targets, at least one, in the order of the file.
        selection: route name to its policy, for routes that state one.
        quality: route name to what it says of its policy, for routes that prefer ``quality``.
        source: the file that it was read from.
        route_lines: route name to the line of its first definition, counted from 1.
        reading_notes: what reading the file had to decide, such as which of two descriptions to keep.
        ignored_keys: the keys that were not read, in the order of their lines.
        format: whose file it is.
        forward: how requests are forwarded and traffic is shared.
    """

    table: RouteTable
    default_model: str | None = None
    models: tuple[ModelDefinition, ...] = ()
    aliases: Mapping[str, tuple[WeightedModel, ...]] = field(default_factory=dict, hash=False)
    selection: Mapping[str, SelectionPolicy] = field(default_factory=dict, hash=False)
    quality: Mapping[str, QualityPolicy] = field(default_factory=dict, hash=False)
    source: Path | None = None
    route_lines: Mapping[str, int] = field(default_factory=dict, hash=False, repr=False)
    reading_notes: tuple[Advice, ...] = ()
    ignored_keys: tuple[IgnoredKey, ...] = ()
    format: ConfigFormat = "own"
    forward: ForwardSettings = field(default_factory=ForwardSettings)

    def with_routes(self, table: RouteTable) -> RoutingConfig:
        """This with other routes, which share no traffic and have no policies, whatever they are called."""
        return replace(self, table=table, selection={}, quality={}, forward=replace(self.forward, routes={}))
