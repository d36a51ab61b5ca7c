"""The KV cache of one engine: which token sequences are resident in it, and what of them a new prompt reuses.

Reuse is by longest common prefix over token ids. A resident *prefix* holds what all prompts for a route table begin with. A
decision works on a *conversation*: a sequence that shares the prefix's cells (copying them costs nothing) and is kept for the
next turn. When there are too many of either, the least recently used one is evicted.

llama.cpp looks at every cell up to the last one in use, whosever it is. So sequences for which the last decision had no use
are parked in ordinary memory until they are needed (docs/performance.md has the figures). Of a conversation only the part that
it does not share with its prefix moves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from archroute_edge.decoding._saved_states import SavedStates
from archroute_edge.engine import BatchToken, Engine, Logits, sequence_batch
from archroute_edge.errors import ContextOverflowError, DecisionCancelledError, EngineError, EvaluationStoppedError
from archroute_edge.prompts import StaticParts, common_prefix_length

logger = logging.getLogger(__name__)

MAX_PREFIXES = 12
"""Route tables whose static prefix is kept."""

MAX_CONVERSATIONS = 16
"""Conversations that are kept for their next turn."""

MAX_PARKED_BYTES = 256 << 20
"""Memory for parked sequences; 200 tokens of the 1.5B shape are 5.5 MiB."""

MAX_OTHER_CELLS = 256
"""Cells that other tables and conversations may have behind a decision; beyond that they are parked."""

# The last token or two of a conversation change when a turn follows ("}] becomes "}, {"), so it is known again
# although they differ.
_BORDER_TOKENS = 2


@dataclass(eq=False)
class _Sequence:
    """Tokens whose keys and values are resident in a sequence of the engine, or parked."""

    number: int
    """Of the engine's sequence; not to be read while parked."""
    tokens: list[int] = field(default_factory=list)
    last_used: int = 0
    n_conversation: int = 0
    """Tokens up to the end of the conversation; what follows is the same for every prompt, and first to be dropped."""
    is_saved: bool = False
    """Whether a prefix is on disk, or was tried to be put there."""
    prefix: _Sequence | None = None
    """The prefix that a conversation begins with."""
    n_prefix: int = 0
    """Tokens of a conversation whose cells it shares with its prefix."""
    parked: bytes | None = None
    """The state of the tokens behind the shared ones while they are parked."""

    @property
    def n_own(self) -> int:
        """Tokens that share no cells with a prefix."""
        return len(self.tokens) - self.n_prefix


