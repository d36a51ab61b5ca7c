"""Keys and values in ordinary memory, out of the KV cache, until a decision needs them again.

llama.cpp looks at every cell up to the last one in use, whosever it is, and a sequence that is scattered between others'
costs more still: some percent of a decision at the 1.5B shape (docs/performance.md has the figures and the commands).
"""

from __future__ import annotations

from archroute_edge.decoding._working_sequence import CachedSequence
from archroute_edge.engine import Engine
from archroute_edge.errors import EngineError


class Parking:
    """Moves sequences out of an engine and back. Of a conversation only what it does not share with its prefix moves.

    Args:
        engine: whose sequences they are.
        numbers: of the sequences that it may use.
        scratch: of one more, which is empty between calls.
    """

    def __init__(self, engine: Engine, numbers: range, scratch: int) -> None:
        self._engine = engine
        self._free = list(reversed(numbers))
        self._scratch = scratch
        self.n_parkings = 0

    def take_number(self) -> int:
        """The number of an empty sequence. There is one as long as no more sequences are kept than there are numbers."""
        return self._free.pop()

    def give_back(self, number: int) -> None:
        """Empty the sequence of that number; somebody else may have it."""
        self._engine.truncate(number, 0)
        self._free.append(number)

    def drop(self, cached: CachedSequence) -> None:
        """Forget what ``cached`` holds, wherever it is."""
        if cached.parked is None:
            self.give_back(cached.number)
        cached.parked = None

    def park(self, cached: CachedSequence) -> None:
        """Move ``cached`` out of the KV cache.

        Raises:
            EngineError: llama.cpp could not save it; it is where it was.
        """
        try:
            self._engine.copy(cached.number, self._scratch, cached.n_prefix, len(cached.tokens))
            cached.parked = self._engine.save(self._scratch) if cached.n_own else b""
        finally:
            self._engine.truncate(self._scratch, 0)
        self.give_back(cached.number)
        self.n_parkings += 1

    def unpark(self, cached: CachedSequence) -> None:
        """Move ``cached`` back. The prefix that it shares cells with must be in the KV cache.

        Raises:
            EngineError: there is no room for it, or llama.cpp did not take it; it is where it was.
        """
        assert cached.parked is not None
        number = self.take_number()
        try:
            if cached.parked:
                self._engine.load(number, cached.parked)
            if cached.prefix is not None:
                self._engine.copy(cached.prefix.number, number, 0, cached.n_prefix)
        except EngineError:
            self.give_back(number)
            raise
        cached.number, cached.parked = number, None
