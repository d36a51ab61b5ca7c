"""What a model reference in a file means: an alias, a provider's name, a model, or a model without its provider."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from archroute_edge.config.document import Document
from archroute_edge.config.schema import ModelDefinition
from archroute_edge.config.yaml_tree import Value, shorten


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
            ConfigError: not text, or neither a model nor an alias of a file that defines models.
        """
        reference = self.document.name(value, what)
        if reference in self.aliases or not self.definitions:
            return reference
        found = self._find(reference)
        if len(found) == 1:
            return found[0]
        shown = shorten(reference)
        if found:
            message = f"{what}: {shown} could be {' or '.join(found)}; write it in full"
            raise self.document.error(message, value.line)
        known = [*(definition.model for definition in self.definitions), *self.aliases]
        close = difflib.get_close_matches(reference, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it defines {', '.join(sorted(known)[:8])}"
        raise self.document.error(f"{what}: the file defines no model {shown}; {hint}", value.line)

    def _find(self, reference: str) -> list[str]:
        """The models that a reference may mean, from the strictest reading that fits any."""
        single = [item for item in self.definitions if not item.is_wildcard]
        prefixes = [item.model[:-1] for item in self.definitions if item.is_wildcard]
        exact = [item.model for item in single if item.model == reference]
        named = [item.model for item in single if item.name == reference]
        short = [item.model for item in single if item.model.partition("/")[2] == reference]
        covered = any(reference.startswith(prefix) and reference[len(prefix) :] not in ("", "*") for prefix in prefixes)
        return exact or named or short or ([reference] if covered else [])