class KVCache:
    """The sequences of one engine. Not thread-safe: one caller at a time, but for :meth:`is_resident`.

    Args:
        engine: its KV cache must be used by no one else.
        saved: where static prefixes are saved and looked for, or None.
        max_prefixes: most route tables.
        max_conversations: most conversations.
        max_parked_bytes: most memory for parked sequences.
    """

    def __init__(
        self,
        engine: Engine,
        saved: SavedStates | None = None,
        *,
        max_prefixes: int = MAX_PREFIXES,
        max_conversations: int = MAX_CONVERSATIONS,
        max_parked_bytes: int = MAX_PARKED_BYTES,
    ) -> None:
        self.engine = engine
        self.n_evictions = 0
        """How often a sequence gave way to another."""
        self._saved = saved
        self._max_prefixes, self._max_conversations = max_prefixes, max_conversations
        self._max_parked_bytes = max_parked_bytes
        self._prefixes: dict[tuple[int, ...], _Sequence] = {}
        self._conversations: list[_Sequence] = []
        self._in_use: set[_Sequence] = set()
        """What stays resident, whatever needs room."""
        n_kept = max_prefixes + max_conversations
        self._free = list(reversed(range(n_kept)))
        # Empty between calls; parking has one of its own, since it makes room for evaluations with cells in the others.
        self._parking_number = n_kept
        self.scratch_numbers = range(n_kept + 1, engine.n_sequences)
        self._clock = 0

    def is_resident(self, prefix: tuple[int, ...]) -> bool:
        """Whether the whole of ``prefix`` is resident at present."""
        found = self._prefixes.get(prefix)
        return found is not None and len(found.tokens) == len(prefix)

    def make_resident(self, prefix: Sequence[int], *, keep: bool = True) -> int:
        """Hold the static ``prefix`` from now on; returns how many tokens had to be evaluated for it.

        Raises:
            ContextOverflowError: it does not fit into the context.
            EvaluationStoppedError: it was cancelled; what was finished stays for the next time.
        """
        self._clock += 1
        try:
            sequence, n_evaluated = self._prefix(tuple(prefix), keep)
            self._park_others(sequence)
            return n_evaluated
        finally:
            self._in_use.clear()

    @contextmanager
    def working(
        self, prompt: Sequence[int], static: StaticParts, *, keep: bool = True
    ) -> Iterator[tuple[WorkingSequence, int]]:
        """A sequence that holds a beginning of ``prompt``, and how many tokens had been evaluated before.

        At least the last token of the prompt is left to evaluate: logits come from nothing else. When the block ends,
        the sequence stays for the conversation's next turn. When it raises, the sequence is dropped, unless the decision
        was cancelled: then what is finished of the prompt stays.

        ``keep`` says whether the static prefix is worth saving for the next process.

        Raises:
            ContextOverflowError: the static prefix does not fit into the context.
            EvaluationStoppedError: it was cancelled while the static prefix was evaluated.
        """
        self._clock += 1
        try:
            prefix, n_new = self._prefix(static.prefix, keep)
            current, n_shared = self._begin(prompt, prefix, len(prompt) - static.n_closing)
            work = WorkingSequence(self, current)
            # What this decision had to evaluate of the static prefix counts as evaluated, not as reused.
            work.n_evaluated += n_new
            work.n_evaluations += n_new > 0
            try:
                yield work, max(0, n_shared - n_new)
                work.truncate(len(prompt))
            except DecisionCancelledError:
                work.truncate(len(prompt))
                # The next try is told by it to take over this sequence.
                current.n_conversation = min(current.n_conversation, len(current.tokens))
                raise
            except BaseException:
                self._drop(current)
                raise
            # No turn of another conversation will reuse its closing instructions.
            for each in self._conversations:
                if each is not current and each.parked is None:
                    self._cut(each, each.n_conversation)
            self._park_others(prefix, current)
        finally:
            self._in_use.clear()

    def evaluate(self, batch: Sequence[BatchToken], lengths: dict[int, int]) -> Logits:
        """Evaluate ``batch``, parking what is least recently used until it fits.

        Args:
            batch: tokens for sequences that are in use.
            lengths: for each of those sequences the tokens it held before, to return to on failure.

        Raises:
            ContextOverflowError: it does not fit although everything else was parked.
            EvaluationStoppedError: it was cancelled. A sequence that has the batch for itself then holds what was finished.
        """
        while True:
            try:
                return self.engine.evaluate(batch)
            except BaseException as exc:
                n_finished = exc.n_finished if isinstance(exc, EvaluationStoppedError) and len(lengths) == 1 else 0
                for number, length in lengths.items():
                    self.engine.truncate(number, length + n_finished)
                if not isinstance(exc, ContextOverflowError) or not self._free_cells():
                    raise

    def _prefix(self, prefix: tuple[int, ...], keep: bool) -> tuple[_Sequence, int]:
        """The resident sequence of ``prefix``, in use from now on, and how many tokens of it were evaluated just now."""
        sequence = self._prefixes.get(prefix)
        if sequence is not None and not self._unpark(sequence, set()):
            self._drop(sequence)
            sequence = None
        if sequence is None:
            if len(self._prefixes) == self._max_prefixes:
                self._evict(self._prefixes.values())
            sequence = self._prefixes[prefix] = _Sequence(self._free.pop())
        self._in_use = {sequence}
        sequence.last_used = self._clock
        n_before = len(sequence.tokens)
        try:
            state = self._saved.load(prefix) if self._saved is not None and n_before == 0 else None
            if state is not None and self._load(sequence.number, state):
                sequence.tokens, sequence.is_saved, n_before = list(prefix), True, len(prefix)
            if n_before < len(prefix):
                # On its own, even if the whole prompt could be one evaluation: a prompt is then always cut at the
                # same place, whether its prefix is resident or not, and rounding cannot tell the two apart.
                self.evaluate(sequence_batch(sequence.number, prefix[n_before:], n_before), {sequence.number: n_before})
                sequence.tokens = list(prefix)
        except BaseException as exc:
            if isinstance(exc, EvaluationStoppedError):
                # Whole pieces, so that going on from there cuts where it would have been cut.
                sequence.tokens = list(prefix[: n_before + exc.n_finished])
            if not sequence.tokens:
                self._drop(sequence)
            raise
        if self._saved is not None and keep and not sequence.is_saved:
            sequence.is_saved = True
            try:
                self._saved.store(prefix, self.engine.save(sequence.number))
            except EngineError as exc:
                logger.warning("%s; the prefix is not saved", exc)
        return sequence, len(prefix) - n_before

    def _load(self, number: int, state: bytes) -> bool:
        """Whether ``state`` was loaded into the empty sequence ``number``, with as many cells freed as it needed."""
        while True:
            try:
                self.engine.load(number, state)
            except EngineError as exc:
                # Too few cells are one reason; llama.cpp does not say.
                if not self._free_cells():
                    logger.warning("%s; the tokens are evaluated again", exc)
                    return False
            else:
                return True

    def _begin(self, prompt: Sequence[int], prefix: _Sequence, n_conversation: int) -> tuple[_Sequence, int]:
        """A conversation with as much of ``prompt`` as any sequence has, in use, and how many tokens that is."""

        def shared(sequence: _Sequence) -> int:
            return min(common_prefix_length(sequence.tokens, prompt), len(prompt) - 1)

        while True:
            candidates = (prefix, *self._conversations)
            source = max(candidates, key=lambda each: (shared(each), each.parked is None, each.last_used))
            if self._unpark(source, {prefix}):
                break
            self._drop(source)
        n_shared = shared(source)
        self._in_use = {prefix, source}
        continues = source is not prefix and n_shared >= source.n_conversation - _BORDER_TOKENS
        full = len(self._conversations) == self._max_conversations
        # If the only place is the source's own, it is taken over as if the conversation went on.
        if continues or (full and not self._evict(self._conversations)):
            current = source
            self._cut(current, n_shared)
        else:
            current = _Sequence(self._free.pop(), list(prompt[:n_shared]), prefix=prefix)
            self._conversations.append(current)
            self.engine.copy(source.number, current.number, 0, n_shared)
        # A source whose cells are shared now may be parked like any other.
        self._in_use = {prefix, current}
        current.last_used, current.n_conversation = self._clock, n_conversation
        begins_with = [] if current.prefix is None else current.prefix.tokens
        current.n_prefix = min(common_prefix_length(begins_with, prompt), n_shared)
        return current, n_shared

    def _unpark(self, sequence: _Sequence, in_use: set[_Sequence]) -> bool:
        """Whether ``sequence`` is resident now; while it comes back, ``in_use`` and its prefix stay."""
        self._in_use = {*in_use, sequence} if sequence.prefix is None else {*in_use, sequence, sequence.prefix}
        if sequence.parked is None:
            return True
        if sequence.prefix is not None and not self._unpark(sequence.prefix, self._in_use):
            return False
        number = self._free.pop()
        if sequence.parked and not self._load(number, sequence.parked):
            self._free.append(number)
            return False
        if sequence.prefix is not None:
            self.engine.copy(sequence.prefix.number, number, 0, sequence.n_prefix)
        sequence.number, sequence.parked = number, None
        return True

    def _free_cells(self) -> bool:
        """Park what is least worth having in the KV cache, conversations first; False if all that is left is in use."""
        for kept in (self._conversations, self._prefixes.values()):
            idle = [each for each in kept if each.parked is None and each not in self._in_use]
            if idle:
                self._park(min(idle, key=lambda each: each.last_used))
                return True
        return False

    def _park_others(self, *current: _Sequence) -> None:
        """Park all but the ``current`` sequences once they have more than a few cells together."""
        others = [
            each for each in (*self._conversations, *self._prefixes.values()) if each.parked is None and each not in current
        ]
        if sum(each.n_own for each in others) > MAX_OTHER_CELLS:
            for each in others:
                self._park(each)

    def _park(self, sequence: _Sequence) -> None:
        """Move ``sequence`` out of the KV cache; evict it if it cannot be saved, and others if too much is parked."""
        try:
            self.engine.copy(sequence.number, self._parking_number, sequence.n_prefix, len(sequence.tokens))
            sequence.parked = self.engine.save(self._parking_number) if sequence.n_own else b""
        except EngineError as exc:
            logger.warning("%s; its tokens will be evaluated again", exc)
            self._evict([sequence])
            return
        finally:
            self.engine.truncate(self._parking_number, 0)
        self._release(sequence.number)
        kept = (*self._conversations, *self._prefixes.values())
        while sum(len(each.parked or b"") for each in kept) > self._max_parked_bytes:
            parked = [[each for each in some if each.parked] for some in (self._conversations, self._prefixes.values())]
            if not (self._evict(parked[0]) or self._evict(parked[1])):
                break
            kept = (*self._conversations, *self._prefixes.values())

    def _evict(self, among: Iterable[_Sequence]) -> bool:
        """Drop the least recently used of ``among``; False if all are in use."""
        idle = [each for each in among if each not in self._in_use]
        if idle:
            self._drop(min(idle, key=lambda each: each.last_used))
            self.n_evictions += 1
        return bool(idle)

    def _drop(self, sequence: _Sequence) -> None:
        """Forget ``sequence``. Resident conversations keep the cells that they share with it."""
        self._conversations = [each for each in self._conversations if each is not sequence]
        self._prefixes = {prefix: each for prefix, each in self._prefixes.items() if each is not sequence}
        for each in [each for each in self._conversations if each.prefix is sequence]:
            if each.parked is None:
                each.prefix, each.n_prefix = None, 0
            else:
                self._drop(each)
        if sequence.parked is None:
            self._release(sequence.number)

    def _release(self, number: int) -> None:
        self.engine.truncate(number, 0)
        self._free.append(number)

    def _cut(self, sequence: _Sequence, length: int) -> None:
        if length < len(sequence.tokens):
            self.engine.truncate(sequence.number, length)
            del sequence.tokens[length:]


