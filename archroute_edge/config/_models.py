"""The models of a configuration: providers, aliases, the default, and what a reference to one of them means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from archroute_edge.config._keys import ALIAS, ALIAS_TARGET, PROVIDER
from archroute_edge.config._node import Node, shorten
from archroute_edge.config._schema import Advice, ModelDefinition, WeightedModel
from archroute_edge.config._upstream_reader import read_upstream

_VARIABLE = re.compile(r"\$(\{\s*\w+[^}]*\}|[A-Za-z_]\w*)")
# What gateways call the providers that they keep for themselves.
_ROUTER = re.compile(r"(?<![a-z])(arch[-_ ]?(router|function|guard)|plano[-_/ ]?orchestrator)", re.IGNORECASE)
_OWN_PROVIDERS = {"plano", "arch"}
_OWN_NAMES = {"arch-router", "arch-function", "archgw-v1-router-model", "plano-orchestrator", "plano/orchestrator"}
_NAMED_BY = (
    ("overrides", "llm_routing_model"),
    ("overrides", "agent_orchestration_model"),
    ("routing", "llm_provider"),
    ("routing", "model"),
)


def is_router_name(text: str) -> bool:
    """Whether a model is called as one that was made for routing, or as a gateway calls its own provider for it."""
    return text.lower() in _OWN_NAMES or _ROUTER.search(text) is not None


def named_routers(root: Node) -> Iterator[Node]:
    """The models that a gateway's file tells it to route with, as written there; any model may be told to."""
    for section, key in _NAMED_BY:
        value = _entry(_entry(root, section), key)
        if value is not None and value.kind == "text":
            yield value


def _entry(value: Node | None, key: str) -> Node | None:
    if value is None or value.kind != "a mapping":
        return None
    return next((item for name, item in value.content if name.content == key), None)


def _read_name(value: Node) -> str:
    name = value.name()
    if _VARIABLE.search(name):
        message = f"{value.what}: {shorten(name)} holds an environment variable, which is not filled in here"
        raise value.error_inside(f"{message}; write the model's name")
    return name


