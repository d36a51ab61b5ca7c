"""A new configuration while the server runs: on SIGHUP, and when its file has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from archroute_edge.config import RoutingConfig, load_config
from archroute_edge.errors import ArchRouteError
from archroute_edge.server.http._serving import Serving

logger = logging.getLogger(__name__)

POLL_S = 1.0

_Signature = tuple[int, int, int] | None


class ConfigReload:
    """Looks after one configuration file.

    Args:
        path: the file; None where the built-in example is used, which does not change. What is no file, such as the pipe that
            a shell makes of ``<(...)``, can be read but once, and is not looked after.
        serving: gets the new configuration.
        forward_by: takes it for what is forwarded, or raises ConfigError.
        poll: seconds between looks at the file.
    """

    def __init__(
        self,
        path: Path | None,
        serving: Serving,
        forward_by: Callable[[RoutingConfig], None] | None = None,
        poll: float = POLL_S,
    ) -> None:
        self._path = None if path is not None and path.exists() and not path.is_file() else path
        self._serving = serving
        self._forward_by = forward_by
        self._poll = poll
        self._asked = asyncio.Event()
        self._seen = self._signature()

    def ask(self) -> None:
        """Read the file again, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever there is reason to; never returns."""
        # The file may have been changed while the model was loaded.
        if self._path is not None and await self._differs(self._path):
            await self.reload()
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), self._poll)
            except asyncio.TimeoutError:
                now = self._signature()
                # None: an editor is just replacing the file.
                if now is None or now == self._seen:
                    continue
                await asyncio.sleep(self._poll / 4)
                if now != self._signature():
                    continue
            self._asked.clear()
            self._seen = self._signature()
            await self.reload()

    async def reload(self) -> bool:
        """Read the file and take its routes, if the model can; whatever is wrong leaves the old ones in place.

        A configuration that says what it said before stays as well, and so do the sessions that were decided by it.
        """
        if self._path is None:
            logger.warning("there is no configuration file to read again")
            return False
        service = self._serving.service
        try:
            config = await asyncio.to_thread(load_config, self._path)
            if config != self._serving.config:
                # Over the model that is loaded. What waits is decided by the old configuration, what comes now by the new one.
                router = await asyncio.to_thread(service.router.with_config, config)
                try:
                    if self._forward_by is not None:
                        self._forward_by(config)
                    service.replace(router)
                except ArchRouteError:
                    router.close(wait=False)
                    raise
        except ArchRouteError as exc:
            logger.error("the configuration stays as it was: %s", exc)
            self._serving.metrics.reloaded(taken=False)
            return False
        self._serving.metrics.reloaded(taken=True)
        many = "1 route" if len(config.table) == 1 else f"{len(config.table)} routes"
        logger.info("the configuration has been read again: %s of %s", many, self._path)
        return True

    async def _differs(self, path: Path) -> bool:
        """Whether the file says anything else than the configuration in use, or cannot be read."""
        try:
            return await asyncio.to_thread(load_config, path) != self._serving.config
        except ArchRouteError:
            return True

    def _signature(self) -> _Signature:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
