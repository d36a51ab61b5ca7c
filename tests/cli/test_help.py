"""Every command and option says what it is for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from archroute_edge import __version__
from archroute_edge.cli import main
from tests.cli.conftest import Run

COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_list_of_commands_has_whole_lines(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands:")[2]
    assert "..." not in listed
    for name in COMMANDS:
        (text,) = re.findall(rf"^  {name} +(\S.*)$", listed, re.MULTILINE)
        # An instruction in a sentence of its own: "Print the prompt."
        assert re.fullmatch(r"[A-Z][a-z]+,? .*[^.]\.", text), text
        assert not text.split()[0].rstrip(",").endswith("s")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_documented(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    command = main.commands[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            for option in parameter.opts:
                assert option in result.stdout
        else:
            assert command.help
            assert re.search(rf"\b{parameter.name}\b", command.help, re.IGNORECASE), parameter.name


def _every_command(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _every_command(found, (*path, name))


@pytest.mark.parametrize("path", [*_every_command(main)], ids="-".join)
def test_help_ends_with_examples_that_can_be_typed(run: Run, path: tuple[str, ...]) -> None:
    lines = run(*path, "--help").stdout.splitlines()
    commands = [line.strip() for line in lines[lines.index("  Examples:") + 1 :]]
    assert any(command.startswith(" ".join(("archroute", *path))) for command in commands)
    for command in commands:
        assert len(command) <= 76
        context, words = click.Context(main), shlex.split(command)[1:]
        while isinstance(context.command, click.Group) and not (words and words[0].startswith("-")):
            name, *words = words
            found = context.command.get_command(context, name)
            assert found is not None, command
            context = click.Context(found) if isinstance(found, click.Group) else found.make_context(name, words)


@pytest.mark.parametrize("group", ["models", "quality"])
def test_a_group_without_a_command_shows_its_help_as_it_stands(run: Run, group: str) -> None:
    """Would break if the list of its commands were one line, as an error is."""
    result = run(group)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == run(group, "--help").stdout


def test_options_for_language_models_stand_apart(run: Run) -> None:
    text = run("route", "--help").stdout
    general, for_language_models = text.split("Language models only:")
    assert "--n-ctx" in for_language_models
    assert "--threads" in general
    assert "<=x" not in text


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"archroute, version {__version__}\n"
