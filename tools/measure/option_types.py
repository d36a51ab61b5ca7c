"""Kinds of options that several of the programs here have."""

from __future__ import annotations

import click


class Numbers(click.ParamType[list[int]]):
    """Whole numbers with commas between them, each within bounds.

    Args:
        least: each is at least this.
        most: each is at most this.
    """

    name = "numbers"

    def __init__(self, least: int, most: int | None = None) -> None:
        self._each: click.ParamType[int] = click.IntRange(least, most)

    def convert(self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The numbers."""
        if isinstance(value, list):
            return value
        return [self._each.convert(part, param, ctx) for part in value.split(",")]
