"""From a file's nodes to a :class:`RoutingConfig`, for every shape that routes are written in; and routes of requests.

Own files and Plano v0.4.0 hold ``routing_preferences`` at the top level. archgw 0.3.4 to v0.3.0 holds them under
each model, archgw 0.3.0 to 0.3.3 has a ``usage`` in their place; those are lifted the way Plano's own configuration
generator does: routes of one name merge their models, the first description wins, and a route at the top level wins
over lifted ones of its name. huggingface/chat-ui has a list of routes, each with a ``primary_model``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archroute_edge._unicode import normalized
from archroute_edge.config._forward_reader import read_forward
from archroute_edge.config._forward_schema import ForwardSettings
from archroute_edge.config._keys import CHAT_UI_ROUTE, INLINE_ROUTE, OF_GATEWAYS, ROUTE, TOP
from archroute_edge.config._models import ModelNames, ModelSection, Provider, named_routers, read_models
from archroute_edge.config._node import Node, Place, Source, shorten
from archroute_edge.config._policy_reader import read_policy, with_file_times
from archroute_edge.config._price_file import with_price_file
from archroute_edge.config._schema import Advice, ConfigFormat, QualityPolicy, RoutingConfig, SelectionPolicy
from archroute_edge.config._tree import parse_tree, read_text
from archroute_edge.errors import ConfigError, RouteTableError
from archroute_edge.routes import MAX_ROUTES, OTHER, Route, RouteTable

_DEFAULT_ROUTE = "default"
"""The route whose models chat-ui asks when its router names none of the routes."""


def load_config(path: str | os.PathLike[str]) -> RoutingConfig:
    """Read a configuration file, and the price file that it may name.

    Args:
        path: a YAML or JSON file in UTF-8, :data:`MAX_BYTES` bytes at most.

    Raises:
        ConfigError: the file cannot be read, or holds no usable routes; names the file and, where there is one, the
            line. Or its price file cannot be read.
    """
    try:
        path = Path(path)
    except TypeError:
        raise ConfigError(f"a configuration file is named by a path, not by {path!r:.80}") from None
    return with_file_times(with_price_file(parse_config(read_text(path), path=path)))


def parse_config(text: str, *, path: str | os.PathLike[str] | None = None) -> RoutingConfig:
    """Read a configuration from YAML or JSON text, and nothing else; ``path`` is the file it came from, for messages.

    Raises:
        ConfigError: the text is malformed, or holds no usable routes.
    """
    root = parse_tree(text, path=Path(path) if path is not None else None)
    if root.kind == "a list":
        if not any(each.kind == "a mapping" and _has(each, "primary_model") for each in root.content):
            message = "the configuration must be a mapping (key: value), not a list"
            raise root.error(f"{message}; write the list under 'routing_preferences'")
        root.source.foreign = True
        return _read_chat_ui(root)
    # A list of models alone is a gateway's; beside `default_model`, which neither archgw nor Plano has, it is ours.
    root.source.foreign = _has(root, *OF_GATEWAYS) or (_has(root, "model_providers") and not _has(root, "default_model"))
    return _read_mapping(root)


def _has(node: Node, *names: str) -> bool:
    return node.kind == "a mapping" and any(key.content in names for key, _ in node.content)


@dataclass
class RouteDraft:
    """A route while it is read; ``node`` is its name, or where it stands."""

    name: str
    node: Node
    description: str = ""
    models: list[str] = field(default_factory=list)
    policy: SelectionPolicy | None = None
    quality: QualityPolicy | None = None
    lifted: bool = False

    @classmethod
    def read(cls, fields: dict[str, Node]) -> RouteDraft:
        """A route's name and description.

        Raises:
            ArchRouteError: one of them is no text.
        """
        described = fields["description"].text() if "description" in fields else ""
        return cls(fields["name"].name(), fields["name"], described)

    def route(self) -> Route:
        """The route.

        Raises:
            ArchRouteError: it cannot be used; with its place.
        """
        try:
            return Route(self.name, self.description, tuple(self.models))
        except RouteTableError as exc:
            raise self.node.error(str(exc)) from exc


class _Drafts:
    """The routes of a file, by names that are equal after normalisation."""

    def __init__(self) -> None:
        self._found: dict[str, RouteDraft] = {}

    def __iter__(self) -> Iterator[RouteDraft]:
        return iter(self._found.values())

    def first(self, draft: RouteDraft) -> RouteDraft:
        """The first route of that name, which may be ``draft`` itself."""
        return self._found.setdefault(normalized("NFC", draft.name), draft)

    def add(self, draft: RouteDraft) -> RouteDraft:
        """Add a route.

        Raises:
            ConfigError: the name is taken.
        """
        first = self.first(draft)
        if first is not draft:
            message = f"route {shorten(draft.name)} is defined twice (first on line {first.node.line}); names must be distinct"
            raise draft.node.error(message)
        return draft

    def config(
        self,
        root: Node,
        section: Node | None,
        models: ModelSection,
        own_format: ConfigFormat,
        forward: Node | None = None,
    ) -> RoutingConfig:
        """The configuration that they make.

        Raises:
            ConfigError: no routes, or some that cannot be used, alone or together.
        """
        if not self._found:
            message = "no routes; list them under 'routing_preferences', each with a name and a description"
            raise root.source.error(message, section.line if section else None, root.source.path)
        try:
            table = RouteTable([draft.route() for draft in self])
        except RouteTableError as exc:
            raise (section or next(iter(self)).node).error(str(exc)) from exc
        default = [] if models.default_model is None else [models.default_model]
        targets = {**{route.name: route.models or default for route in table}, OTHER: default}
        return RoutingConfig(
            table=table,
            default_model=models.default_model,
            models=models.names.definitions,
            aliases=models.aliases,
            selection={draft.name: draft.policy for draft in self if draft.policy is not None},
            quality={draft.name: draft.quality for draft in self if draft.quality is not None},
            source=root.source.path,
            route_lines={draft.name: draft.node.line or 0 for draft in self},
            reading_notes=tuple(root.source.notes),
            ignored_keys=root.source.ignored_keys(),
            format=own_format,
            forward=read_forward(forward, models, targets) if forward is not None else ForwardSettings(),
        )


def _read_chat_ui(root: Node) -> RoutingConfig:
    names, drafts = ModelNames(), _Drafts()
    default: str | None = None
    for value in root.items():
        fields = value.fields(CHAT_UI_ROUTE)
        draft = drafts.add(RouteDraft.read(fields))
        models = [names.resolve(fields["primary_model"])]
        if "fallback_models" in fields:
            models += [names.resolve(each) for each in fields["fallback_models"].items()]
        draft.models = list(dict.fromkeys(models))
        if draft.name == _DEFAULT_ROUTE:
            default = models[0]
    return drafts.config(root, root, ModelSection((), {}, names, default), "chat-ui")


def _read_mapping(root: Node) -> RoutingConfig:
    top = root.fields(TOP)
    models = read_models(top)
    section, drafts = top.get("routing_preferences"), _Drafts()
    for value in section.items() if section else ():
        fields = value.fields(ROUTE)
        draft = drafts.add(RouteDraft.read(fields))
        if "models" in fields:
            named = fields["models"].items(f"route {shorten(draft.name)}: a model")
            draft.models = list(dict.fromkeys(models.names.resolve(each) for each in named))
        if "selection_policy" in fields:
            draft.policy, draft.quality = read_policy(fields["selection_policy"], models, draft.models)
    for provider in models.providers:
        _lift(provider, drafts)
    if root.source.foreign:
        _warn_of_routers(root, drafts, models)
    return drafts.config(root, section, models, "gateway" if root.source.foreign else "own", top.get("archroute"))


def _lift(provider: Provider, drafts: _Drafts) -> None:
    """Add the routes that stand under one model."""
    model = provider.definition.model
    for draft in _under(provider):
        first = drafts.first(draft)
        if first is draft:
            draft.models = [model]
            draft.lifted = True
        elif not first.lifted:
            _note(f"stands at the top level too, so its place under {model} adds nothing", draft, first)
        else:
            if model not in first.models:
                first.models.append(model)
            if not first.description:
                first.description = draft.description
            elif draft.description not in ("", first.description):
                line = first.node.line
                _note(f"is described again, otherwise than on line {line}, which is used", draft, first)


def _under(provider: Provider) -> Iterator[RouteDraft]:
    fields = provider.fields
    if provider.usage:
        yield RouteDraft(provider.name, fields.get("name", fields["model"]), provider.usage)
    for value in fields["routing_preferences"].items() if "routing_preferences" in fields else ():
        yield RouteDraft.read(value.fields(INLINE_ROUTE))


def _note(message: str, draft: RouteDraft, first: RouteDraft) -> None:
    draft.node.source.notes.append(Advice(message, first.name, draft.node.line))


def _warn_of_routers(root: Node, drafts: _Drafts, section: ModelSection) -> None:
    """Note the routes to a model that the file also tells the gateway to route with."""
    routers = {model: each.line for each in named_routers(root) for model in section.names.means(each.content)}
    for draft in drafts:
        targets = [target for model in draft.models for target in section.models_of(model)]
        for model in dict.fromkeys(target for target in targets if target in routers):
            message = f"names {shorten(model)}, with which the gateway itself routes (line {routers[model]})"
            _note(f"{message}; a model that was made for routing answers no user", draft, draft)


def _route_error(message: str, place: Place, _path: object) -> RouteTableError:
    return RouteTableError(message, place=str(place or ""))


def read_routes(routes: Any, *, foreign: bool = False) -> RouteTable:
    """The table that a list of ``{"name", "description", "models"}`` objects stands for.

    Args:
        routes: the list, as JSON has it, with the keys that a route of a configuration file may have.
        foreign: whether the list is another program's, whose later releases may add keys: one that is not known is
            ignored then, unless it looks like a slip.

    Raises:
        RouteTableError: it is no such list, holds an unknown key, or its routes cannot be used together.
    """
    values = Node.of(routes, Source(foreign=foreign, error=_route_error), "routes")
    if isinstance(routes, list) and len(routes) > MAX_ROUTES:
        raise RouteTableError(f"{len(routes)} routes are more than the {MAX_ROUTES} that one table may hold")
    return RouteTable([_route(value) for value in values.items("a route")])


def _route(value: Node) -> Route:
    fields = value.fields(ROUTE)
    draft = RouteDraft.read(fields)
    draft.models = [each.name() for each in fields["models"].items()] if "models" in fields else []
    return draft.route()
