"""From a parsed file to a :class:`RoutingConfig`, for every shape that routes are written in.

Own files and Plano v0.4.0 hold ``routing_preferences`` at the top level. archgw 0.1-beta to v0.3.0 holds them under
each model; those are lifted the way Plano's own configuration generator does: routes of one name merge their models,
the first description wins, and a route at the top level wins over lifted ones of its name.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import cast, get_args

from archroute_edge.config.document import Document, Field
from archroute_edge.config.known_keys import INLINE_ROUTE, ROUTE, SELECTION_POLICY, TOP
from archroute_edge.config.model_names import ModelNames
from archroute_edge.config.model_section import Provider, read_models
from archroute_edge.config.schema import Advice, RoutingConfig, SelectionPolicy
from archroute_edge.config.yaml_tree import Value, shorten
from archroute_edge.errors import ConfigError, RouteTableError
from archroute_edge.routes import Route, RouteTable

POLICIES: tuple[str, ...] = get_args(SelectionPolicy)


def read_config(document: Document) -> RoutingConfig:
    """Read the routing part of a parsed file.

    Raises:
        ConfigError: no routes, a wrong type, an unknown key or an undefined model, with its line.
    """
    return _Reader(document).read()


@dataclass
class _RouteDraft:
    """A route as far as it has been read."""

    name: str
    line: int
    description: str = ""
    models: list[str] = field(default_factory=list)
    policy: SelectionPolicy | None = None
    lifted: bool = False


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.notes: list[Advice] = []

    def read(self) -> RoutingConfig:
        top = self.document.fields(self.document.root, TOP)
        models = read_models(self.document, top)
        drafts = self._routes(top.get("routing_preferences"), models.names)
        for provider in models.providers:
            self._lift(provider, drafts)
        return RoutingConfig(
            table=self._table(drafts, top),
            default_model=models.default_model,
            models=models.names.definitions,
            aliases=models.aliases,
            selection={draft.name: draft.policy for draft in drafts.values() if draft.policy is not None},
            source=self.document.path,
            route_lines={draft.name: draft.line for draft in drafts.values()},
            reading_notes=tuple(self.notes),
        )

    def _routes(self, section: Field | None, names: ModelNames) -> dict[str, _RouteDraft]:
        drafts: dict[str, _RouteDraft] = {}
        for value in self.document.items(section.value, "routing_preferences") if section else ():
            fields = self.document.fields(value, ROUTE)
            draft = self._draft(fields, value)
            what = f"route {shorten(draft.name)}"
            first = drafts.setdefault(_key(draft.name), draft)
            if first is not draft:
                message = f"{what} is defined twice (first on line {first.line}); names must be distinct"
                raise self.document.error(message, draft.line)
            if "models" in fields:
                models = self.document.items(fields["models"].value, f"{what}: models")
                if not models:
                    raise self.document.error(f"{what}: models is an empty list", fields["models"].line)
                resolved = (names.resolve(model, f"{what}: a model") for model in models)
                draft.models = list(dict.fromkeys(resolved))
            if "selection_policy" in fields:
                draft.policy = self._policy(fields["selection_policy"], what)
        return drafts

    def _draft(self, fields: dict[str, Field], value: Value) -> _RouteDraft:
        if "name" not in fields:
            raise self.document.error("a route without 'name'", value.line)
        name = self.document.name(fields["name"].value, "a route's name")
        draft = _RouteDraft(name, fields["name"].line)
        if "description" in fields:
            draft.description = self.document.text(fields["description"].value, f"route {shorten(name)}: description")
        return draft

    def _policy(self, section: Field, what: str) -> SelectionPolicy:
        fields = self.document.fields(section.value, SELECTION_POLICY)
        expected = f"{what}: selection_policy needs prefer: {', '.join(POLICIES[:-1])} or {POLICIES[-1]}"
        if "prefer" not in fields:
            raise self.document.error(expected, section.line)
        policy = self.document.text(fields["prefer"].value, f"{what}: prefer")
        if policy not in POLICIES:
            raise self.document.error(f"{expected}, not {shorten(policy)}", fields["prefer"].line)
        return cast(SelectionPolicy, policy)

    def _lift(self, provider: Provider, drafts: dict[str, _RouteDraft]) -> None:
        """Add the routes that stand under one model."""
        model = provider.definition.model
        values = self.document.items(provider.preferences, "routing_preferences") if provider.preferences else ()
        for value in values:
            draft = self._draft(self.document.fields(value, INLINE_ROUTE), value)
            first = drafts.setdefault(_key(draft.name), draft)
            if first is draft:
                draft.models = [model]
                draft.lifted = True
            elif not first.lifted:
                self._note(f"stands at the top level too, so its place under {model} adds nothing", draft, first)
            else:
                if model not in first.models:
                    first.models.append(model)
                if not first.description:
                    first.description = draft.description
                elif draft.description not in ("", first.description):
                    self._note(f"is described again, otherwise than on line {first.line}, which is used", draft, first)

    def _note(self, message: str, draft: _RouteDraft, first: _RouteDraft) -> None:
        self.notes.append(Advice(message, first.name, draft.line))

    def _table(self, drafts: dict[str, _RouteDraft], top: dict[str, Field]) -> RouteTable:
        section = top.get("routing_preferences")
        if not drafts:
            message = "no routes; list them under 'routing_preferences', each with a name and a description"
            raise self.document.error(message, section.line if section else None)
        routes: list[Route] = []
        for draft in drafts.values():
            try:
                routes.append(Route(draft.name, draft.description, tuple(draft.models)))
            except RouteTableError as exc:
                raise ConfigError(str(exc), path=self.document.path, line=draft.line) from exc
        try:
            return RouteTable(routes)
        except RouteTableError as exc:
            line = section.line if section else next(iter(drafts.values())).line
            raise ConfigError(str(exc), path=self.document.path, line=line) from exc


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)
