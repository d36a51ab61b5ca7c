"""Routers for other programs: over HTTP (``server.http``) and over standard input and output (``server.stdio``).

Here stands what both share: settings and limits.

Used by: ``server.http``, ``server.stdio`` and ``cli``. Other rooms import only the names below; modules with an underscore
belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.server._options import MAX_NAME, OPTIONS, earliest, options, options_schema, read_input, read_options
    from archroute_edge.server._settings import (
        DEFAULT_AFFINITY_TTL_S,
        DEFAULT_FORWARD_QUEUE,
        DEFAULT_HOST,
        DEFAULT_MAX_AFFINITY,
        DEFAULT_MAX_BODY,
        DEFAULT_MAX_FORWARDED_BODY,
        DEFAULT_PORT,
        DEFAULT_QUEUE,
        DEFAULT_TIMEOUT_S,
        MAX_BATCH,
        MAX_PIN_BYTES,
        ServerSettings,
        StdioSettings,
        check_inline_table,
    )
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_options": "MAX_NAME OPTIONS earliest options options_schema read_input read_options",
            "_settings": (
                "DEFAULT_AFFINITY_TTL_S DEFAULT_FORWARD_QUEUE DEFAULT_HOST DEFAULT_MAX_AFFINITY "
                "DEFAULT_MAX_BODY DEFAULT_MAX_FORWARDED_BODY "
                "DEFAULT_PORT DEFAULT_QUEUE DEFAULT_TIMEOUT_S MAX_BATCH MAX_PIN_BYTES ServerSettings StdioSettings "
                "check_inline_table"
            ),
        },
    )
