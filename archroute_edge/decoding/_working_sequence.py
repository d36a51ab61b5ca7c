"""The sequence that a decision works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from archroute_edge.engine import BatchToken, Engine, Logits, sequence_batch
from archroute_edge.errors import EvaluationStoppedError


class SequenceEvaluator(Protocol):
    """What a working sequence needs of the cache that it belongs to (:class:`archroute_edge.decoding.PrefixCache`)."""

    engine: Engine
    scratch_numbers: tuple[int, ...]

    def evaluate(self, batch: Sequence[BatchToken], lengths: dict[int, int]) -> Logits:
        """Evaluate ``batch``, making room for it; ``lengths`` is what to return to on failure."""


@dataclass(eq=False)
class CachedSequence:
    """Tokens whose keys and values are at hand: in a sequence of the engine, or parked in ordinary memory."""

    number: int
    """Of the engine's sequence; while parked it has none, and this is not to be read."""
    tokens: list[int] = field(default_factory=list)
    last_used: int = 0
    kept: bool = False
    """Whether a pinned prefix is on disk, or has been tried to be put there."""
    prefix: CachedSequence | None = None
    """The pinned prefix that a conversation begins with; None of a pinned prefix itself."""
    n_prefix: int = 0
    """Tokens of a conversation whose cells it shares with its prefix, and which are not parked with it."""
    n_conversation: int = 0
    """Tokens up to the end of the conversation; what follows is the same for every prompt, and first to be dropped."""
    parked: bytes | None = None
    """The state of the tokens behind the shared ones while they are parked."""

    @property
    def n_own(self) -> int:
        """Tokens that share no cells with a prefix."""
        return len(self.tokens) - self.n_prefix


class WorkingSequence:
    """The sequence a decision works on. ``extend`` makes room by evicting others; counts say what was evaluated."""

    def __init__(self, cache: SequenceEvaluator, cached: CachedSequence) -> None:
        self._cache = cache
        self._cached = cached
        self.n_evaluated = 0
        self.n_evaluations = 0

    @property
    def n_tokens(self) -> int:
        """Tokens whose keys and values the sequence holds."""
        return len(self._cached.tokens)

    def extend(self, tokens: Sequence[int], logits_at: Iterable[int] = ()) -> Logits:
        """Evaluate ``tokens`` after what is there; logits for those indices of ``tokens``, (indices, vocabulary).

        Raises:
            ContextOverflowError: they do not fit even with everything else evicted.
            EvaluationStoppedError: it was cancelled. The sequence then holds those of ``tokens`` that were finished.
            EngineError: llama.cpp failed. The sequence is then as it was before.
        """
        batch = sequence_batch(self._cached.number, tokens, self.n_tokens, logits_at)
        try:
            logits = self._cache.evaluate(batch, {self._cached.number: self.n_tokens})
        except EvaluationStoppedError as exc:
            self._cached.tokens.extend(tokens[: exc.n_finished])
            raise
        self._cached.tokens.extend(tokens)
        self._count(batch)
        return logits

    def truncate(self, length: int) -> None:
        """Drop all but the first ``length`` tokens."""
        if length < self.n_tokens:
            self._cache.engine.truncate(self._cached.number, length)
            del self._cached.tokens[length:]

    def evaluate_branches(self, length: int, n_branches: int, build: Callable[[Sequence[int]], Sequence[BatchToken]]) -> Logits:
        """Evaluate continuations of the first ``length`` tokens side by side, and forget them again.

        Args:
            length: how many tokens the continuations share with this sequence.
            n_branches: how many continuations, at most :attr:`most_branches`.
            build: from the numbers of as many scratch sequences, the batch to evaluate.
        """
        scratch = self._cache.scratch_numbers[:n_branches]
        engine = self._cache.engine
        try:
            for number in scratch:
                engine.copy(self._cached.number, number, 0, length)
            batch = build(scratch)
            logits = self._cache.evaluate(batch, dict.fromkeys(scratch, length))
        finally:
            for number in scratch:
                engine.truncate(number, 0)
        self._count(batch)
        return logits

    @property
    def most_branches(self) -> int:
        """How many continuations can be evaluated side by side."""
        return len(self._cache.scratch_numbers)

    def _count(self, batch: Sequence[BatchToken]) -> None:
        self.n_evaluated += len(batch)
        self.n_evaluations += 1
