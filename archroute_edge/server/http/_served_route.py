"""Routes that build the models of their replies only for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute


class ServedRoute(APIRoute):
    """A route whose endpoint returns a response of its own, so that serving needs no model of the reply.

    FastAPI builds a field for each reply of each route, errors included, which is most of the time that making the
    application takes.

    Args:
        path: of the requests.
        endpoint: answers them.
        response_model: describes its answer.
        responses: describe its other answers.
        options: as for ``APIRoute``.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        response_model: Any = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, endpoint, response_model=None, **options)
        self.described = partial(APIRoute, path, endpoint, response_model=response_model, responses=responses, **options)
        """Makes the route as the document shows it."""


def described(routers: list[APIRouter]) -> list[APIRoute]:
    """The routes of ``routers`` as the document shows them."""
    routes = [route for router in routers for route in router.routes]
    return [route.described() for route in routes if isinstance(route, ServedRoute)]
