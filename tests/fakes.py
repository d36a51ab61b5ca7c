"""An engine small enough to read: a token a byte, logits that are a function of the tokens before, and a KV cache of cells.

It checks what callers must not do (positions with gaps, copies into used sequences) and counts what they evaluate.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import partial

import numpy as np

from archroute_edge.conversation import Turn
from archroute_edge.deciders import Decider, UnfinishedError, Work
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.engine import BatchToken, Cancellation, Logits
from archroute_edge.errors import ContextOverflowError, DecisionCancelledError, EvaluationStoppedError
from archroute_edge.routes import RouteTable

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


class FakeDecider(Decider):
    """A decider without a model: the route of a conversation is its last text, and a gate decides how long anything takes.

    It notes what it does, and checks that nobody calls it twice at a time.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        """What was begun: ``decide``, ``warm`` or ``work``, and the text or the first route's name."""
        self.opened = threading.Event()
        self.opened.set()
        self.arrived = threading.Event()
        """Set when something waits at the closed gate."""
        self.is_stoppable = True
        self.gives_way = ""
        """A text whose decision leaves when others wait."""
        self.unready: set[str] = set()
        """First routes of tables that need work first."""
        self.apart: threading.Event | None = None
        """Set when such work, which then runs apart, is done."""
        self.is_for_these_alone = False
        """Whether such work ends with the questions that wait for it."""
        self.n_stopped = 0
        """Such work that was stopped."""
        self.error: BaseException | None = None
        self.answer_at_once: Verdict | None = None
        self.is_closed = False
        self._used = threading.Lock()

    def close_gate(self) -> None:
        self.arrived.clear()
        self.opened.clear()

    def wait_for_arrival(self) -> None:
        assert self.arrived.wait(30)
        self.arrived.clear()

    def _pass(self, kind: str, what: str, flag: Cancellation | None) -> None:
        assert self._used.acquire(blocking=False), "one caller at a time"
        try:
            assert not self.is_closed
            self.log.append((kind, what))
            while not self.opened.wait(0.001):
                self.arrived.set()
                if flag is not None and self.is_stoppable:
                    flag.check()
                    if what == self.gives_way and flag.gives_way:
                        raise DecisionCancelledError("others come first")
            if flag is not None and self.is_stoppable:
                flag.check()
            if self.error is not None:
                raise self.error
        finally:
            self._used.release()

    def decide_many(
        self,
        table: RouteTable,
        conversations: Sequence[Sequence[Turn]],
        *,
        scores: bool = False,
        keep: bool = True,
        cancellation: Cancellation | None = None,
    ) -> list[Verdict]:
        name = table.names[0]
        if name in self.unready and cancellation is not None and cancellation.has_deadline:
            apart = self.apart is not None
            work = partial(self._get_ready, name)
            raise UnfinishedError(Work(name, work, table, is_apart=apart, is_for_these_alone=self.is_for_these_alone))
        texts = [turns[-1].content for turns in conversations]
        self._pass("decide", " ".join(texts), cancellation)
        return [verdict_of(text) for text in texts]

    def _get_ready(self, name: str, flag: Cancellation) -> None:
        if self.apart is None:
            self._pass("work", name, flag)
        else:
            self.log.append(("work", name))
            while not self.apart.wait(0.01):
                if flag.cancelled and self.is_stoppable:
                    self.n_stopped += 1
                    flag.check()
        self.unready.discard(name)

    def warm(
        self, table: RouteTable, turns: Sequence[Turn] | None, *, keep: bool = True, cancellation: Cancellation | None = None
    ) -> Warmup:
        self._pass("warm", turns[-1].content if turns else table.names[0], cancellation)
        return Warmup(1, 1, 0.0)

    def stand_in(
        self, _table: RouteTable, _turns: Sequence[Turn], *, scores: bool = False, time_limit: float | None = None
    ) -> Verdict | None:
        return self.answer_at_once

    def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = True


def verdict_of(text: str) -> Verdict:
    """What the fake decides."""
    return Verdict(text, 1.0, None, TokenCounts(1, 0, 1, 0, 1), Timings(0.0, 0.0, 0.0, 0.0, 0.0), 0, 0, "fake", None)
