"""Options of the programs: a number that makes no sense is one line, not a division by zero after minutes of work."""

from __future__ import annotations

import importlib
import pkgutil

import click
import pytest
from click.testing import CliRunner

import tools.measure
from tools.measure.option_types import Numbers

# Any whole number is one.
SEED = "--seed"


def commands(command: click.Command) -> list[click.Command]:
    """Those of a group, or a command itself."""
    return (
        [each for some in command.commands.values() for each in commands(some)]
        if isinstance(command, click.Group)
        else [command]
    )


def programs() -> list[click.Command]:
    """All of them, but those that run in another environment."""
    found = []
    for module in pkgutil.walk_packages(tools.measure.__path__, "tools.measure."):
        try:
            main = getattr(importlib.import_module(module.name), "main", None)
        except (ImportError, SystemExit, ValueError, IndexError):
            continue
        found += commands(main) if isinstance(main, click.Command) else []
    return found


def test_every_number_has_bounds() -> None:
    plain = (click.types.IntParamType, click.types.FloatParamType)
    options = [(command, each) for command in programs() for each in command.params if SEED not in each.opts]
    numbers = [(command, each) for command, each in options if isinstance(each.type, (*plain, Numbers))]
    assert len(numbers) > 50
    bounded = (click.IntRange, click.FloatRange, Numbers)
    assert [
        (command.callback and command.callback.__module__, each.opts)
        for command, each in numbers
        if not isinstance(each.type, bounded)
    ] == []


@pytest.mark.parametrize(
    ("program", "option", "value", "said"),
    [
        ("engine_equality", "--every", "0", "0 is not in the range x>=1"),
        ("attention", "--depths", "5,-1", "-1 is not in the range x>=0"),
        ("attention", "--depths", "5,x", "'x' is not a valid integer range"),
        ("evaluation_shares", "--routes", "0", "0 is not in the range x>=1"),
        ("batched_decisions", "--sizes", "2,64", "64 is not in the range 2<=x<=32"),
    ],
)
def test_what_is_beyond_them_ends_with_one_line(program: str, option: str, value: str, said: str) -> None:
    main = importlib.import_module(f"tools.measure.{program}").main
    result = CliRunner().invoke(main, [__file__, option, value])
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: Invalid value for '{option}': {said}.")