@dataclass(frozen=True)
class ModelNames:
    """The models of one file, and the names of its aliases. Without models any model may be named."""

    definitions: tuple[ModelDefinition, ...] = ()
    aliases: Collection[str] = ()

    def resolve(self, value: Node) -> str:
        """The model that a reference means, as its definition writes it; an alias stays an alias.

        Raises:
            ConfigError: not text, neither a model nor an alias of a file that defines models, or the gateway's own
                router.
        """
        reference = _read_name(value)
        if reference in self.aliases or not self.definitions:
            return reference
        found = self._find(reference)
        if len(found) == 1:
            return found[0]
        shown = shorten(reference)
        if found:
            problem = f"{shown} could be {' or '.join(found)}; write it in full"
        elif is_router_name(reference) or self._find(reference, internal=True):
            problem = f"{shown} is the gateway's own router, which answers no user; name a model that does"
        else:
            known = [*(item.model for item in self.definitions if not item.internal), *self.aliases]
            close = difflib.get_close_matches(reference, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it defines {', '.join(sorted(known)[:8])}"
            problem = f"the file defines no model {shown}; {hint}"
        raise value.error_inside(f"{value.what}: {problem}")

    def means(self, reference: str) -> list[str]:
        """The models of the file that a reference may mean, the gateway's own routers included."""
        return [*self._find(reference), *self._find(reference, internal=True)]

    def _find(self, reference: str, *, internal: bool = False) -> list[str]:
        """The models that a reference may mean, from the strictest reading that fits any."""
        definitions = [item for item in self.definitions if item.internal is internal]
        single = [item for item in definitions if not item.is_wildcard]
        prefixes = [item.model[:-1] for item in definitions if item.is_wildcard]
        exact = [item.model for item in single if item.model == reference]
        named = [item.model for item in single if item.name == reference]
        short = [item.model for item in single if item.model.partition("/")[2] == reference]
        covered = any(reference.startswith(prefix) and reference[len(prefix) :] not in ("", "*") for prefix in prefixes)
        return list(dict.fromkeys(exact or named or short or ([reference] if covered else [])))


@dataclass(frozen=True)
class Provider:
    """A provider's model, and the fields that it was read from."""

    definition: ModelDefinition
    fields: dict[str, Node]

    @property
    def name(self) -> str:
        """Its own name, or its model's."""
        return self.definition.name or self.definition.model

    @property
    def usage(self) -> str:
        """What archgw 0.3.0 to 0.3.3 ask it for: the description of a route that is called as the provider is."""
        return self.fields["usage"].text().strip() if "usage" in self.fields else ""

    @property
    def is_default(self) -> bool:
        """Whether it is marked as the default."""
        return "default" in self.fields and self.fields["default"].flag()


@dataclass(frozen=True)
class ModelSection:
    """What a file says about models, every reference checked."""

    providers: tuple[Provider, ...]
    aliases: dict[str, tuple[WeightedModel, ...]]
    names: ModelNames
    default_model: str | None

    def models_of(self, name: str) -> list[str]:
        """The models that an alias stands for; a model stands for itself."""
        return [target.model for target in self.aliases[name]] if name in self.aliases else [name]


def read_models(top: dict[str, Node]) -> ModelSection:
    """Read providers, aliases and the default model from the fields of the top level.

    Raises:
        ConfigError: a wrong type, an unknown key, a duplicate, a second default or an undefined model.
    """
    providers = _providers(top)
    definitions = tuple(provider.definition for provider in providers)
    aliases = _aliases(top["model_aliases"], ModelNames(definitions)) if "model_aliases" in top else {}
    names = ModelNames(definitions, aliases)
    return ModelSection(tuple(providers), aliases, names, _default_model(top.get("default_model"), providers, names))


def _providers(top: dict[str, Node]) -> list[Provider]:
    old, new = top.get("llm_providers"), top.get("model_providers")
    if old and new:
        later = max(old, new, key=lambda section: section.line or 0)
        raise later.error("'llm_providers' and 'model_providers' are one thing under two names; keep 'model_providers'")
    section = new or old
    found = [_provider(value, may_lack_model=old is not None) for value in (section.items() if section else ())]
    providers = [provider for provider in found if provider is not None]
    _check_names([provider for provider in providers if not provider.definition.internal])
    return providers


def _provider(value: Node, *, may_lack_model: bool) -> Provider | None:
    """One provider; None for one of archgw's first files that passes on whichever model a client names."""
    fields = value.fields(PROVIDER)
    if "model" not in fields:
        if may_lack_model and "name" in fields and not fields.keys() & {"routing_preferences", "usage"}:
            value.source.notes.append(Advice("a model provider without 'model' is left out", line=value.line))
            return None
        raise value.error("a model provider without 'model'; write model: provider/model")
    model = _read_name(fields["model"])
    name = fields["name"].name() if "name" in fields else None
    provider = Provider(ModelDefinition(model, name, _is_internal(value, model, name), read_upstream(fields)), fields)
    duties = {
        "be the default": provider.is_default and fields["default"],
        "have routing preferences": fields.get("routing_preferences"),
        "have a usage": provider.usage and fields["usage"],
    }
    for duty, at in duties.items():
        if at and provider.definition.is_wildcard:
            raise at.error(f"{shorten(model)} stands for many models and cannot {duty}; name one model")
        if at and provider.definition.internal:
            raise at.error(f"{shorten(provider.name)} is the gateway's own router, which answers no user; it cannot {duty}")
    return provider


def _is_internal(entry: Node, model: str, name: str | None) -> bool:
    """Whether a provider is one that gateways keep for themselves, as their files say or as it is called."""
    internal, *interfaces = (_entry(entry, key) for key in ("internal", "provider_interface", "provider"))
    if internal is not None and str(internal.content).lower() == "true":
        return True
    if any(each is not None and each.content in _OWN_PROVIDERS for each in interfaces):
        return True
    return model.partition("/")[0] in _OWN_PROVIDERS or is_router_name(model) or (name or "").lower() in _OWN_NAMES


def _check_names(providers: list[Provider]) -> None:
    """Refuse two providers that one reference would mean; a model may stand under several names."""
    named: dict[str, Provider] = {}
    models: dict[str, Provider] = {}
    for provider in providers:
        name, model = provider.name, provider.definition.model
        if not provider.definition.is_wildcard:
            for first in filter(None, (named.get(name), models.get(name), named.get(model))):
                if first.name == name or first.definition.model != model:
                    shown = shorten(name if name in (first.name, first.definition.model) else model)
                    line = first.fields["model"].line
                    raise provider.fields["model"].error(f"the model {shown} is defined twice (first on line {line})")
        named.setdefault(name, provider)
        models.setdefault(model, provider)


def _default_model(own: Node | None, providers: list[Provider], names: ModelNames) -> str | None:
    marked = [provider for provider in providers if provider.is_default]
    if len(marked) > 1:
        first = shorten(marked[0].definition.model)
        raise marked[1].fields["default"].error(f"a second default model; the first is {first}, keep one")
    of_providers = marked[0].definition.model if marked else None
    if own is None:
        return of_providers
    default = names.resolve(own)
    if of_providers not in (None, default):
        raise own.error(f"default_model is not the provider marked as default ({shorten(of_providers or '')}); keep one")
    return default


def _aliases(section: Node, names: ModelNames) -> dict[str, tuple[WeightedModel, ...]]:
    entries = list(section.entries())
    own = {key.content for key, _ in entries}
    aliases: dict[str, tuple[WeightedModel, ...]] = {}
    for key, value in entries:
        what = f"the alias {shorten(key.content)}"
        fields = value.fields(ALIAS)
        if len(fields) != 1:
            raise key.error(f"{what} needs either 'target' or 'targets'")
        if "target" in fields:
            targets: tuple[WeightedModel, ...] = (WeightedModel(names.resolve(fields["target"].called(what))),)
        else:
            targets = _targets(fields["targets"], what, names)
        if not names.definitions and (chained := own.intersection(item.model for item in targets)):
            raise key.error(f"{what} points to the alias {shorten(min(chained))}; name a model")
        aliases[key.content] = targets
    return aliases


def _targets(section: Node, what: str, names: ModelNames) -> tuple[WeightedModel, ...]:
    targets: list[WeightedModel] = []
    for value in section.items():
        fields = value.fields(ALIAS_TARGET)
        weight = fields["weight"].called(f"the weight of a target of {what}").number()
        if weight < 0:
            raise fields["weight"].error(f"a weight of {what} is below 0")
        model = names.resolve(fields["model"].called(what))
        if any(target.model == model for target in targets):
            raise fields["model"].error(f"{what} names the model {shorten(model)} twice")
        targets.append(WeightedModel(model, weight))
    if not any(target.weight > 0 for target in targets):
        raise section.error(f"{what} has no target with a weight above 0")
    return tuple(targets)
