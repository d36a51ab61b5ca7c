"""What programs send as JSON, in lines and in bodies: one value, and routes that come with a message."""

from __future__ import annotations

import json
from typing import Any

from archroute_edge.config._known_keys import ROUTE
from archroute_edge.config._yaml_tree import shorten
from archroute_edge.conversation import replace_surrogates
from archroute_edge.errors import ConversationError, RouteTableError
from archroute_edge.routes import MAX_ROUTES, Route, RouteTable


def parse_json(raw: bytes, place: str) -> Any:
    """The JSON value in ``raw``.

    Raises:
        ConversationError: it is not UTF-8 or not JSON; the message says where in ``place``.
    """

    def refuse(name: str) -> Any:
        raise ConversationError(f"{place}: not JSON: {name} is no value of it")

    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=refuse)
    except UnicodeDecodeError as exc:
        raise ConversationError(f"{place}: not UTF-8 (byte {exc.start})") from exc
    except json.JSONDecodeError as exc:
        raise ConversationError(f"{place}:{exc.lineno}: not JSON: {exc.msg} (column {exc.colno})") from exc
    except RecursionError as exc:
        raise ConversationError(f"{place}: JSON that cannot be used: nested too deep") from exc
    except ValueError as exc:
        raise ConversationError(f"{place}: JSON that cannot be used: a number too long") from exc


def _valid(value: Any) -> Any:
    """``value`` with valid Unicode, if it is a text: JSON can carry half a character, and it is read as in a message."""
    return replace_surrogates(value) if isinstance(value, str) else value


def read_routes(routes: Any, *, foreign: bool = False) -> RouteTable:
    """The table that a list of ``{"name", "description", "models"}`` objects stands for.

    Args:
        routes: the list. Keys that a route of a configuration file may have are taken here, too.
        foreign: whether the list is another program's, whose later releases may add keys: one that is not known is
            ignored then, unless it looks like a slip.

    Raises:
        RouteTableError: it is no such list, holds an unknown key, or its routes cannot be used together.
    """
    if not isinstance(routes, list) or not all(isinstance(each, dict) and "name" in each for each in routes):
        raise RouteTableError("routes must be a list of objects with name and description")
    table = []
    for index, each in enumerate(routes[: MAX_ROUTES + 1]):
        for key in map(replace_surrogates, each):
            if not ROUTE.knows(key) and not (foreign and not ROUTE.is_slip(key)):
                raise RouteTableError(
                    f"unknown key {shorten(key)} in a route{ROUTE.suggestion(key)}", place=f"{index}.{key[:60]}"
                )
        models = each.get("models", [])
        if not isinstance(models, list):
            raise RouteTableError(f"the models of route {shorten(str(each['name']))} must be a list", place=f"{index}.models")
        try:
            table.append(Route(_valid(each["name"]), _valid(each.get("description", "")), tuple(map(_valid, models))))
        except RouteTableError as exc:
            raise RouteTableError(str(exc), place=f"{index}") from exc
    if len(routes) > MAX_ROUTES:
        raise RouteTableError(f"{len(routes)} routes are more than the {MAX_ROUTES} that one table may hold")
    return RouteTable(table)
