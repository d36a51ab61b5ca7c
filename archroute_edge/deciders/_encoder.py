"""Deciding with a sentence encoder: the route whose text lies nearest to the conversation's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from archroute_edge.conversation import Turn
from archroute_edge.deciders._background import BackgroundWork
from archroute_edge.deciders._encoder_scale import EncoderScale, read_encoder_scale
from archroute_edge.deciders._encoder_text import conversation_text, conversation_window
from archroute_edge.deciders._evaluation_lock import EvaluationLock
from archroute_edge.deciders._hubness import read_hubness
from archroute_edge.deciders._route_vectors import RouteVectors, TableVectors
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.decoding import SavedStates
from archroute_edge.engine import N_TEXTS, Cancellation, EmbeddingEngine, LoadedModel, Vectors, physical_cores
from archroute_edge.errors import DecisionCancelledError, EngineError
from archroute_edge.routes import OTHER, RouteTable

TRAINED_TOKENS: Final = 256
"""Tokens of a text that are read. Encoders are trained on no longer ones, and time grows faster than length."""


class EncoderDecider:
    """One loaded encoder and the vectors of its route tables. Thread-safe: evaluations wait for each other.

    Args:
        model: a loaded encoder; closed with the decider.
        name: what decisions say of who decided.
        table: a route table whose vectors are got ready at once.
        n_threads: threads for evaluation; the physical cores by default.
        vectors_folder: where route vectors are saved; None saves none.

    Raises:
        ModelFileError: the numbers that scale its cosines cannot be used.
        EngineError: llama.cpp failed.
    """

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
        self.scaling: EncoderScale = read_encoder_scale(model.header)
        hubness = read_hubness(model.header)
        self._engine = EmbeddingEngine(model, n_threads or physical_cores(), TRAINED_TOKENS)
        saved = SavedStates(vectors_folder, self._engine.state_key()) if vectors_folder else None
        self._routes = RouteVectors(self._engine, hubness, saved)
        self._lock = EvaluationLock()
        self._background = BackgroundWork()
        self._closed = False
        try:
            self.warm(table, None)
        except BaseException:
            self.close()
            raise

    def decide(
        self,
        table: RouteTable,
        turns: Sequence[Turn],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Verdict:
        """As :class:`archroute_edge.deciders.Decider` says."""
        return self.decide_many(table, [turns], scores=scores, keep=keep, cancellation=cancellation)[0]

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        """As :class:`archroute_edge.deciders.Decider` says; short conversations share an evaluation."""
        cancellation = cancellation or Cancellation()
        if cancellation.has_deadline and not self._routes.is_known(table):
            self._background.finish(table, lambda closing: self._prepare(table, keep, closing), cancellation)
        verdicts: list[Verdict] = []
        # Other threads can decide in between.
        for first in range(0, len(conversations), N_TEXTS):
            verdicts += self._decide(table, conversations[first : first + N_TEXTS], scores, keep, cancellation)
        return verdicts

    def _decide(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        scores: bool,
        keep: bool,
        cancellation: Cancellation,
    ) -> list[Verdict]:
        started = time.perf_counter()
        windows = [conversation_window(turns) for turns in conversations]
        encoded = [self._engine.encode(conversation_text(turns)) for turns in conversations]
        written = time.perf_counter()
        with self._deciding(table, cancellation):
            locked = time.perf_counter()
            routes, n_route_evaluations = self._routes.of(table, keep=keep, cancellation=cancellation)
            vectors = self._engine.embed(encoded, cancellation)
        evaluated = time.perf_counter()
        probabilities = self._probabilities(vectors, routes)
        best = probabilities.argmax(axis=1)
        names = (*table.names, OTHER)
        ended = time.perf_counter()
        # What was done for all of them together is shared out, so that sums over a batch are right.
        spans = (ended - started, locked - written, written - started, evaluated - locked, ended - evaluated)
        timings = Timings(*(1000 * seconds / len(encoded) for seconds in spans))
        n_evaluations = self._engine.n_evaluations(encoded)
        verdicts = []
        for number, (text, window) in enumerate(zip(encoded, windows, strict=True)):
            computed_routes = number == 0 and n_route_evaluations > 0
            n_prompt = len(text.tokens) + routes.n_tokens
            n_reused = 0 if computed_routes else routes.n_tokens
            # A batch's evaluations are counted where they begin.
            n_own = (n_evaluations if number == 0 else 0) + (n_route_evaluations if computed_routes else 0)
            row = probabilities[number]
            verdicts.append(
                Verdict(
                    route=names[best[number]],
                    confidence=float(row[best[number]]),
                    scores=dict(zip(names, row.tolist(), strict=True)) if scores else None,
                    tokens=TokenCounts(n_prompt, n_reused, n_prompt - n_reused, 0, n_own),
                    timings=timings,
                    dropped_turns=window.dropped,
                    # The one text is what is cut, whichever turn of it that falls on.
                    cut_turns=max(window.cut, int(text.cut)),
                    decided_by=self.name,
                    prompt_format=None,
                )
            )
        return verdicts

    def _probabilities(self, vectors: Vectors, routes: TableVectors) -> npt.NDArray[np.float64]:
        """(conversations, routes and ``other``), rows that sum to 1."""
        cosines = vectors.astype(np.float64) @ routes.vectors.astype(np.float64).T - routes.hubness
        other = np.full((len(vectors), 1), self.scaling.other_cosine)
        logits = self.scaling.scale * np.concatenate([cosines, other], axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return shares

    @property
    def batch_size(self) -> int:
        """As many as share an evaluation where they are short."""
        return N_TEXTS

    def stand_in(
        self, table: RouteTable, turns: Sequence[Turn], *, scores: bool = False, cancellation: Cancellation | None = None
    ) -> None:
        """None: there is no quicker way to an answer."""

    def check_table(self, table: RouteTable) -> None:
        """Nothing to do: an encoder takes any table."""

    def warm(self, table: RouteTable, turns: Sequence[Turn] | None, *, cancellation: Cancellation | None = None) -> Warmup:
        """Get the vectors of ``table`` ready; of a conversation nothing can be worked out before it is whole."""
        started = time.perf_counter()
        routes, n_evaluations = self._get_ready(table, True, cancellation or Cancellation())
        return Warmup(routes.n_tokens, routes.n_tokens if n_evaluations else 0, 1000 * (time.perf_counter() - started))

    def _get_ready(self, table: RouteTable, keep: bool, cancellation: Cancellation) -> tuple[TableVectors, int]:
        with self._deciding(table, cancellation):
            return self._routes.of(table, keep=keep, cancellation=cancellation)

    def _prepare(self, table: RouteTable, keep: bool, closing: Cancellation) -> None:
        """Get the vectors of ``table`` ready when nothing else is to be done."""
        while True:
            with self._lock.spare_time(closing) as flag:
                self._check_open()
                try:
                    self._routes.of(table, keep=keep, cancellation=flag)
                except DecisionCancelledError:
                    # A decision on another table came between; what is finished is kept.
                    closing.check()
                else:
                    return

    @contextmanager
    def _deciding(self, table: RouteTable, cancellation: Cancellation) -> Iterator[None]:
        """Have the context alone."""
        # What is being evaluated for this very table would only be lost.
        with self._lock.decision(cancellation, stop_others=not self._background.is_at(table)):
            self._check_open()
            yield

    @property
    def n_ctx(self) -> int:
        """0: an encoder has no KV cache."""
        return 0

    @property
    def n_evictions(self) -> int:
        """0: nothing has to give way."""
        return 0

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the router has been closed")

    def close(self) -> None:
        """Free context and model. Further calls raise EngineError."""
        self._background.close()
        with self._lock.closing():
            self._closed = True
            self._engine.close()
            self.model.close()
