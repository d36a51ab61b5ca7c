"""A batch as the C API of llama.cpp, and of its forks, takes it: arrays, and a structure that points into them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from archroute_edge.engine._interface import BatchToken

Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BatchArrays:
    """The arrays of a batch.

    Args:
        tokens: token ids; like the next ones, shape (tokens,).
        positions: of each token in its sequences.
        counts: of each token's sequences.
        sequences: of all tokens, one token's after the other's.
        wanted: 1 where a token's output is wanted, else 0.
    """

    tokens: Integers
    positions: Integers
    counts: Integers
    sequences: Integers
    wanted: npt.NDArray[np.int8]
    _starts: npt.NDArray[np.uint64] = field(init=False)
    """Addresses of each token's first sequence."""

    def __post_init__(self) -> None:
        before = np.cumsum(self.counts) - self.counts
        starts = (self.sequences.ctypes.data + self.sequences.itemsize * before).astype(np.uint64)
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, piece: Sequence[BatchToken]) -> BatchArrays:
        """The arrays of some tokens."""
        return cls(
            np.array([entry.token for entry in piece], np.int32),
            np.array([entry.position for entry in piece], np.int32),
            np.array([len(entry.sequences) for entry in piece], np.int32),
            np.array([number for entry in piece for number in entry.sequences], np.int32),
            np.array([entry.wants_logits for entry in piece], np.int8),
        )

    def structure(self, make: Callable[..., Any]) -> Any:
        """A ``llama_batch``, made by a binding's class of that name. It is valid as long as these arrays live."""
        return make(
            n_tokens=len(self.tokens),
            token=_pointer(self.tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self.positions, ctypes.c_int32),
            n_seq_id=_pointer(self.counts, ctypes.c_int32),
            seq_id=_pointer(self._starts, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self.wanted, ctypes.c_int8),
        )


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
