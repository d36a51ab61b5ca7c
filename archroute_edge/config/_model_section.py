"""The models of a configuration: its providers, its aliases and its default."""

from __future__ import annotations

from dataclasses import dataclass

from archroute_edge.config._document import Document, Field
from archroute_edge.config._gateway_routers import is_internal
from archroute_edge.config._known_keys import ALIAS, ALIAS_TARGET, PROVIDER
from archroute_edge.config._model_names import ModelNames, read_model_name
from archroute_edge.config._schema import Advice, ModelDefinition, WeightedModel
from archroute_edge.config._yaml_tree import Value, shorten


@dataclass
class Provider:
    """A provider's definition, and what it says about routes.

    Args:
        definition: its model.
        line: line of its model.
        name_line: line of its name, or of its model if it has none.
        default_line: line that marks it as the default.
        preferences: the routes that stand under it.
        usage: what archgw 0.3.0 to 0.3.3 ask it for: the description of a route that is called as the provider is.
    """

    definition: ModelDefinition
    line: int
    name_line: int
    default_line: int | None = None
    preferences: Field | None = None
    usage: str = ""

    @property
    def name(self) -> str:
        """Its own name, or its model's."""
        return self.definition.name or self.definition.model


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


def read_models(document: Document, top: dict[str, Field]) -> ModelSection:
    """Read providers, aliases and the default model.

    Args:
        document: the file.
        top: the fields of its top level.

    Raises:
        ConfigError: a wrong type, an unknown key, a duplicate, a second default or an undefined model.
    """
    providers = _providers(document, top)
    definitions = tuple(provider.definition for provider in providers)
    aliases = _aliases(document, top.get("model_aliases"), ModelNames(document, definitions))
    names = ModelNames(document, definitions, aliases)
    default = _default_model(top.get("default_model"), providers, names)
    return ModelSection(tuple(providers), aliases, names, default)


def _providers(document: Document, top: dict[str, Field]) -> list[Provider]:
    old, new = top.get("llm_providers"), top.get("model_providers")
    if old and new:
        message = "'llm_providers' and 'model_providers' are one thing under two names; keep 'model_providers'"
        raise document.error(message, max(old.line, new.line))
    providers: list[Provider] = []
    section = new or old
    for value in document.items(section.value, "the list of providers") if section else ():
        provider = _provider(document, value, may_lack_model=old is not None)
        if provider is not None:
            providers.append(provider)
    _check_names(document, [provider for provider in providers if not provider.definition.internal])
    return providers


def _check_names(document: Document, providers: list[Provider]) -> None:
    """Refuse two providers that one reference would mean; a model may stand under several names."""
    named: dict[str, Provider] = {}
    models: dict[str, Provider] = {}
    for provider in providers:
        definition = provider.definition
        if not definition.is_wildcard:
            clashes = [named.get(provider.name)]
            clashes += [first for first in (models.get(provider.name), named.get(definition.model)) if first is not None]
            for first in clashes:
                if first is not None and (first.name == provider.name or first.definition.model != definition.model):
                    shown = shorten(
                        provider.name if provider.name in (first.name, first.definition.model) else definition.model
                    )
                    message = f"the model {shown} is defined twice (first on line {first.line})"
                    raise document.error(message, provider.line)
        named.setdefault(provider.name, provider)
        models.setdefault(definition.model, provider)


def _provider(document: Document, value: Value, *, may_lack_model: bool) -> Provider | None:
    """One provider; None for one of archgw's first files that passes on whichever model a client names."""
    fields = document.fields(value, PROVIDER)
    if "model" not in fields:
        if may_lack_model and "name" in fields and fields.keys() <= {"name", "default"}:
            document.notes.append(Advice("a model provider without 'model' is left out", line=value.line))
            return None
        raise document.error("a model provider without 'model'; write model: provider/model", value.line)
    model = read_model_name(document, fields["model"].value, "a provider's model")
    name = document.name(fields["name"].value, "a provider's name") if "name" in fields else None
    definition = ModelDefinition(model, name, is_internal(value, model, name))
    provider = Provider(definition, fields["model"].line, fields.get("name", fields["model"]).line)
    provider.preferences = fields.get("routing_preferences")
    if "usage" in fields:
        provider.usage = document.text(fields["usage"].value, "a provider's usage").strip()
    if "default" in fields and document.flag(fields["default"].value, "a provider's default"):
        provider.default_line = fields["default"].line
    duties = {"be the default": provider.default_line}
    duties["have routing preferences"] = provider.preferences.line if provider.preferences else None
    duties["have a usage"] = fields["usage"].line if provider.usage else None
    for duty, line in duties.items():
        if line is not None and definition.is_wildcard:
            raise document.error(f"{shorten(model)} stands for many models and cannot {duty}; name one model", line)
        if line is not None and definition.internal:
            message = f"{shorten(provider.name)} is the gateway's own router, which answers no user; it cannot {duty}"
            raise document.error(message, line)
    return provider


def _default_model(own: Field | None, providers: list[Provider], names: ModelNames) -> str | None:
    marked = [provider for provider in providers if provider.default_line is not None]
    if len(marked) > 1:
        message = f"a second default model; the first is {shorten(marked[0].definition.model)}, keep one"
        raise names.document.error(message, marked[1].default_line)
    of_providers = marked[0].definition.model if marked else None
    if own is None:
        return of_providers
    default = names.resolve(own.value, "default_model")
    if of_providers not in (None, default):
        message = f"default_model is not the provider marked as default ({shorten(of_providers or '')}); keep one"
        raise names.document.error(message, own.line)
    return default


def _aliases(document: Document, section: Field | None, names: ModelNames) -> dict[str, tuple[WeightedModel, ...]]:
    entries = document.entries(section.value, "model_aliases") if section else []
    own = {key.text for key, _ in entries}
    aliases: dict[str, tuple[WeightedModel, ...]] = {}
    for key, value in entries:
        what = f"the alias {shorten(key.text)}"
        fields = document.fields(value, ALIAS)
        if len(fields) != 1:
            raise document.error(f"{what} needs either 'target' or 'targets'", key.line)
        if "target" in fields:
            target = names.resolve(fields["target"].value, what)
            targets: tuple[WeightedModel, ...] = (WeightedModel(target),)
        else:
            targets = _targets(fields["targets"], what, names)
        if not names.definitions and (chained := own.intersection(item.model for item in targets)):
            message = f"{what} points to the alias {shorten(min(chained))}; name a model"
            raise document.error(message, key.line)
        aliases[key.text] = targets
    return aliases


def _targets(section: Field, what: str, names: ModelNames) -> tuple[WeightedModel, ...]:
    targets: list[WeightedModel] = []
    for value in names.document.items(section.value, f"the targets of {what}"):
        fields = names.document.fields(value, ALIAS_TARGET)
        if len(fields) != 2:
            raise names.document.error(f"a target of {what} needs 'model' and 'weight'", value.line)
        weight = names.document.number(fields["weight"].value, f"the weight of a target of {what}")
        if weight < 0:
            raise names.document.error(f"a weight of {what} is below 0", fields["weight"].line)
        model = names.resolve(fields["model"].value, what)
        if any(target.model == model for target in targets):
            raise names.document.error(f"{what} names the model {shorten(model)} twice", fields["model"].line)
        targets.append(WeightedModel(model, weight))
    if not any(target.weight > 0 for target in targets):
        raise names.document.error(f"{what} has no target with a weight above 0", section.line)
    return tuple(targets)
