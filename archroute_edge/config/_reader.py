"""From a parsed file to a :class:`RoutingConfig`, for every shape that routes are written in.

Own files and Plano v0.4.0 hold ``routing_preferences`` at the top level. archgw 0.3.4 to v0.3.0 holds them under
each model, archgw 0.3.0 to 0.3.3 has a ``usage`` in their place; those are lifted the way Plano's own configuration
generator does: routes of one name merge their models, the first description wins, and a route at the top level wins
over lifted ones of its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast, get_args

from archroute_edge.config._chat_ui import is_chat_ui, read_chat_ui
from archroute_edge.config._document import Document, Field
from archroute_edge.config._gateway_routers import named_routers
from archroute_edge.config._known_keys import INLINE_ROUTE, OF_GATEWAYS, ROUTE, SELECTION_POLICY, TOP
from archroute_edge.config._model_names import ModelNames
from archroute_edge.config._model_section import ModelSection, Provider, read_models
from archroute_edge.config._route_drafts import RouteDraft, add_route, draft_route, make_table, route_key
from archroute_edge.config._schema import Advice, RoutingConfig, SelectionPolicy
from archroute_edge.config._yaml_tree import Entries, Items, Value, shorten

POLICIES: tuple[str, ...] = get_args(SelectionPolicy)


def read_config(document: Document) -> RoutingConfig:
    """Read the routing part of a parsed file.

    Raises:
        ConfigError: no routes, a wrong type, an unknown key of our own format or an undefined model, with its line.
    """
    if isinstance(document.root, Items):
        if is_chat_ui(document.root):
            return read_chat_ui(replace(document, foreign=True))
        message = "the configuration must be a mapping (key: value), not a list; write the list under 'routing_preferences'"
        raise document.error(message, document.root.line)
    return _Reader(replace(document, foreign=_is_of_a_gateway(document.root))).read()


def _is_of_a_gateway(root: Value) -> bool:
    """Whether archgw or Plano reads this file.

    A list of models alone is theirs; beside ``default_model``, which neither of them has, it is ours.
    """
    keys = {key.text for key in root.keys} if isinstance(root, Entries) else set()
    return not OF_GATEWAYS.isdisjoint(keys) or ("model_providers" in keys and "default_model" not in keys)


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document

    def read(self) -> RoutingConfig:
        top = self.document.fields(self.document.root, TOP)
        models = read_models(self.document, top)
        section = top.get("routing_preferences")
        drafts = self._routes(section, models.names)
        for provider in models.providers:
            self._lift(provider, drafts)
        if self.document.foreign:
            self._warn_of_routers(drafts, models)
        return RoutingConfig(
            table=make_table(self.document, drafts, section.line if section else None),
            default_model=models.default_model,
            models=models.names.definitions,
            aliases=models.aliases,
            selection={draft.name: draft.policy for draft in drafts.values() if draft.policy is not None},
            source=self.document.path,
            route_lines={draft.name: draft.line for draft in drafts.values()},
            reading_notes=tuple(self.document.notes),
            ignored_keys=self.document.ignored_keys(),
            format="gateway" if self.document.foreign else "own",
        )

    def _routes(self, section: Field | None, names: ModelNames) -> dict[str, RouteDraft]:
        drafts: dict[str, RouteDraft] = {}
        for value in self.document.items(section.value, "routing_preferences") if section else ():
            fields = self.document.fields(value, ROUTE)
            draft = draft_route(self.document, fields, value)
            add_route(self.document, drafts, draft)
            what = f"route {shorten(draft.name)}"
            if "models" in fields:
                models = self.document.items(fields["models"].value, f"{what}: models")
                if not models:
                    raise self.document.error(f"{what}: models is an empty list", fields["models"].line)
                resolved = (names.resolve(model, f"{what}: a model") for model in models)
                draft.models = list(dict.fromkeys(resolved))
            if "selection_policy" in fields:
                draft.policy = self._policy(fields["selection_policy"], what)
        return drafts

    def _policy(self, section: Field, what: str) -> SelectionPolicy | None:
        fields = self.document.fields(section.value, SELECTION_POLICY)
        expected = f"{what}: selection_policy needs prefer: {', '.join(POLICIES[:-1])} or {POLICIES[-1]}"
        if "prefer" not in fields:
            raise self.document.error(expected, section.line)
        policy = self.document.text(fields["prefer"].value, f"{what}: prefer")
        if policy in POLICIES:
            return cast(SelectionPolicy, policy)
        if not self.document.foreign:
            raise self.document.error(f"{expected}, not {shorten(policy)}", fields["prefer"].line)
        message = f"{what} prefers {shorten(policy)}, which is not known here; its models are tried in the order of the file"
        self.document.notes.append(Advice(message, line=fields["prefer"].line))
        return None

    def _lift(self, provider: Provider, drafts: dict[str, RouteDraft]) -> None:
        """Add the routes that stand under one model."""
        model = provider.definition.model
        for draft in self._under(provider):
            first = drafts.setdefault(route_key(draft.name), draft)
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

    def _under(self, provider: Provider) -> Iterator[RouteDraft]:
        if provider.usage:
            yield RouteDraft(provider.name, provider.name_line, provider.usage)
        preferences = provider.preferences
        for value in self.document.items(preferences.value, "routing_preferences") if preferences else ():
            yield draft_route(self.document, self.document.fields(value, INLINE_ROUTE), value)

    def _note(self, message: str, draft: RouteDraft, first: RouteDraft) -> None:
        self.document.notes.append(Advice(message, first.name, draft.line))

    def _warn_of_routers(self, drafts: dict[str, RouteDraft], section: ModelSection) -> None:
        """Note the routes to a model that the file also tells the gateway to route with."""
        routers = {model: each.line for each in named_routers(self.document.root) for model in section.names.means(each.text)}
        for draft in drafts.values():
            targets = [target for model in draft.models for target in section.models_of(model)]
            for model in dict.fromkeys(target for target in targets if target in routers):
                message = f"names {shorten(model)}, with which the gateway itself routes (line {routers[model]})"
                self._note(f"{message}; a model that was made for routing answers no user", draft, draft)
