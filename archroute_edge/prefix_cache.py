"""Which token sequences the KV cache holds, and what of them a new prompt can reuse.

Reuse is by longest common prefix over token ids. A pinned sequence holds each route table's static prefix; a working
sequence shares its cells (copying them costs nothing), holds one conversation, and is kept for its next turn until it
is the least recently used one and its place is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from archroute_edge.engine.interface import BatchToken, Engine, Logits, sequence_batch
from archroute_edge.errors import ContextOverflowError, DecisionCancelledError, EngineError, EvaluationStoppedError
from archroute_edge.prompt import StaticParts, common_prefix_length
from archroute_edge.working_sequence import CachedSequence, WorkingSequence

logger = logging.getLogger(__name__)

MAX_PINNED = 12
"""Route tables whose static prefix is kept."""

MAX_CONVERSATIONS = 16
"""Conversations that are kept for their next turn."""

# The last token or two of a conversation change when a turn follows ("}] becomes "}, {"), so it is known again
# although they differ.
_BORDER_TOKENS = 2


class PrefixStore(Protocol):
    """Where static prefixes survive the process (:class:`archroute_edge.saved_prefixes.SavedPrefixes`)."""

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
    """

    def __init__(
        self,
        engine: Engine,
        store: PrefixStore | None = None,
        *,
        max_pinned: int = MAX_PINNED,
        max_conversations: int = MAX_CONVERSATIONS,
    ) -> None:
        self.engine = engine
        self._store = store
        self._max_pinned = max_pinned
        self._max_conversations = max_conversations
        self._pinned: dict[tuple[int, ...], CachedSequence] = {}
        self._conversations: list[CachedSequence] = []
        self._free = list(range(max_pinned + max_conversations))[::-1]
        self.scratch_numbers = tuple(range(max_pinned + max_conversations, engine.n_sequences))
        self._clock = 0
        self._in_use: set[int] = set()
        self.n_evictions = 0

    def pin(self, prefix: Sequence[int], *, keep: bool = True) -> int:
        """Hold the static ``prefix`` from now on; returns how many tokens had to be evaluated for it.

        Raises:
            ContextOverflowError: it does not fit into the context.
            EvaluationStoppedError: it was cancelled; what of it was finished is kept for the next time.
        """
        self._clock += 1
        try:
            return self._pin(tuple(prefix), keep)[1]
        finally:
            self._in_use = set()

    def is_pinned(self, prefix: tuple[int, ...]) -> bool:
        """Whether the whole of ``prefix`` is held at present."""
        pinned = self._pinned.get(prefix)
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
        self._in_use = {pinned.number}
        cached, n_shared = self._begin(prompt, len(prompt) - static.n_closing)
        self._in_use.add(cached.number)
        work = WorkingSequence(self, cached)
        # What this decision had to evaluate of the static prefix counts as evaluated, not as reused.
        work.n_evaluated += n_new
        work.n_evaluations += n_new > 0
        n_shared_before = max(0, n_shared - n_new)
        try:
            yield work, n_shared_before
            work.truncate(len(prompt))
            self._drop_closings(cached)
        except DecisionCancelledError:
            work.truncate(len(prompt))
            # The next try is told by it to take over this sequence.
            cached.n_conversation = min(cached.n_conversation, len(cached.tokens))
            raise
        except BaseException:
            self._give_up(cached)
            raise
        finally:
            self._in_use = set()

    def _pin(self, prefix: tuple[int, ...], keep: bool) -> tuple[CachedSequence, int]:
        """The pinned sequence of ``prefix``, and how many tokens of it were evaluated just now."""
        pinned = self._pinned.get(prefix)
        if pinned is None:
            if len(self._pinned) == self._max_pinned:
                self._unpin_oldest()
            pinned = CachedSequence(self._free.pop())
        pinned.last_used = self._clock
        n_before = len(pinned.tokens)
        try:
            self._in_use = {pinned.number}
            if n_before == 0 and self._load(pinned.number, prefix):
                pinned.kept = True
                pinned.tokens = list(prefix)
                n_before = len(prefix)
            if n_before < len(prefix):
                # On its own, even where the whole prompt could be one evaluation: a prompt is then always cut at the
                # same place, whether its prefix is cached or not, and rounding cannot tell the two apart.
                self.evaluate(sequence_batch(pinned.number, prefix[n_before:], n_before), {pinned.number: n_before})
                pinned.tokens = list(prefix)
        except BaseException as exc:
            if isinstance(exc, EvaluationStoppedError):
                # Whole pieces, so that going on from there cuts where it would have been cut.
                pinned.tokens = list(prefix[: n_before + exc.n_finished])
            self.engine.truncate(pinned.number, len(pinned.tokens))
            if pinned.tokens:
                self._pinned[prefix] = pinned
            else:
                self._free.append(pinned.number)
            raise
        self._pinned[prefix] = pinned
        self._keep(pinned, keep)
        return pinned, len(prefix) - n_before

    def _load(self, number: int, prefix: tuple[int, ...]) -> bool:
        state = self._store.load(prefix) if self._store is not None else None
        if state is None:
            return False
        while True:
            try:
                self.engine.load(number, state)
            except EngineError as exc:
                # A full cache is one reason; llama.cpp does not say.
                if not self._evict():
                    logger.warning("%s; the prefix is evaluated again", exc)
                    return False
            else:
                return True

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

    def _begin(self, prompt: Sequence[int], n_conversation: int) -> tuple[CachedSequence, int]:
        """A sequence holding as much of ``prompt`` as any other does, and how many tokens that is."""
        candidates = [*self._conversations, *self._pinned.values()]
        lengths = [min(common_prefix_length(each.tokens, prompt), len(prompt) - 1) for each in candidates]
        best = max(range(len(candidates)), key=lambda index: (lengths[index], candidates[index].last_used))
        source, n_shared = candidates[best], lengths[best]
        self._in_use.add(source.number)
        continues = source in self._conversations and n_shared >= source.n_conversation - _BORDER_TOKENS
        full = len(self._conversations) >= self._max_conversations
        # Where the only place is the source's own, it is taken over as if the conversation went on.
        if continues or (full and not self._evict_conversation()):
            cached = source
            self.engine.truncate(cached.number, n_shared)
            del cached.tokens[n_shared:]
        else:
            cached = CachedSequence(self._free.pop(), list(prompt[:n_shared]))
            self._conversations.append(cached)
            self.engine.copy(source.number, cached.number, n_shared)
            if source in self._conversations:
                # Its cells that matter here are shared now; it may be evicted like any other.
                self._in_use.discard(source.number)
        cached.last_used = self._clock
        cached.n_conversation = n_conversation
        return cached, n_shared

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
                if not self._evict():
                    raise
                logger.debug("evicted the least recently used sequence to make room")

    def _evict(self) -> bool:
        """Free the cells of whatever is least worth keeping; False where all that is left is in use."""
        return self._evict_conversation() or self._unpin_oldest()

    def _evict_conversation(self) -> bool:
        evictable = [each for each in self._conversations if each.number not in self._in_use]
        if not evictable:
            return False
        self._give_up(min(evictable, key=lambda each: each.last_used))
        self.n_evictions += 1
        return True

    def _give_up(self, cached: CachedSequence) -> None:
        self.engine.truncate(cached.number, 0)
        self._conversations.remove(cached)
        self._free.append(cached.number)

    def _unpin_oldest(self) -> bool:
        evictable = [key for key, each in self._pinned.items() if each.number not in self._in_use]
        if not evictable:
            return False
        oldest = self._pinned.pop(min(evictable, key=lambda key: self._pinned[key].last_used))
        self.engine.truncate(oldest.number, 0)
        self._free.append(oldest.number)
        self.n_evictions += 1
        return True

    def _drop_closings(self, current: CachedSequence) -> None:
        """Free the closing instructions of all conversations but ``current``: no turn of theirs will reuse them."""
        for each in self._conversations:
            if each is not current and len(each.tokens) > each.n_conversation:
                self.engine.truncate(each.number, each.n_conversation)
                del each.tokens[each.n_conversation :]