class WorkingSequence:
    """The sequence that a decision works on. ``extend`` makes room by parking others; counts say what was evaluated."""

    def __init__(self, cache: KVCache, sequence: _Sequence) -> None:
        self._cache = cache
        self._sequence = sequence
        self.n_evaluated = 0
        self.n_evaluations = 0

    @property
    def n_tokens(self) -> int:
        """Tokens whose keys and values the sequence holds."""
        return len(self._sequence.tokens)

    @property
    def most_branches(self) -> int:
        """How many continuations can be evaluated side by side."""
        return len(self._cache.scratch_numbers)

    def extend(self, tokens: Sequence[int], logits_at: Iterable[int] = ()) -> Logits:
        """Evaluate ``tokens`` after what is there; logits for those indices of ``tokens``, (indices, vocabulary).

        Raises:
            ContextOverflowError: they do not fit even with everything else parked.
            EvaluationStoppedError: it was cancelled. The sequence then holds those of ``tokens`` that were finished.
            EngineError: llama.cpp failed. The sequence is then as it was before.
        """
        batch = sequence_batch(self._sequence.number, tokens, self.n_tokens, logits_at)
        try:
            logits = self._evaluate(batch, {self._sequence.number: self.n_tokens})
        except EvaluationStoppedError as exc:
            self._sequence.tokens.extend(tokens[: exc.n_finished])
            raise
        self._sequence.tokens.extend(tokens)
        return logits

    def truncate(self, length: int) -> None:
        """Drop all but the first ``length`` tokens."""
        self._cache._cut(self._sequence, length)

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
                engine.copy(self._sequence.number, number, 0, length)
            return self._evaluate(build(scratch), dict.fromkeys(scratch, length))
        finally:
            for number in scratch:
                engine.truncate(number, 0)

    def _evaluate(self, batch: Sequence[BatchToken], lengths: dict[int, int]) -> Logits:
        logits = self._cache.evaluate(batch, lengths)
        self.n_evaluated += len(batch)
        self.n_evaluations += 1
        return logits
