"""A group of commands that imports a command when it is used, and none to list them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class CommandPlace:
    """Where a command is, and what the list of commands says of it: the first sentence of its help."""

    module: str
    attribute: str
    short_help: str

    def load(self) -> click.Command:
        """Import the command."""
        command = getattr(importlib.import_module(self.module), self.attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group whose commands are known by their places.

    Args:
        places: the commands by name.
    """

    def __init__(self, name: str | None = None, *, places: Mapping[str, CommandPlace], **attributes: Any) -> None:
        super().__init__(name, _LazyCommands(places), **attributes)
        self.places = places

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands as click does, from what is known without them."""
        listed = [click.Command(name, help=place.short_help) for name, place in self.places.items()]
        click.Group(commands=listed).format_commands(ctx, formatter)


class _LazyCommands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is looked up for the first time."""

    def __init__(self, places: Mapping[str, CommandPlace]) -> None:
        self._commands: dict[str, CommandPlace | click.Command] = dict(places)

    def __getitem__(self, name: str) -> click.Command:
        command = self._commands[name]
        if isinstance(command, CommandPlace):
            command = self._commands[name] = command.load()
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)
