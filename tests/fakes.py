"""An engine small enough to read: a token a byte, logits that are a function of the tokens before, and a KV cache of cells.

It checks what callers must not do (positions with gaps, copies into used sequences) and counts what they evaluate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from archroute_edge.engine.interface import BatchToken, Logits
from archroute_edge.errors import ContextOverflowError, EvaluationStoppedError

N_VOCAB = 256


class FakeEngine:
    """Sequences are lists of tokens; cells are counted as llama.cpp counts them: shared ones once."""

    def __init__(self, n_ctx: int = 4096, n_sequences: int = 8) -> None:
        self.n_ctx = n_ctx
        self.n_sequences = n_sequences
        self.sequences: dict[int, list[tuple[int, int]]] = {number: [] for number in range(n_sequences)}
        self.n_evaluated = 0
        self.stops_after: int | None = None
        """Tokens after which the next evaluation is stopped, as if its cancellation were set; it finishes pieces of 4."""
        self._next_cell = 0

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def is_end_of_generation(self, token: int) -> bool:
        return False

    def tokens_with_piece(self, piece: bytes) -> tuple[int, ...]:
        return (piece[0],) if len(piece) == 1 else ()

    def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
        used = {cell for cells in self.sequences.values() for _, cell in cells}
        if len(used) + len(batch) > self.n_ctx:
            raise ContextOverflowError("no room")
        n_finished = len(batch)
        if self.stops_after is not None and self.stops_after < len(batch):
            n_finished, self.stops_after = self.stops_after // 4 * 4, None
        rows = []
        for entry in batch[:n_finished]:
            for number in entry.sequences:
                assert entry.position == len(self.sequences[number]), "positions must follow one another"
                self.sequences[number].append((entry.token, self._next_cell))
            self._next_cell += 1
            if entry.wants_logits:
                rows.append(self.logits_after([token for token, _ in self.sequences[entry.sequences[0]]]))
        self.n_evaluated += n_finished
        if n_finished < len(batch):
            raise EvaluationStoppedError("stopped", n_finished=n_finished)
        return np.stack(rows) if rows else np.empty((0, N_VOCAB), np.float32)

    def logits_after(self, tokens: Sequence[int]) -> Logits:
        """A fixed but haphazard function of all tokens."""
        seed = int.from_bytes(hashlib.sha256(bytes(tokens)).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(N_VOCAB).astype(np.float32)

    def copy(self, source: int, target: int, length: int) -> None:
        assert not self.sequences[target], "a copy must go into an empty sequence"
        assert len(self.sequences[source]) >= length
        self.sequences[target] = self.sequences[source][:length]

    def truncate(self, sequence: int, length: int) -> None:
        del self.sequences[sequence][length:]

    def save(self, sequence: int) -> bytes:
        return bytes(token for token, _ in self.sequences[sequence])

    def load(self, sequence: int, state: bytes) -> None:
        assert not self.sequences[sequence]
        for token in state:
            self.sequences[sequence].append((token, self._next_cell))
            self._next_cell += 1
