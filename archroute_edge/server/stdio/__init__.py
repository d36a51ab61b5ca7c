"""JSON-RPC over standard input and output, for programs that start the router as a child process.

Used by: ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.server.stdio._run import Host, serve_stdio
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_run": "Host serve_stdio",
        },
    )
