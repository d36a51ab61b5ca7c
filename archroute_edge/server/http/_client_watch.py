"""Ends what is done for a client when it goes away."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from archroute_edge.server.http._api_errors import ClientGoneError


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def uncancel() -> None:
    """Let the task go on that has just been cancelled."""
    task = asyncio.current_task()
    if sys.version_info >= (3, 11) and task is not None:
        task.uncancel()


class ClientWatch:
    """Watches one client, for the task that makes it. :meth:`stop` ends it.

    Args:
        receive: of its request, whose body has been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._task = asyncio.current_task()
        self._is_gone = False
        self._is_armed = False
        self._watching = asyncio.ensure_future(self._watch(receive))

    @contextmanager
    def armed(self) -> Iterator[None]:
        """A block that is cancelled when the client goes away.

        Raises:
            ClientGoneError: it has.
        """
        if self._is_gone:
            raise ClientGoneError
        self._is_armed = True
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_gone:
                raise
            uncancel()
            raise ClientGoneError from None
        finally:
            self._is_armed = False

    def stop(self) -> None:
        """Watch no more."""
        self._watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        await until_gone(receive)
        self._is_gone = True
        if self._is_armed and self._task is not None:
            self._task.cancel()
