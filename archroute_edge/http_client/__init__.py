"""The HTTP client for servers that a user names: upstreams that requests are forwarded to, and models on another machine.

It follows no redirects, keeps no cookies, and takes no proxies and no credentials from the environment.

Used by: ``deciders`` and ``gateway``. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily

if TYPE_CHECKING:
    from archroute_edge.http_client._client import (
        OVERLOADED,
        URL,
        InvalidURL,
        UpstreamClient,
        UpstreamError,
        UpstreamReply,
        is_here,
        tls_of,
    )
else:
    __getattr__, __all__ = lazily(
        __name__, {"_client": "InvalidURL OVERLOADED URL UpstreamClient UpstreamError UpstreamReply is_here tls_of"}
    )
