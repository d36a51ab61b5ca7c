"""Which token sequences the KV cache holds, and what of them a new prompt can reuse.

Reuse is by longest common prefix over token ids. A pinned sequence holds each route table's static prefix; a working
sequence shares its cells (copying them costs nothing), holds one conversation, and is kept for its next turn until it
is the least recently used one and its place is needed. What the last decision had no use for is parked in ordinary
memory, since every cell in use costs every decision a little time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from archroute_edge.decoding._kept_sequences import KeptSequences
from archroute_edge.decoding._working_sequence import CachedSequence, WorkingSequence
from archroute_edge.engine import BatchToken, Engine, Logits, sequence_batch
from archroute_edge.errors import ContextOverflowError, DecisionCancelledError, EngineError, EvaluationStoppedError
from archroute_edge.prompts import StaticParts, common_prefix_length

logger = logging.getLogger(__name__)

MAX_PINNED = 12
"""Route tables whose static prefix is kept."""

MAX_CONVERSATIONS = 16
"""Conversations that are kept for their next turn."""

MAX_PARKED_BYTES = 256 << 20
"""Memory for what is parked; 200 tokens of the 1.5B shape are 5.5 MiB."""

# The last token or two of a conversation change when a turn follows ("}] becomes "}, {"), so it is known again
# although they differ.
_BORDER_TOKENS = 2


class PrefixStore(Protocol):
    """Where static prefixes survive the process (:class:`archroute_edge.decoding.SavedPrefixes`)."""

    def load(self, tokens: Sequence[int]) -> bytes | None:
        """The state saved for ``tokens``, if there is one that can be trusted."""

    def store(self, tokens: Sequence[int], state: bytes) -> None:
        """Save ``state`` for ``tokens``."""


class PrefixCache:
    """The sequences of one engine. Not thread-safe: one caller at a time.

    Args:
        engine: whose KV cache this is the bookkeeping of; nobody else may touch it.
        store: where static prefixes are saved and looked for, or None.
        max_pinned: route tables kept.
        max_conversations: conversations kept.
        max_parked_bytes: memory for what is parked.
    """

    def __init__(
        self,
        engine: Engine,
        store: PrefixStore | None = None,
        *,
        max_pinned: int = MAX_PINNED,
        max_conversations: int = MAX_CONVERSATIONS,
        max_parked_bytes: int = MAX_PARKED_BYTES,
    ) -> None:
        self.engine = engine
        self._store = store
        self._kept = KeptSequences(engine, max_pinned, max_conversations, max_parked_bytes)
        self.scratch_numbers = self._kept.scratch_numbers
        self._clock = 0

    @property
    def n_evictions(self) -> int:
        """How often a sequence was forgotten to make room for another."""
        return self._kept.n_evictions

    @property
    def n_parkings(self) -> int:
        """How often a sequence was moved out of the KV cache."""
        return self._kept.parking.n_parkings

    def pin(self, prefix: Sequence[int], *, keep: bool = True) -> int:
        """Hold the static ``prefix`` from now on; returns how many tokens had to be evaluated for it.

        Raises:
            ContextOverflowError: it does not fit into the context.
            EvaluationStoppedError: it was cancelled; what of it was finished is kept for the next time.
        """
        self._clock += 1
        try:
            pinned, n_new = self._pin(tuple(prefix), keep)
            self._kept.park_others(pinned)
        finally:
            self._kept.in_use = set()
        return n_new

    def is_pinned(self, prefix: tuple[int, ...]) -> bool:
        """Whether the whole of ``prefix`` is held at present."""
        pinned = self._kept.pinned.get(prefix)
        return pinned is not None and len(pinned.tokens) == len(prefix)

    @contextmanager
    def working(
        self, prompt: Sequence[int], static: StaticParts, *, keep: bool = True
    ) -> Iterator[tuple[WorkingSequence, int]]:
        """A sequence that holds a beginning of ``prompt``, and how many tokens had been evaluated before.

        At least the last token of the prompt is left to evaluate: logits come from nothing else. When the block ends,
        the sequence is kept for the conversation's next turn; when it raises, the sequence is given up, unless it was
        stopped: then what is finished of the prompt is kept.

        Args:
            prompt: the whole prompt.
            static: its static parts.
            keep: whether the static prefix is worth saving for the next process.

        Raises:
            ContextOverflowError: the static prefix does not fit into the context.
            EvaluationStoppedError: it was cancelled while the static prefix was evaluated.
        """
        self._clock += 1
        pinned, n_new = self._pin(static.prefix, keep)
        self._kept.in_use = {pinned}
        cached, n_shared = self._begin(prompt, pinned, len(prompt) - static.n_closing)
        self._kept.in_use.add(cached)
        work = WorkingSequence(self, cached)
        # What this decision had to evaluate of the static prefix counts as evaluated, not as reused.
        work.n_evaluated += n_new
        work.n_evaluations += n_new > 0
        try:
            yield work, max(0, n_shared - n_new)
            work.truncate(len(prompt))
            self._kept.drop_closings(cached)
            self._kept.park_others(pinned, cached)
        except DecisionCancelledError:
            work.truncate(len(prompt))
            # The next try is told by it to take over this sequence.
            cached.n_conversation = min(cached.n_conversation, len(cached.tokens))
            raise
        except BaseException:
            self._kept.give_up(cached)
            raise
        finally:
            self._kept.in_use = set()

    def _pin(self, prefix: tuple[int, ...], keep: bool) -> tuple[CachedSequence, int]:
        """The pinned sequence of ``prefix``, and how many tokens of it were evaluated just now."""
        pinned = self._kept.pinned.get(prefix)
        if pinned is not None:
            self._kept.in_use = {pinned}
            if not self._kept.unpark(pinned):
                self._kept.unpin(pinned)
                pinned = None
        if pinned is None:
            if len(self._kept.pinned) == self._kept.max_pinned:
                self._kept.forget(min(self._kept.pinned.values(), key=lambda each: each.last_used))
            pinned = self._kept.new()
            self._kept.in_use = {pinned}
        pinned.last_used = self._clock
        n_before = len(pinned.tokens)
        try:
            if n_before == 0 and self._load(pinned.number, prefix):
                pinned.tokens, pinned.kept, n_before = list(prefix), True, len(prefix)
            if n_before < len(prefix):
                # On its own, even where the whole prompt could be one evaluation: a prompt is then always cut at the
                # same place, whether its prefix is cached or not, and rounding cannot tell the two apart.
                self.evaluate(sequence_batch(pinned.number, prefix[n_before:], n_before), {pinned.number: n_before})
                pinned.tokens = list(prefix)
        except BaseException as exc:
            if isinstance(exc, EvaluationStoppedError):
                # Whole pieces, so that going on from there cuts where it would have been cut.
                pinned.tokens = list(prefix[: n_before + exc.n_finished])
            if pinned.tokens:
                self._kept.pinned[prefix] = pinned
            else:
                self._kept.parking.give_back(pinned.number)
            raise
        self._kept.pinned[prefix] = pinned
        self._keep(pinned, keep)
        return pinned, len(prefix) - n_before

    def _load(self, number: int, prefix: tuple[int, ...]) -> bool:
        state = self._store.load(prefix) if self._store is not None else None
        return state is not None and self._kept.made_room_for(lambda: self.engine.load(number, state))

    def _keep(self, pinned: CachedSequence, keep: bool) -> None:
        """Save a pinned prefix that is worth keeping, once."""
        if self._store is None or pinned.kept or not keep:
            return
        pinned.kept = True
        try:
            state = self.engine.save(pinned.number)
        except EngineError as exc:
            logger.warning("%s; the prefix is not saved", exc)
        else:
            self._store.store(pinned.tokens, state)

    def _begin(self, prompt: Sequence[int], pinned: CachedSequence, n_conversation: int) -> tuple[CachedSequence, int]:
        """A sequence holding as much of ``prompt`` as any other does, and how many tokens that is."""
        source, n_shared = self._longest(prompt, pinned)
        continues = source is not pinned and n_shared >= source.n_conversation - _BORDER_TOKENS
        full = len(self._kept.conversations) >= self._kept.max_conversations
        # Where the only place is the source's own, it is taken over as if the conversation went on.
        if continues or (full and not self._kept.evict_conversation()):
            cached = source
            self.engine.truncate(cached.number, n_shared)
            del cached.tokens[n_shared:]
        else:
            cached = CachedSequence(self._kept.parking.take_number(), list(prompt[:n_shared]), prefix=pinned)
            self._kept.conversations.append(cached)
            self.engine.copy(source.number, cached.number, 0, n_shared)
            if source is not pinned:
                # Its cells that matter here are shared now; it may be evicted like any other.
                self._kept.in_use.discard(source)
        cached.last_used = self._clock
        cached.n_conversation = n_conversation
        shared = 0 if cached.prefix is None else common_prefix_length(cached.prefix.tokens, prompt)
        cached.n_prefix = min(shared, n_shared)
        return cached, n_shared

    def _longest(self, prompt: Sequence[int], pinned: CachedSequence) -> tuple[CachedSequence, int]:
        """What shares the most of ``prompt``, in the KV cache and in use from now on, and how many tokens of it."""
        while True:
            candidates = [pinned, *self._kept.conversations]
            lengths = [min(common_prefix_length(each.tokens, prompt), len(prompt) - 1) for each in candidates]

            def rank(
                index: int, candidates: list[CachedSequence] = candidates, lengths: list[int] = lengths
            ) -> tuple[int, ...]:
                return lengths[index], candidates[index].parked is None, candidates[index].last_used

            best = max(range(len(candidates)), key=rank)
            source = candidates[best]
            # A conversation's prefix is another one where a table's prefix begins another table's. It must stay while the
            # conversation comes back.
            needed = {source} if source.prefix is None else {source, source.prefix}
            self._kept.in_use |= needed
            if source is pinned or ((source.prefix is None or self._kept.unpark(source.prefix)) and self._kept.unpark(source)):
                self._kept.in_use -= needed - {pinned, source}
                return source, lengths[best]
            self._kept.in_use -= needed - {pinned}
            self._kept.give_up(source)

    def evaluate(self, batch: Sequence[BatchToken], lengths: dict[int, int]) -> Logits:
        """Evaluate ``batch``, evicting what is least recently used until it fits.

        Args:
            batch: tokens for sequences that are in use.
            lengths: for each of those sequences the tokens it held before, to return to on failure.

        Raises:
            ContextOverflowError: it does not fit although everything else was evicted.
            EvaluationStoppedError: it was cancelled. A sequence that has the batch for itself then holds what was finished.
        """
        while True:
            try:
                return self.engine.evaluate(batch)
            except BaseException as exc:
                n_finished = exc.n_finished if isinstance(exc, EvaluationStoppedError) and len(lengths) == 1 else 0
                for number, length in lengths.items():
                    self.engine.truncate(number, length + n_finished)
                if not isinstance(exc, ContextOverflowError):
                    raise
                if not self._kept.free_cells():
                    raise
                logger.debug("parked the least recently used sequence to make room")
