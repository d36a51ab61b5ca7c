"""The sequences that are kept: pinned prefixes and conversations, in the KV cache or parked, until others need their place."""

from __future__ import annotations

import logging
from collections.abc import Callable

from archroute_edge.decoding._parking import Parking
from archroute_edge.decoding._working_sequence import CachedSequence
from archroute_edge.engine import Engine
from archroute_edge.errors import EngineError

logger = logging.getLogger(__name__)

MAX_OTHER_CELLS = 256
"""Cells that other tables and conversations may have in the KV cache behind a decision; beyond that they are parked."""


class KeptSequences:
    """Pinned prefixes by their tokens, and conversations; which of them go first. Not thread-safe: one caller at a time.

    Args:
        engine: whose sequences they are.
        max_pinned: most prefixes.
        max_conversations: most conversations.
        max_parked_bytes: memory for what is parked.
    """

    def __init__(self, engine: Engine, max_pinned: int, max_conversations: int, max_parked_bytes: int) -> None:
        self._engine = engine
        self.max_pinned = max_pinned
        self.max_conversations = max_conversations
        self.max_parked_bytes = max_parked_bytes
        self.pinned: dict[tuple[int, ...], CachedSequence] = {}
        self.conversations: list[CachedSequence] = []
        self.in_use: set[CachedSequence] = set()
        """What stays where it is, whatever needs room."""
        n_kept = max_pinned + max_conversations
        # Parking has one of its own: it makes room for evaluations that have cells in the others.
        self.parking = Parking(engine, range(n_kept), n_kept)
        self.scratch_numbers = tuple(range(n_kept + 1, engine.n_sequences))
        self.n_evictions = 0

    def new(self) -> CachedSequence:
        """An empty sequence, for one that is kept later."""
        return CachedSequence(self.parking.take_number())

    def unpark(self, cached: CachedSequence) -> bool:
        """Whether ``cached`` is in the KV cache now."""
        return cached.parked is None or self.made_room_for(lambda: self.parking.unpark(cached))

    def made_room_for(self, load: Callable[[], None]) -> bool:
        """Whether ``load`` succeeded, with as much of the KV cache freed as it needed."""
        while True:
            try:
                load()
            except EngineError as exc:
                # A full cache is one reason; llama.cpp does not say.
                if not self.free_cells():
                    logger.warning("%s; the tokens are evaluated again", exc)
                    return False
            else:
                return True

    def free_cells(self) -> bool:
        """Free the cells of whatever is least worth having there; False where all that is left is in use."""
        for kept in (self.conversations, self.pinned.values()):
            idle = [each for each in kept if each.parked is None and each not in self.in_use]
            if idle:
                self._park(min(idle, key=lambda each: each.last_used))
                return True
        return False

    def park_others(self, *current: CachedSequence) -> None:
        """Park all but the ``current`` sequences, once they have more than a few cells together."""
        others = [each for each in (*self.conversations, *self.pinned.values()) if each.parked is None and each not in current]
        if sum(each.n_own for each in others) > MAX_OTHER_CELLS:
            for each in others:
                if each.parked is None:
                    self._park(each)

    def _park(self, cached: CachedSequence) -> None:
        """Move ``cached`` out of the KV cache, or drop it where it cannot be saved or there is too much already."""
        try:
            self.parking.park(cached)
        except EngineError as exc:
            logger.warning("%s; its tokens will be evaluated again", exc)
            self.forget(cached)
            return
        while sum(len(each.parked or b"") for each in (*self.conversations, *self.pinned.values())) > self.max_parked_bytes:
            # Never what is on its way back.
            parked = [each for each in self.conversations if each.parked and each not in self.in_use] or [
                each for each in self.pinned.values() if each.parked and each not in self.in_use
            ]
            if not parked:
                break
            self.forget(min(parked, key=lambda each: each.last_used))

    def forget(self, cached: CachedSequence) -> None:
        """Drop ``cached`` for the sake of others."""
        self.n_evictions += 1
        if cached in self.conversations:
            self.give_up(cached)
        else:
            self.unpin(cached)

    def evict_conversation(self) -> bool:
        """Drop the conversation that was used least recently; False where all are in use."""
        evictable = [each for each in self.conversations if each not in self.in_use]
        if not evictable:
            return False
        self.forget(min(evictable, key=lambda each: each.last_used))
        return True

    def give_up(self, cached: CachedSequence) -> None:
        """Drop a conversation."""
        self.conversations.remove(cached)
        self.parking.drop(cached)

    def unpin(self, pinned: CachedSequence) -> None:
        """Drop a pinned prefix; its conversations stay where they have its cells themselves."""
        self.pinned = {prefix: each for prefix, each in self.pinned.items() if each is not pinned}
        for each in [each for each in self.conversations if each.prefix is pinned]:
            if each.parked is None:
                each.prefix, each.n_prefix = None, 0
            else:
                self.give_up(each)
        self.parking.drop(pinned)

    def drop_closings(self, current: CachedSequence) -> None:
        """Free the closing instructions of all conversations but ``current``: no turn of theirs will reuse them."""
        for each in self.conversations:
            if each is not current and each.parked is None and len(each.tokens) > each.n_conversation:
                self._engine.truncate(each.number, each.n_conversation)
                del each.tokens[each.n_conversation :]
