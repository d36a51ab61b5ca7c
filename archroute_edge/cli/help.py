"""Additions to click: options under headings, examples at the end of a help text, and commands imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

LANGUAGE_MODELS = "Language models only"


def examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "".join(f"  {command}\n" for command in commands)


class Option(click.Option):
    """An option that shows its default, and stands under ``heading`` in the help of a :class:`Command`."""

    def __init__(self, *args: Any, heading: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **{"show_default": True, **settings})
        self.heading = heading

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Defaults and the like. A number out of bounds is told its bounds; before that, [-1<=x<=65536] is of little use."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


option = partial(click.option, cls=Option)
"""``click.option`` for an :class:`Option`."""


class Command(click.Command):
    """A command whose options stand under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a heading first."""
        found: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            # Newer click lists arguments here too; the usage line and the text above have them.
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                found.setdefault(getattr(parameter, "heading", None) or "Options", []).append(record)
        for heading, records in found.items():
            with formatter.section(heading):
                formatter.write_dl(records)


@dataclass(frozen=True)
class CommandPlace:
    """A command's module, and its line in the list of commands: the first sentence of its help."""

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
        """Write the list of commands as click does, without importing them."""
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
