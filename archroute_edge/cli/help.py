"""The shape of a command's help: options under headings, without the ranges of numbers, and examples at the end."""

from __future__ import annotations

from typing import Any

import click

LANGUAGE_MODELS = "Language models only"


def examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "".join(f"  {command}\n" for command in commands)


class Option(click.Option):
    """An option that stands under ``heading`` in the help of a :class:`Command`; the bounds of a number are not part of it."""

    def __init__(self, *args: Any, heading: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Defaults and the like. A number out of bounds is told them; before that, [-1<=x<=65536] is of little use."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


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
