"""Bounds in bytes on what comes with requests and is kept beyond them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from archroute_edge.errors import RouteTableError
from archroute_edge.routes import RouteTable

MAX_NAME_BYTES: Final = 1 << 10
"""Of a route's name, and of a model's, in UTF-8."""
MAX_DESCRIPTION_BYTES: Final = 1 << 18
"""Of a route's description."""
MAX_MODELS: Final = 64
"""Models of one route."""
MAX_TABLE_BYTES: Final = 1 << 20
"""All names, descriptions and models of a table that comes with a request."""
MAX_PIN_BYTES: Final = 64 << 20
"""All sessions that are remembered, as they are held in memory."""


def check_inline_table(table: RouteTable) -> RouteTable:
    """``table``, which came with a request, if it is not too large to be kept.

    A configuration, which is the operator's own, has no such bounds.

    Raises:
        RouteTableError: a text in it is too long, or all of them together are.
    """
    total = 0
    for number, route in enumerate(table):
        place = f"routes[{number}]"
        total += _checked(f"the name of {place}", route.name, MAX_NAME_BYTES)
        total += _checked(f"the description of {place}", route.description, MAX_DESCRIPTION_BYTES)
        if len(route.models) > MAX_MODELS:
            raise RouteTableError(f"{place} names {len(route.models):,} models; a request may name {MAX_MODELS} for a route")
        total += sum(_checked(f"a model's name of {place}", model, MAX_NAME_BYTES) for model in route.models)
    if total > MAX_TABLE_BYTES:
        raise RouteTableError(f"the routes have {total:,} bytes of text; those of a request may have {MAX_TABLE_BYTES:,}")
    return table


def _checked(what: str, text: str, most: int) -> int:
    n_bytes = len(text.encode("utf-8", "surrogatepass"))
    if n_bytes > most:
        raise RouteTableError(f"{what} has {n_bytes:,} bytes; in a request it may have {most:,}")
    return n_bytes


def bytes_in_memory(texts: Iterable[str | None]) -> int:
    """What texts take in memory, where one emoji makes every letter of its text four bytes long."""
    return sum(sys.getsizeof(text) for text in texts)
