"""What programs send as JSON, in lines and in bodies: one value, and routes that come with a message."""

from __future__ import annotations

import json
from typing import Any

from archroute_edge.config._node import Node, Place, Source
from archroute_edge.config._reader import read_route
from archroute_edge.errors import ConversationError, RouteTableError
from archroute_edge.routes import MAX_ROUTES, RouteTable


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


def _route_error(message: str, place: Place, _path: object) -> RouteTableError:
    return RouteTableError(message, place=str(place or ""))


def read_routes(routes: Any, *, foreign: bool = False) -> RouteTable:
    """The table that a list of ``{"name", "description", "models"}`` objects stands for.

    Args:
        routes: the list, as JSON has it, with the keys that a route of a configuration file may have.
        foreign: whether the list is another program's, whose later releases may add keys: one that is not known is
            ignored then, unless it looks like a slip.

    Raises:
        RouteTableError: it is no such list, holds an unknown key, or its routes cannot be used together.
    """
    values = Node.of(routes, Source(foreign=foreign, error=_route_error), "routes")
    if isinstance(routes, list) and len(routes) > MAX_ROUTES:
        raise RouteTableError(f"{len(routes)} routes are more than the {MAX_ROUTES} that one table may hold")
    return RouteTable([read_route(value).route() for value in values.items("a route")])
