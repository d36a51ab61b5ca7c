"""The last entries and the totals of all, in memory: what the page of the server shows."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from archroute_edge.record._entry import Entry, Try

logger = logging.getLogger(__name__)

MOST_ENTRIES: Final = 200
MOST_NAMES: Final = 512
"""Routes that are counted by name, and models; all further ones are counted together."""
MOST_NAME: Final = 256
"""Characters that are kept of a name."""
MOST_WATCHERS: Final = 16
MINUTES: Final = 60


@dataclass(frozen=True)
class Share:
    """How many requests went to one route or model; the name is None for all whose names are not kept."""

    name: str | None
    requests: int


@dataclass(frozen=True)
class Minute:
    """Requests that came in the minute that begins at ``start``, in seconds since 1970."""

    start: int
    requests: int = 0
    failures: int = 0


@dataclass(frozen=True)
class Totals:
    """Sums since the start.

    Args:
        requests: of clients; copies to shadow models are none.
        failures: requests that ended in an error. A client that went away is no failure.
        shadows: copies to shadow models.
        input_tokens: as upstreams count them, with those of copies.
        output_tokens: the same.
        cached_tokens: those of ``input_tokens`` that a provider had in its cache.
        cost: US dollars, where prices and tokens are known; with ``shadow_cost``.
        shadow_cost: what copies cost.
        priced: requests whose cost is known with the model that answered and with the default model.
        default_cost: what those would have cost with the default model.
        saved: ``default_cost`` less what they did cost, and less ``shadow_cost``.
    """

    requests: int = 0
    failures: int = 0
    shadows: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    shadow_cost: float = 0.0
    priced: int = 0
    default_cost: float = 0.0
    saved: float = 0.0


@dataclass(frozen=True)
class Activity:
    """What happened so far.

    Args:
        number: entries since the start.
        time: when this was put together, in seconds since 1970.
        since: the start.
        totals: sums.
        routes: requests by route, most first.
        models: requests by model, most first.
        minutes: the last hour, the oldest minute first, the present one last.
        entries: the latest ones, oldest first, without scores and texts.
    """

    number: int
    time: float
    since: float
    totals: Totals
    routes: tuple[Share, ...]
    models: tuple[Share, ...]
    minutes: tuple[Minute, ...]
    entries: tuple[Entry, ...]


class RecentEntries:
    """A sink that keeps the last entries and counts all of them. Threads may share it.

    A watcher is told that something has come and looks itself when it can, so a slow one holds up nothing and misses at most
    old entries.

    Args:
        most: entries that are kept.
        clock: seconds since 1970.
    """

    def __init__(self, most: int = MOST_ENTRIES, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=most)
        self._number = 0
        self._totals = Totals()
        self._routes: dict[str | None, int] = {}
        self._models: dict[str | None, int] = {}
        self._minutes: dict[int, Minute] = {}
        self._watchers: list[Callable[[], None]] = []
        self._is_closed = False

    def add(self, entry: Entry) -> None:
        """Take one more."""
        kept = _without_texts(entry)
        with self._lock:
            self._entries.append(kept)
            self._number += 1
            self._totals = _added(self._totals, kept)
            if kept.shadow_of is None:
                _count(self._routes, kept.route)
                _count(self._models, kept.model)
                self._count_minute(kept)
        self._wake()

    def look(self, after: int = 0) -> Activity:
        """What happened so far, with those of the entries kept that came after the first ``after`` ones."""
        with self._lock:
            now = self._clock()
            new = max(0, min(self._number - after, len(self._entries)))
            entries = tuple(self._entries)[len(self._entries) - new :]
            return Activity(
                self._number,
                now,
                self._since,
                self._totals,
                _shares(self._routes),
                _shares(self._models),
                self._last_hour(now),
                entries,
            )

    @property
    def is_closed(self) -> bool:
        """Whether watchers are to look no more."""
        return self._is_closed

    def watch(self, wake: Callable[[], None]) -> bool:
        """Call ``wake`` after each entry, on the thread that adds it; False if there are too many watchers already."""
        with self._lock:
            if len(self._watchers) >= MOST_WATCHERS or self._is_closed:
                return False
            self._watchers.append(wake)
            return True

    def unwatch(self, wake: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            if wake in self._watchers:
                self._watchers.remove(wake)

    def close(self) -> None:
        """Wake all watchers for the last time."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            watchers = tuple(self._watchers)
        for wake in watchers:
            try:
                wake()
            except Exception as exc:  # noqa: BLE001 - a watcher's mistake must not fail the request that is recorded
                logger.warning("a watcher of the activity failed and is told no more: %s", type(exc).__name__)
                self.unwatch(wake)

    def _count_minute(self, entry: Entry) -> None:
        present = int(self._clock() // 60)
        number = min(int(entry.time // 60), present)
        # An answer may take long: one that began more than an hour ago is no part of the last hour.
        if number <= present - MINUTES:
            return
        if number not in self._minutes:
            self._minutes = {each: found for each, found in self._minutes.items() if present - MINUTES < each <= present}
        found = self._minutes.get(number) or Minute(60 * number)
        self._minutes[number] = Minute(found.start, found.requests + 1, found.failures + (entry.outcome == "failed"))

    def _last_hour(self, now: float) -> tuple[Minute, ...]:
        present = int(now // 60)
        return tuple(self._minutes.get(each) or Minute(60 * each) for each in range(present - MINUTES + 1, present + 1))


def _without_texts(entry: Entry) -> Entry:
    return replace(
        entry,
        scores=None,
        expected_scores=None,
        content=None,
        asked_model=_cut(entry.asked_model),
        route=_cut(entry.route),
        model=_cut(entry.model),
        response_model=_cut(entry.response_model),
        tries=tuple(_cut_try(each) for each in entry.tries),
    )


def _cut_try(found: Try) -> Try:
    return found if len(found.model) <= MOST_NAME else replace(found, model=found.model[:MOST_NAME])


def _cut(name: str | None) -> str | None:
    return None if name is None else name[:MOST_NAME]


def _count(counts: dict[str | None, int], name: str | None) -> None:
    if name is None:
        return
    key = name if name in counts or len(counts) < MOST_NAMES else None
    counts[key] = counts.get(key, 0) + 1


def _shares(counts: dict[str | None, int]) -> tuple[Share, ...]:
    """Most first; those that are counted together stand last."""
    found = [Share(name, requests) for name, requests in counts.items()]
    return tuple(sorted(found, key=lambda share: (share.name is None, -share.requests)))


def _added(totals: Totals, entry: Entry) -> Totals:
    is_shadow = entry.shadow_of is not None
    cost = entry.cost or 0.0
    usage = entry.usage
    is_priced = not is_shadow and entry.cost is not None and entry.default_cost is not None
    default_cost = (entry.default_cost or 0.0) if is_priced else 0.0
    spent = cost if is_shadow or is_priced else 0.0
    return Totals(
        requests=totals.requests + (not is_shadow),
        failures=totals.failures + (not is_shadow and entry.outcome == "failed"),
        shadows=totals.shadows + is_shadow,
        input_tokens=totals.input_tokens + (usage.input or 0),
        output_tokens=totals.output_tokens + (usage.output or 0),
        cached_tokens=totals.cached_tokens + (usage.cached or 0),
        cost=totals.cost + cost,
        shadow_cost=totals.shadow_cost + (cost if is_shadow else 0.0),
        priced=totals.priced + is_priced,
        default_cost=totals.default_cost + default_cost,
        saved=totals.saved + default_cost - spent,
    )
