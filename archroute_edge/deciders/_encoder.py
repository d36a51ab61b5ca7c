"""Deciding with a sentence encoder: the route whose text lies nearest to the conversation's."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.conversation import TrimmedConversation, Turn
from archroute_edge.deciders._decider import Decider, UnfinishedError, Work
from archroute_edge.deciders._encoder_scale import read_encoder_scale, read_hubness
from archroute_edge.deciders._encoder_text import conversation_window, route_text, window_text
from archroute_edge.deciders._route_vectors import RouteVectors, TableVectors
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.decoding import SavedStates
from archroute_edge.engine import (
    N_TEXTS,
    Cancellation,
    EmbeddingEngine,
    EncodedText,
    LoadedModel,
    Vectors,
    inner_products,
    physical_cores,
)
from archroute_edge.errors import DecisionCancelledError
from archroute_edge.routes import OTHER, RouteTable

logger = logging.getLogger(__name__)

TRAINED_TOKENS: Final = 256
"""Tokens of a text that are read. Encoders are trained on no longer ones, and time grows faster than length."""
_ROUNDING: Final = 0.01
"""The probabilities of two routes with one text differ by less: an evaluation rounds each of its texts in another way."""


class EncoderDecider(Decider):
    """One loaded encoder and the vectors of its route tables. Its conversations share evaluations.

    Args:
        model: a loaded encoder; closed with the decider.
        name: stands in decisions as :attr:`Verdict.decided_by`.
        table: a route table whose vectors are got ready at once.
        n_threads: threads for evaluation; the physical cores by default.
        vectors_folder: where route vectors are saved; None saves none.

    Raises:
        ModelFileError: the numbers that scale its cosines cannot be used.
        EngineError: llama.cpp failed.
    """

    batch_size = list_size = N_TEXTS

    def __init__(
        self,
        model: LoadedModel,
        name: str,
        table: RouteTable,
        *,
        n_threads: int | None = None,
        vectors_folder: Path | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.scaling = read_encoder_scale(model.header)
        self._hubness = read_hubness(model.header)
        self._engine = EmbeddingEngine(model, n_threads or physical_cores(), TRAINED_TOKENS)
        try:
            saved = SavedStates(vectors_folder, self._engine.state_key()) if vectors_folder else None
            self._routes = RouteVectors(self._engine, self._hubness, self.scaling, saved)
            self.warm(table, None)
        except BaseException:
            self.close()
            raise

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :meth:`Decider.decide_many` says; short conversations share an evaluation."""
        cancellation = cancellation or Cancellation()
        self._check_known(table, keep, cancellation)
        started = time.perf_counter()
        windows = [conversation_window(turns) for turns in conversations]
        encoded = [self._engine.encode(window_text(window)) for window in windows]
        written = time.perf_counter()
        routes, n_route_evaluations = self._routes.of(table, keep=keep, cancellation=cancellation)
        vectors = self._engine.embed(encoded, cancellation)
        evaluated = time.perf_counter()
        probabilities = self._probabilities(vectors, routes)
        ended = time.perf_counter()
        # What was done for all of them together is shared out, so that sums over a batch are right.
        spans = (ended - started, 0.0, written - started, evaluated - written, ended - evaluated)
        timings = Timings(*(1000 * seconds / len(encoded) for seconds in spans))
        n_evaluations = self._engine.n_evaluations(encoded)
        verdicts = []
        for number, (text, window) in enumerate(zip(encoded, windows, strict=True)):
            computed_routes = number == 0 and n_route_evaluations > 0
            n_prompt = len(text.tokens) + routes.n_tokens
            n_reused = 0 if computed_routes else routes.n_tokens
            # A batch's evaluations are counted where they begin.
            n_own = (n_evaluations if number == 0 else 0) + (n_route_evaluations if computed_routes else 0)
            tokens = TokenCounts(n_prompt, n_reused, n_prompt - n_reused, 0, n_own)
            vector = vectors[number]
            verdicts.append(self._verdict(table, probabilities[number], scores, tokens, timings, text, window, vector))
        return verdicts

    def decide_by_tables(
        self,
        tables: Sequence[RouteTable],
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :meth:`Decider.decide_by_tables` says, by all of them: the conversation's vector is the same for each."""
        cancellation = cancellation or Cancellation()
        for table in tables:
            self._check_known(table, keep, cancellation)
        started = time.perf_counter()
        window = conversation_window(turns)
        text = self._engine.encode(window_text(window))
        written = time.perf_counter()
        known: list[tuple[TableVectors, int]] = []
        for table in tables:
            if known and known[-1][1] and cancellation.gives_way:
                raise DecisionCancelledError("others come first; the vectors of the tables are kept")
            known.append(self._routes.of(table, keep=keep, cancellation=cancellation))
        vectors = self._engine.embed([text], cancellation)
        evaluated = time.perf_counter()
        rows = [self._probabilities(vectors, routes)[0] for routes, _ in known]
        ended = time.perf_counter()
        spans = (ended - started, 0.0, written - started, evaluated - written, ended - evaluated)
        timings = Timings(*(1000 * seconds / len(tables) for seconds in spans))
        verdicts = []
        for number, (table, row, (routes, n_evaluations)) in enumerate(zip(tables, rows, known, strict=True)):
            n_text = len(text.tokens)
            n_new = (n_text if number == 0 else 0) + (routes.n_tokens if n_evaluations else 0)
            n_prompt = n_text + routes.n_tokens
            tokens = TokenCounts(n_prompt, n_prompt - n_new, n_new, 0, n_evaluations + (number == 0))
            verdicts.append(self._verdict(table, row, scores, tokens, timings, text, window, vectors[0]))
        return verdicts

    def _check_known(self, table: RouteTable, keep: bool, cancellation: Cancellation) -> None:
        """Leave a table's vectors for later, if a decision on it has a deadline."""
        if cancellation.has_deadline and not self._routes.is_known(table):
            raise UnfinishedError(Work(table, lambda flag: self._routes.of(table, keep=keep, cancellation=flag), table))

    def _verdict(
        self,
        table: RouteTable,
        row: npt.NDArray[np.float64],
        scores: bool,
        tokens: TokenCounts,
        timings: Timings,
        text: EncodedText,
        window: TrimmedConversation,
        vector: Vectors,
    ) -> Verdict:
        """What the probabilities of a table's routes and of ``other`` come to."""
        names, best = (*table.names, OTHER), _best(table, row)
        return Verdict(
            route=names[best],
            confidence=float(row[best]),
            scores=dict(zip(names, row.tolist(), strict=True)) if scores else None,
            tokens=tokens,
            timings=timings,
            dropped_turns=window.dropped,
            # The one text is what is cut, whichever turn of it that falls on.
            cut_turns=max(window.cut, int(text.cut)),
            decided_by=self.name,
            prompt_format=None,
            engine=self.model.engine,
            vector=vector,
        )

    def _probabilities(self, vectors: Vectors, routes: TableVectors) -> npt.NDArray[np.float64]:
        """(conversations, routes and ``other``), rows that sum to 1."""
        cosines = inner_products(vectors.astype(np.float64), routes.vectors.astype(np.float64)) - routes.hubness
        # What nothing is made of need not be computed.
        known = self._hubness.plain(vectors) if self._hubness is not None and self.scaling.other_known else 0.0
        other = self.scaling.other(vectors, len(routes.vectors), routes.nearness, known)
        logits = np.column_stack([self.scaling.scale * cosines, other])
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        if routes.catches_all.any():
            # To one of them, lest a second one make both less likely than a route with a subject.
            taker = np.where(routes.catches_all, shares[:, :-1], -1.0).argmax(axis=1)
            shares[np.arange(len(shares)), taker] += shares[:, -1]
            shares[:, -1] = 0.0
        return shares

    def warm(
        self, table: RouteTable, _turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        """Get the vectors of ``table`` ready. Nothing of a conversation can be worked out before it is whole."""
        started = time.perf_counter()
        routes, n_evaluations = self._routes.of(table, keep=keep, cancellation=cancellation)
        return Warmup(routes.n_tokens, routes.n_tokens if n_evaluations else 0, 1000 * (time.perf_counter() - started))

    def close(self) -> None:
        """Free context and model."""
        self._engine.close()
        self.model.close()


def _best(table: RouteTable, row: npt.NDArray[np.float64]) -> int:
    """The index of the most probable answer. The name decides between routes that read alike, never their order."""
    best = int(row.argmax())
    near: list[int] = np.flatnonzero(row[: len(table)] >= row[best] - _ROUNDING).tolist()
    if best == len(table) or len(near) == 1:
        return best
    text = route_text(table.routes[best])
    return min((each for each in near if route_text(table.routes[each]) == text), key=lambda each: table.routes[each].name)
