"""Verdicts on conversations that were decided at a pause, kept for the questions that ask just that."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from archroute_edge.deciders import Decider, stopped_for_others
from archroute_edge.decision import Timings, TokenCounts, Verdict, Warmup
from archroute_edge.engine import Cancellation
from archroute_edge.routing._questions import Question, WarmUp
from archroute_edge.system import ExpiringStore, program_ends

_MOST: Final = 64
_MOST_BYTES: Final = 4 << 20
# A route's name and its probability in a dictionary.
_BYTES_A_SCORE: Final = 200
# Another try may come to another answer.
_PASSING: Final = ("deadline", "unreachable")


class DecidedAhead:
    """Verdicts on conversations that warm-ups were to decide on, by digests: it holds no texts. Thread-safe.

    Args:
        decider: whose verdicts they are.
    """

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._verdicts: ExpiringStore[Verdict] = ExpiringStore(_MOST, decider.kept_s, _MOST_BYTES, _size)
        self._epoch = decider.epoch
        self._lock = threading.Lock()

    def warm_up(self, warm: WarmUp, stop: Cancellation) -> Warmup:
        """Carry out a warm-up. If it is of a whole conversation, keep the verdict.

        Raises:
            UnfinishedError, ArchRouteError: as :meth:`Decider.warm` and :meth:`Decider.decide_ahead`.
        """
        if not warm.whole:
            return self._decider.warm(warm.table, warm.turns, keep=warm.keep, cancellation=stop)
        started = time.monotonic()
        warm.begin(self._decider.epoch)
        verdict = self.find(warm)
        if verdict is None:
            if warm.resume is not None:
                with stopped_for_others(stop) as flag:
                    (verdict,) = warm.resume(flag)
            else:
                (turns,) = warm.conversations
                verdict = self._decider.decide_ahead(warm.table, turns, scores=warm.scores, keep=warm.keep, cancellation=stop)
            self.keep(warm, verdict)
        return Warmup(verdict.tokens.prompt, verdict.tokens.evaluated, 1000 * (time.monotonic() - started))

    def answer(self, question: Question) -> bool:
        """Answer ``question`` with the verdict on just that; whether there is one."""
        if question.cancellation is not None and question.cancellation.cancelled:
            return False
        verdict = self.find(question)
        if verdict is None or program_ends():
            return False
        question.waited_s = time.monotonic() - question.started
        question.answer.give(partial(question.result, [verdict]))
        return True

    def keep_if_expected(self, question: Question, warms: Iterable[WarmUp]) -> None:
        """Keep the verdict on the conversation of ``question`` if one of ``warms`` is to decide on just that: it need not."""
        is_single = len(question.conversations) == 1 and not question.tables
        if is_single and any(each.whole and each.is_about(question) for each in warms):
            self.keep(question, question.verdicts[0])

    def keep(self, asked: Question | WarmUp, verdict: Verdict) -> None:
        """Keep the verdict on the single conversation of ``asked``, unless the decider has another epoch since it began."""
        if verdict.reason not in _PASSING:
            # What it took was taken before the question.
            tokens = TokenCounts(verdict.tokens.prompt, verdict.tokens.prompt, 0, 0, 0)
            kept = replace(verdict, tokens=tokens, timings=Timings(0.0, 0.0, 0.0, 0.0, 0.0))
            key = _key(asked)
            with self._lock:
                self._drop_outdated()
                if asked.epoch == self._epoch:
                    self._verdicts.put(key, kept)

    def find(self, asked: Question | WarmUp) -> Verdict | None:
        """The kept verdict on the single conversation of ``asked``; None if there is none, or none with the scores it wants."""
        if not len(self._verdicts) or len(asked.conversations) != 1 or asked.tables:
            return None
        # Before the lock is taken: reading a large table and a long text takes a while.
        key = _key(asked)
        with self._lock:
            self._drop_outdated()
            found = self._verdicts.find(key)
        if found is None or (asked.scores and found.scores is None):
            return None
        return found if asked.scores else replace(found, scores=None)

    def _drop_outdated(self) -> None:
        """Forget the verdicts of what may have been another model."""
        epoch = self._decider.epoch
        if epoch != self._epoch:
            for key, _ in self._verdicts:
                self._verdicts.forget(key)
            self._epoch = epoch


def _key(asked: Question | WarmUp) -> str:
    # repr quotes every text, so that different ones never look alike.
    text = repr((asked.table.routes, [tuple(turns) for turns in asked.conversations]))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _size(key: str, verdict: Verdict) -> int:
    vector = 0 if verdict.vector is None else int(verdict.vector.nbytes)
    return len(key) + vector + _BYTES_A_SCORE * len(verdict.scores or ())
