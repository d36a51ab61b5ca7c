"""The models of a configuration: its providers, its aliases and its default."""

from __future__ import annotations

from dataclasses import dataclass

from archroute_edge.config.document import Document, Field
from archroute_edge.config.known_keys import ALIAS, ALIAS_TARGET, PROVIDER
from archroute_edge.config.model_names import ModelNames
from archroute_edge.config.schema import ModelDefinition, WeightedModel
from archroute_edge.config.yaml_tree import Value, shorten


@dataclass
class Provider:
    """A provider's definition, and what it says about routes."""

    definition: ModelDefinition
    line: int
    default_line: int | None = None
    preferences: Value | None = None


@dataclass(frozen=True)
class ModelSection:
    """What a file says about models, every reference checked."""

    providers: tuple[Provider, ...]
    aliases: dict[str, tuple[WeightedModel, ...]]
    names: ModelNames
    default_model: str | None


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
    lines: dict[str, int] = {}
    section = new or old
    for value in document.items(section.value, "the list of providers") if section else ():
        provider = _provider(document, value)
        definition = provider.definition
        for name in {definition.model, definition.name or definition.model}:
            if name in lines and not definition.is_wildcard:
                message = f"the model {shorten(name)} is defined twice (first on line {lines[name]})"
                raise document.error(message, provider.line)
            lines[name] = provider.line
        providers.append(provider)
    return providers


def _provider(document: Document, value: Value) -> Provider:
    fields = document.fields(value, PROVIDER)
    if "model" not in fields:
        raise document.error("a model provider without 'model'; write model: provider/model", value.line)
    model = document.name(fields["model"].value, "a provider's model")
    name = document.name(fields["name"].value, "a provider's name") if "name" in fields else None
    provider = Provider(ModelDefinition(model, name), fields["model"].line)
    if "routing_preferences" in fields:
        provider.preferences = fields["routing_preferences"].value
    if "default" in fields and document.flag(fields["default"].value, "a provider's default"):
        provider.default_line = fields["default"].line
    if provider.definition.is_wildcard and (provider.default_line or provider.preferences):
        what = "be the default" if provider.default_line else "have routing preferences"
        message = f"{shorten(model)} stands for many models and cannot {what}; name one model"
        raise document.error(message, provider.default_line or fields["routing_preferences"].line)
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
