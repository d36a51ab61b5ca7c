"""Where entries go: every sink that is hung in gets each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from archroute_edge.record._entry import Entry, EntrySink

logger = logging.getLogger(__name__)


class EntrySinks:
    """Several sinks as one.

    Args:
        sinks: the first of them.
    """

    def __init__(self, sinks: Iterable[EntrySink] = ()) -> None:
        self._sinks = tuple(sinks)

    def hang(self, sink: EntrySink) -> None:
        """Let ``sink`` have every later entry, too."""
        self._sinks = (*self._sinks, sink)

    def add(self, entry: Entry) -> None:
        """Give an entry to all; a sink that breaks its promise and raises costs a line in the log, and no request."""
        for sink in self._sinks:
            try:
                sink.add(entry)
            except Exception:
                logger.exception("an entry could not be kept")
