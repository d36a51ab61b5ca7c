"""What the KV cache and the decoders need of a model's context: small enough to fake in forty lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BatchToken:
    """A token to evaluate: where it stands, in which sequences, and whether its logits are wanted."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wants_logits: bool = False


class Engine(Protocol):
    """A context. Sequences are numbered from 0; their cells are the keys and values of their first tokens."""

    @property
    def n_ctx(self) -> int:
        """Cells in the KV cache, over all sequences."""

    @property
    def n_sequences(self) -> int:
        """How many sequences there may be at once."""

    def evaluate(self, batch: Sequence[BatchToken]) -> Logits:
        """Evaluate ``batch`` and return the logits that it asks for, shape (number asked for, vocabulary size)."""

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target``, which has no cells there, share the cells of ``source`` at positions ``start`` to ``end``."""

    def truncate(self, sequence: int, length: int) -> None:
        """Drop all cells of ``sequence`` but the first ``length``."""

    def save(self, sequence: int) -> bytes:
        """The state of ``sequence``, to be given to :meth:`load` later."""

    def load(self, sequence: int, state: bytes) -> None:
        """Put a saved state into ``sequence``, which must be empty."""


def sequence_batch(sequence: int, tokens: Sequence[int], start: int, logits_at: Iterable[int] = ()) -> list[BatchToken]:
    """``tokens`` as a batch of one ``sequence`` from position ``start``, with logits at those indices of ``tokens``."""
    wanted = set(logits_at)
    return [BatchToken(token, start + index, (sequence,), index in wanted) for index, token in enumerate(tokens)]
