"""Verdicts on conversations that were decided at a pause, kept for the questions that ask just that."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from typing import Final

from archroute_edge.decision import Timings, TokenCounts, Verdict
from archroute_edge.routing._questions import Question, WarmUp
from archroute_edge.system import ExpiringStore

_MOST: Final = 64
_MOST_BYTES: Final = 4 << 20
_KEPT_S: Final = 600.0
# A route's name and its probability in a dictionary.
_BYTES_A_SCORE: Final = 200
# Another try may come to another answer.
_PASSING: Final = ("deadline", "unreachable")


class DecidedAhead:
    """Verdicts of warm-ups on whole conversations, by digests: it holds no texts. Thread-safe."""

    def __init__(self) -> None:
        self._verdicts: ExpiringStore[Verdict] = ExpiringStore(_MOST, _KEPT_S, _MOST_BYTES, _size)
        self._lock = threading.Lock()

    def keep(self, warm: WarmUp, verdict: Verdict) -> None:
        """Keep the verdict on the conversation of ``warm``."""
        if verdict.reason not in _PASSING:
            # What it took was taken before the question.
            tokens = TokenCounts(verdict.tokens.prompt, verdict.tokens.prompt, 0, 0, 0)
            kept = replace(verdict, tokens=tokens, timings=Timings(0.0, 0.0, 0.0, 0.0, 0.0))
            key = _key(warm)
            with self._lock:
                self._verdicts.put(key, kept)

    def find(self, asked: Question | WarmUp) -> Verdict | None:
        """The verdict on the one conversation of ``asked``; None if there is none, or none with the scores that it wants."""
        if not len(self._verdicts) or len(asked.conversations) != 1 or asked.tables:
            return None
        # Before the lock is taken: reading a large table and a long text takes a while.
        key = _key(asked)
        with self._lock:
            found = self._verdicts.find(key)
        if found is None or (asked.scores and found.scores is None):
            return None
        return found if asked.scores else replace(found, scores=None)


def _key(asked: Question | WarmUp) -> str:
    # repr quotes every text, so that different ones never look alike.
    text = repr((asked.table.routes, [tuple(turns) for turns in asked.conversations]))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _size(key: str, verdict: Verdict) -> int:
    vector = 0 if verdict.vector is None else int(verdict.vector.nbytes)
    return len(key) + vector + _BYTES_A_SCORE * len(verdict.scores or ())
