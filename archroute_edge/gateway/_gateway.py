"""All that forwards requests, for one configuration at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from archroute_edge.config import RoutingConfig
from archroute_edge.gateway._forward_request import ForwardRequest
from archroute_edge.record import EntrySink


@dataclass
class Forwarded:
    """An answer on its way to the client.

    Args:
        status: HTTP status.
        headers: of the answer.
        content: its bytes, as they come. Closing it ends the request at the upstream.
    """

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    content: AsyncIterator[bytes]


class Gateway:
    """Sends requests to the models that a configuration names.

    Args:
        config: the models, and how traffic is shared.
        entries: gets one of every request, when it has ended.
        environment: holds the keys that the configuration names; None for the process's own.
        keep_content: whether entries hold texts.

    Raises:
        ConfigError: a model cannot be reached as the configuration says: no key, no address, no interface; with file and line.
    """

    def __init__(
        self,
        config: RoutingConfig,
        entries: EntrySink,
        *,
        environment: Mapping[str, str] | None = None,
        keep_content: bool = False,
    ) -> None:
        self._config = config
        self._entries = entries
        self._environment = environment
        self._keep_content = keep_content

    async def forward(self, request: ForwardRequest) -> Forwarded:
        """The first target's answer that is one, as soon as its first byte is there.

        Cancelling it ends the request at the upstream.
        """
        raise NotImplementedError

    def replace(self, config: RoutingConfig) -> None:
        """Take a new configuration; requests that run finish with the old one.

        Raises:
            ConfigError: as the constructor; the old one stays.
        """
        self._config = config

    async def close(self) -> None:
        """End what still runs, and close the connections."""
