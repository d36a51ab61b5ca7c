"""``archroute check``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from archroute_edge.cli.help import examples
from archroute_edge.cli.options import json_option
from archroute_edge.cli.process import shown
from archroute_edge.config import Advice, ForwardSettings, IgnoredKey, RoutingConfig, Upstream, load_config, shorten
from archroute_edge.report import counted

_MOST_LINES = 8
"""Most lines that are listed of one ignored key; large gateway files have some keys under hundreds of models."""


@click.command(epilog=examples("archroute check routes.yaml", "archroute check plano_config.yaml --json"))
@click.argument("file")
@json_option
def check(file: str, as_json: bool) -> None:
    """Validate a configuration and warn about unwise routes.

    FILE is a YAML or JSON configuration of this project, archgw, Plano or chat-ui. An error names its line and exits with
    status 2. Warnings follow the advice of Arch-Router's authors on routes; they do not change the exit status. Keys in other
    programs' files that have no effect here are listed, and so is what serve --forward lacks to reach the models of the file.
    """
    config = load_config(file)
    # Brings llama.cpp, for which an error in the file need not wait.
    from archroute_edge.targets import advice

    warnings = advice(config)
    forwarding = _Forwarding(config) if _says_how_to_forward(config) else None
    if as_json:
        found = {
            "file": file,
            "format": config.format,
            "routes": list(config.table.names),
            "default_model": config.default_model,
            "warnings": [asdict(each) for each in warnings],
            "ignored": [asdict(each) for each in config.ignored_keys],
            "forwarding": None if forwarding is None else [asdict(each) for each in forwarding.lacks],
        }
        click.echo(json.dumps(found))
        return
    for each in warnings:
        about = f"route {shorten(each.route)} " if each.route is not None else ""
        click.echo(shown(f"{file}{_at(each.line)}: warning: {about}{each.message}"), err=True)
    for summary in _summaries(config.ignored_keys):
        click.echo(shown(f"{file}: {summary}"), err=True)
    if forwarding is not None:
        for line in forwarding.lines(file):
            click.echo(shown(line), err=True)
    parts = [counted(len(config.table), "route"), f"default model {config.default_model or 'none'}"]
    parts.append(counted(len(warnings), "warning"))
    if config.ignored_keys:
        parts.append(counted(len({(each.where, each.key) for each in config.ignored_keys}), "ignored key"))
    click.echo(shown(f"{file}: {', '.join(parts)}"))


def _says_how_to_forward(config: RoutingConfig) -> bool:
    """Whether a file is meant to be forwarded by: it says more about models than their names, or about traffic, or its models
    need no more than that.
    """
    if config.forward != ForwardSettings() or any(each.upstream != Upstream() for each in config.models):
        return True
    from archroute_edge.gateway import forwarding_problems

    return bool(config.models) and not forwarding_problems(config)


class _Forwarding:
    """What ``serve --forward`` lacks to forward by a configuration now."""

    def __init__(self, config: RoutingConfig) -> None:
        from archroute_edge.gateway import UnsetVariableError, forwarding_notes, forwarding_problems

        problems = forwarding_problems(config)
        self._notes = forwarding_notes(config)
        self._others = [each for each in problems if not isinstance(each, UnsetVariableError)]
        self._variables: dict[str, list[int]] = {}
        for each in problems:
            if isinstance(each, UnsetVariableError):
                self._variables.setdefault(each.variable, []).append(each.line or 0)
        self.lacks = [Advice(each.message, line=each.line) for each in problems]

    def lines(self, file: str) -> Iterator[str]:
        """It for people: each variable once."""
        for note in self._notes:
            yield f"{file}{_at(note.line)}: serve --forward: {note.message}"
        for each in self._others:
            yield f"{file}{_at(each.line)}: serve --forward: {each.message}"
        if self._variables:
            names = ", ".join(f"{name} ({_lines(lines)})" for name, lines in self._variables.items())
            yield f"{file}: serve --forward needs environment variables that are not set: {names}"


def _at(line: int | None) -> str:
    return f":{line}" if line else ""


def _summaries(ignored: Sequence[IgnoredKey]) -> Iterator[str]:
    """The ignored keys with their lines, one text for each kind of mapping that they stand in."""
    lines: dict[str, dict[str, list[int]]] = {}
    for each in ignored:
        lines.setdefault(each.where, {}).setdefault(each.key, []).append(each.line)
    for where, keys in lines.items():
        yield f"ignored in {where}: " + ", ".join(f"{shorten(key)} ({_lines(found)})" for key, found in keys.items())


def _lines(lines: list[int]) -> str:
    listed = ", ".join(str(line) for line in lines[:_MOST_LINES])
    more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {listed}{more}"
