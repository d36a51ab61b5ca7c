"""The HTTP server: the router model's chat endpoint, Plano's routing endpoints and our own.

It binds to loopback unless told otherwise, checks Host, Origin and key, and bounds connections and bodies.

Used by: ``cli``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.server.http._run import bind, run_server
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_run": "bind run_server",
        },
    )
