"""An engine small enough to read: a token a byte, logits that are a function of the tokens before, and a KV cache of cells.

It checks what callers must not do (positions with gaps, copies into used sequences) and counts what they evaluate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from archroute_edge.engine import BatchToken, Logits
from archroute_edge.errors import ContextOverflowError, EvaluationStoppedError

N_VOCAB = 256


class FakeEngine:
    """Sequences are tokens by position; cells are counted as llama.cpp counts them: shared ones once."""

    def __init__(self, n_ctx: int = 4096, n_sequences: int = 32) -> None:
        self.n_ctx = n_ctx
        self.n_sequences = n_sequences
        self.sequences: dict[int, dict[int, tuple[int, int]]] = {number: {} for number in range(n_sequences)}
        self.n_evaluated = 0
        self.stops_after: int | None = None
        """Tokens after which the next evaluation is stopped, as if its cancellation were set; it finishes pieces of 4."""
        self._next_cell = 0

    def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
        if self.n_cells + len(batch) > self.n_ctx:
            raise ContextOverflowError("no room")
        n_finished = len(batch)
        if self.stops_after is not None and self.stops_after < len(batch):
            n_finished, self.stops_after = self.stops_after // 4 * 4, None
        rows = []
        for entry in batch[:n_finished]:
            for number in entry.sequences:
                assert list(self.sequences[number]) == list(range(entry.position)), "positions must follow one another"
                self.sequences[number][entry.position] = (entry.token, self._next_cell)
            self._next_cell += 1
            if entry.wants_logits:
                rows.append(self.logits_after(self.tokens(entry.sequences[0])))
        self.n_evaluated += n_finished
        if n_finished < len(batch):
            raise EvaluationStoppedError("stopped", n_finished=n_finished)
        return np.stack(rows) if rows else np.empty((0, N_VOCAB), np.float32)

    def logits_after(self, tokens: Sequence[int]) -> Logits:
        """A fixed but haphazard function of all tokens."""
        seed = int.from_bytes(hashlib.sha256(bytes(tokens)).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(N_VOCAB).astype(np.float32)

    @property
    def n_cells(self) -> int:
        """Cells in use."""
        return len({cell for cells in self.sequences.values() for _, cell in cells.values()})

    def tokens(self, sequence: int) -> list[int]:
        return [token for token, _ in self.sequences[sequence].values()]

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        shared = {position: self.sequences[source][position] for position in range(start, end)}
        assert not shared.keys() & self.sequences[target].keys(), "a copy must go where there is nothing"
        self.sequences[target] = dict(sorted((self.sequences[target] | shared).items()))

    def truncate(self, sequence: int, length: int) -> None:
        self.sequences[sequence] = {at: cell for at, cell in self.sequences[sequence].items() if at < length}

    def save(self, sequence: int) -> bytes:
        first = min(self.sequences[sequence], default=0)
        return first.to_bytes(4, "little") + bytes(self.tokens(sequence))

    def load(self, sequence: int, state: bytes) -> None:
        assert not self.sequences[sequence]
        for position, token in enumerate(state[4:], int.from_bytes(state[:4], "little")):
            self.sequences[sequence][position] = (token, self._next_cell)
            self._next_cell += 1
