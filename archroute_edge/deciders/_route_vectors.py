"""The vectors of route tables: computed once, and kept in memory and on disk."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.deciders._encoder_scale import EncoderScale, Hubness, route_nearness
from archroute_edge.deciders._encoder_text import TEXT_FORMAT, route_text
from archroute_edge.decoding import SavedStates
from archroute_edge.engine import Cancellation, EmbeddingEngine, EncodedText, Vectors, batches
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.routes import RouteTable

logger = logging.getLogger(__name__)

_MOST_TABLES: Final = 256
_MOST_BEGUN: Final = 64
# How often in a row others may interrupt an evaluation, which is lost; after that they wait for it.
_MOST_INTERRUPTIONS: Final = 8


@dataclass(frozen=True)
class TableVectors:
    """One row for each route of a table, in its order; what is subtracted from its cosines; whether it is a catch-all; how near
    the routes stand to one another; the tokens of all texts."""

    vectors: Vectors
    hubness: npt.NDArray[np.float64]
    catches_all: npt.NDArray[np.bool_]
    nearness: float
    n_tokens: int


@dataclass
class _Begun:
    """A table whose evaluation was stopped: the tokens of its texts, and the vectors of the first ones."""

    encoded: list[EncodedText] = field(default_factory=list)
    parts: list[Vectors] = field(default_factory=list)
    n_interruptions: int = 0


class RouteVectors:
    """The vectors of route tables: computed once, kept in memory, and on disk beside the saved prefixes. From any thread.

    Args:
        engine: computes those that are not known.
        hubness: what is subtracted from their cosines; None subtracts nothing.
        scale: tells which of them are catch-alls.
        saved: keeps them for the next process; None keeps none.
    """

    def __init__(
        self, engine: EmbeddingEngine, hubness: Hubness | None, scale: EncoderScale, saved: SavedStates | None
    ) -> None:
        self._engine = engine
        self._hubness = hubness
        self._scale = scale
        self._saved = saved
        # By digests: tables come with requests, and their texts can be far larger than their vectors.
        self._known: OrderedDict[bytes, TableVectors] = OrderedDict()
        self._begun: OrderedDict[bytes, _Begun] = OrderedDict()
        # Held while what is known changes, and while vectors are computed.
        self._changing, self._computing = threading.Lock(), threading.Lock()

    def is_known(self, table: RouteTable) -> bool:
        """Whether the vectors of ``table`` are in memory."""
        return _digest(table) in self._known

    def of(self, table: RouteTable, *, keep: bool, cancellation: Cancellation | None = None) -> tuple[TableVectors, int]:
        """The vectors of ``table``, and how many evaluations they took just now.

        ``keep`` says whether they are worth saving on disk.

        Raises:
            DecisionCancelledError: ``cancellation`` was set, or asked to give way; what is finished is kept for the next time.
            EngineError: llama.cpp failed.
        """
        digest, cancellation = _digest(table), cancellation or Cancellation()
        found, n_evaluations = self._find(digest), 0
        if found is None:
            with cancellation.holding(self._computing):
                # Another thread may have been after the same.
                found = self._find(digest)
                if found is None:
                    found, n_evaluations = self._make(digest, table, keep, cancellation)
        return found, n_evaluations

    def _find(self, digest: bytes) -> TableVectors | None:
        with self._changing:
            found = self._known.get(digest)
            if found is not None:
                self._known.move_to_end(digest)
            return found

    def _make(self, digest: bytes, table: RouteTable, keep: bool, cancellation: Cancellation) -> tuple[TableVectors, int]:
        begun = self._begun.setdefault(digest, _Begun())
        self._begun.move_to_end(digest)
        encoded, ordered, n_evaluations = self._compute(begun, table, cancellation)
        if keep and n_evaluations and self._saved is not None:
            self._saved.store(_key(encoded), ordered.astype("<f4").tobytes())
        vectors = np.empty_like(ordered)
        vectors[_rows_by_tokens(begun.encoded)] = ordered
        del self._begun[digest]
        off = np.zeros(len(vectors)) if self._hubness is None else self._hubness.of(vectors)
        n_tokens = sum(len(text.tokens) for text in encoded)
        found = TableVectors(vectors, off, self._catch_alls(table, vectors), route_nearness(vectors), n_tokens)
        with self._changing:
            self._known[digest] = found
            if len(self._known) > _MOST_TABLES:
                self._known.popitem(last=False)
        return found, n_evaluations

    def _catch_alls(self, table: RouteTable, vectors: Vectors) -> npt.NDArray[np.bool_]:
        """Which routes are catch-alls. Of those that read alike the first by name stands for all, whatever their order."""
        found = self._scale.catches_all(vectors)
        rows: list[int] = np.flatnonzero(found).tolist()
        seen: set[str] = set()
        for row in sorted(rows, key=lambda row: table.routes[row].name):
            route = table.routes[row]
            found[row] = route_text(route) not in seen
            seen.add(route_text(route))
            if found[row]:
                logger.info("route %r is a catch-all: it takes what fits no other route", route.name)
        return found

    def _compute(
        self, begun: _Begun, table: RouteTable, cancellation: Cancellation
    ) -> tuple[Sequence[EncodedText], Vectors, int]:
        """The texts and vectors of a table in the order of :func:`_rows_by_tokens`, and how many evaluations they took.

        Computed in slices between which others have a turn.
        """
        # One more table would take the place of one that others have begun, and none of them would ever be finished.
        may_give_way = len(self._begun) < _MOST_BEGUN
        if len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)

        def let_others(n_done: int) -> None:
            if n_done and may_give_way and cancellation.gives_way:
                raise DecisionCancelledError("others come first; what is finished is kept")

        for n_done, route in enumerate(table.routes[len(begun.encoded) :]):
            let_others(n_done)
            begun.encoded.append(self._engine.encode(route_text(route)))
        # Rounding depends on the texts of an evaluation. In one order, whatever the table's, it cannot turn a decision.
        ordered = [begun.encoded[row] for row in _rows_by_tokens(begun.encoded)]
        saved = None if begun.parts else self._load(ordered)
        if saved is not None:
            return ordered, saved, 0
        slices = list(batches(ordered))[len(begun.parts) :]
        for n_done, texts in enumerate(slices):
            let_others(n_done)
            begun.parts.append(self._evaluate(begun, texts, cancellation, may_give_way))
        return ordered, np.concatenate(begun.parts), len(slices)

    def _evaluate(self, begun: _Begun, texts: Sequence[EncodedText], cancellation: Cancellation, may_give_way: bool) -> Vectors:
        if not may_give_way or begun.n_interruptions >= _MOST_INTERRUPTIONS:
            begun.n_interruptions = 0
            return self._engine.embed(texts, cancellation)
        with cancellation.interruptible() as flag:
            try:
                return self._engine.embed(texts, flag)
            except DecisionCancelledError:
                begun.n_interruptions += 1
                raise

    def _load(self, encoded: Sequence[EncodedText]) -> Vectors | None:
        state = self._saved.load(_key(encoded)) if self._saved is not None else None
        if state is None:
            return None
        if len(state) != len(encoded) * self._engine.width * 4:
            logger.warning("saved route vectors have another size than this model's; they are computed again")
            return None
        return np.frombuffer(state, "<f4").astype(np.float32).reshape(len(encoded), self._engine.width)


def _rows_by_tokens(encoded: Sequence[EncodedText]) -> list[int]:
    """The indices of texts, sorted by their tokens: the same order of texts for every order of the routes."""
    return sorted(range(len(encoded)), key=lambda row: encoded[row].tokens)


def _digest(table: RouteTable) -> bytes:
    """The names and descriptions of a table's routes in brief: its vectors depend on nothing else of it."""
    found = hashlib.blake2b(digest_size=32)
    for route in table:
        for text in (route.name.encode(), route.description.encode()):
            found.update(len(text).to_bytes(8, "little"))
            found.update(text)
    return found.digest()


def _key(encoded: Sequence[EncodedText]) -> list[int]:
    """What a table's vectors depend on beside the engine: the version of the texts, and the tokens of each."""
    return [TEXT_FORMAT, *(number for text in encoded for number in (len(text.tokens), *text.tokens))]
