"""What a model reference in a file means: an alias, a provider's name, a model, or a model without its provider."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass

from archroute_edge.config._document import Document
from archroute_edge.config._gateway_routers import is_router_name
from archroute_edge.config._schema import ModelDefinition
from archroute_edge.config._yaml_tree import Value, shorten

_VARIABLE = re.compile(r"\$(\{\s*\w+[^}]*\}|[A-Za-z_]\w*)")


def read_model_name(document: Document, value: Value, what: str) -> str:
    """The name of a model, as written.

    Raises:
        ConfigError: not text, blank, or an environment variable: their values are not read here.
    """
    name = document.name(value, what)
    if _VARIABLE.search(name):
        message = f"{what}: {shorten(name)} holds an environment variable, which is not filled in here; write the model's name"
        raise document.error(message, value.line)
    return name


@dataclass(frozen=True)
class ModelNames:
    """The models and aliases of one file.

    Args:
        document: the file, for errors.
        definitions: its models; where there are none, any model may be named.
        aliases: the names of its aliases.
    """

    document: Document
    definitions: tuple[ModelDefinition, ...]
    aliases: Collection[str] = ()

    def resolve(self, value: Value, what: str) -> str:
        """The model that a reference means, as its definition writes it; an alias stays an alias.

        Raises:
            ConfigError: not text, neither a model nor an alias of a file that defines models, or the gateway's own
                router.
        """
        reference = read_model_name(self.document, value, what)
        if reference in self.aliases or not self.definitions:
            return reference
        found = self._find(reference)
        shown = shorten(reference)
        if not found and (is_router_name(reference) or self._find(reference, internal=True)):
            message = f"{what}: {shown} is the gateway's own router, which answers no user; name a model that does"
            raise self.document.error(message, value.line)
        if len(found) == 1:
            return found[0]
        if found:
            message = f"{what}: {shown} could be {' or '.join(found)}; write it in full"
            raise self.document.error(message, value.line)
        known = [*(item.model for item in self.definitions if not item.internal), *self.aliases]
        close = difflib.get_close_matches(reference, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it defines {', '.join(sorted(known)[:8])}"
        raise self.document.error(f"{what}: the file defines no model {shown}; {hint}", value.line)

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
