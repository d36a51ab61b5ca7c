"""Routes while a file is read, and the table that they make."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from archroute_edge.config._document import Document, Field
from archroute_edge.config._schema import SelectionPolicy
from archroute_edge.config._yaml_tree import Value, shorten
from archroute_edge.errors import ConfigError, RouteTableError
from archroute_edge.routes import Route, RouteTable


@dataclass
class RouteDraft:
    """A route while it is read."""

    name: str
    line: int
    description: str = ""
    models: list[str] = field(default_factory=list)
    policy: SelectionPolicy | None = None
    lifted: bool = False


def draft_route(document: Document, fields: Mapping[str, Field], value: Value) -> RouteDraft:
    """The name and description of a route.

    Raises:
        ConfigError: no name, or one of them is no text.
    """
    if "name" not in fields:
        raise document.error("a route without 'name'", value.line)
    name = document.name(fields["name"].value, "a route's name")
    draft = RouteDraft(name, fields["name"].line)
    if "description" in fields:
        draft.description = document.text(fields["description"].value, f"route {shorten(name)}: description")
    return draft


def add_route(document: Document, drafts: dict[str, RouteDraft], draft: RouteDraft) -> None:
    """Add a route to those of the file.

    Raises:
        ConfigError: the name is taken.
    """
    first = drafts.setdefault(route_key(draft.name), draft)
    if first is not draft:
        message = f"route {shorten(draft.name)} is defined twice (first on line {first.line}); names must be distinct"
        raise document.error(message, draft.line)


def route_key(name: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFC", name)


def make_table(document: Document, drafts: Mapping[str, RouteDraft], line: int | None) -> RouteTable:
    """The table of the routes of a file.

    Args:
        document: the file.
        drafts: its routes by :func:`route_key`.
        line: line of the section that lists them, for errors.

    Raises:
        ConfigError: no routes, or some that cannot be used, alone or together.
    """
    if not drafts:
        message = "no routes; list them under 'routing_preferences', each with a name and a description"
        raise document.error(message, line)
    routes: list[Route] = []
    for draft in drafts.values():
        try:
            routes.append(Route(draft.name, draft.description, tuple(draft.models)))
        except RouteTableError as exc:
            raise ConfigError(str(exc), path=document.path, line=draft.line) from exc
    try:
        return RouteTable(routes)
    except RouteTableError as exc:
        first = next(iter(drafts.values())).line
        raise ConfigError(str(exc), path=document.path, line=line if line is not None else first) from exc
