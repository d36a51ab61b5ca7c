"""Environment variables that a configuration names: ``$NAME`` and ``${NAME}``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from archroute_edge.errors import ConfigError

_VARIABLE: Final = re.compile(r"\$(?:\{\s*([A-Za-z_]\w*)\s*\}|([A-Za-z_]\w*))", re.ASCII)


class MissingVariableError(LookupError):
    """A variable is not set, or empty.

    Args:
        name: the variable's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class UnsetVariableError(ConfigError):
    """A configuration cannot be forwarded by before a variable is set.

    Args:
        whose: what needs it.
        variable: its name.
        path: the file.
        line: where the variable stands.
    """

    def __init__(self, whose: str, variable: str, path: Path | None, line: int | None) -> None:
        super().__init__(
            f"{whose}: the environment variable {variable} is not set; set it, or remove what needs it", path=path, line=line
        )
        self.variable = variable


def variables_in(text: str) -> Iterator[str]:
    """The names of the variables in a text."""
    return (braced or plain for braced, plain in _VARIABLE.findall(text))


def fill_in(text: str, environment: Mapping[str, str]) -> str:
    """A text with the values of its variables.

    Raises:
        MissingVariableError: one is not set, or empty.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = environment.get(name, "").strip()
        if not found:
            raise MissingVariableError(name)
        return found

    return _VARIABLE.sub(value, text)


def names_a_variable(text: str) -> bool:
    """Whether a text is the name of a variable, and nothing else."""
    return _VARIABLE.fullmatch(text) is not None


def fill_in_key(text: str, environment: Mapping[str, str]) -> str:
    """A key: the value of the variable that it names, or the key itself, which may have a ``$`` in it, but no blanks around it.

    Raises:
        MissingVariableError: the variable is not set, or empty.
    """
    text = text.strip()
    return fill_in(text, environment) if names_a_variable(text) else text
