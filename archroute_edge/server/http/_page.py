"""``GET /``: the page that shows what the server decides. One file with its style and script inside; it loads nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from archroute_edge.server.http._served_route import ServedRoute

PAGE_PATH: Final = "/"

_STYLE, _SCRIPT = "/*page.css*/", "/*page.js*/"


def page_endpoint() -> APIRouter:
    """The endpoint."""
    router = APIRouter(route_class=ServedRoute)
    page, headers = _page()

    @router.get(PAGE_PATH, include_in_schema=False)
    async def show() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    return router


def _page() -> tuple[str, dict[str, str]]:
    """The page, and the headers that keep everything else out of it.

    Routes and models have names that others choose. The page writes them as text, and these headers hold if it did not.
    """
    folder = resources.files("archroute_edge") / "data" / "page"
    page, style, script = (
        (folder / f"page.{kind}").read_text(encoding="utf-8").replace("\r\n", "\n") for kind in ("html", "css", "js")
    )
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_source(style)}",
            f"script-src {_source(script)}",
            # The icon of the tab.
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return page.replace(_STYLE, style).replace(_SCRIPT, script), headers


def _source(text: str) -> str:
    """How a policy names an element by its content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
