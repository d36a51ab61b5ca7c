"""What a service has asked of a scheduler, and how much of it may wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from archroute_edge.decision import Verdict
from archroute_edge.errors import QueueFullError, ServiceClosedError
from archroute_edge.routing._questions import Asked, Question, WarmUp
from archroute_edge.system import OwnProcess, program_ends

MOST_WAITING_BYTES: Final = 32 << 20
"""Text that may wait in one service."""
# Share of the newest decision in the mean that QueueFullError.retry_after goes by, and what it is before there was any.
_NEWEST_SHARE: Final = 0.2
_FIRST_GUESS_S: Final = 1.0


class Account:
    """What one service has asked for: its counts, its bounds, and its end.

    Args:
        limit: questions that may wait, and warm-ups.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: Counter[str] = Counter()
        self.questions: dict[Question, None] = {}
        """Those without an answer, oldest first."""
        self.warms: dict[WarmUp, None] = {}
        self.is_closed = False
        self.mean_s: float | None = None
        self.process = OwnProcess()
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)

    def count(self, verdicts: Sequence[Verdict | None]) -> None:
        """Note that these are answered; None stands for a fallback at the deadline."""
        with self.lock:
            self.counts["decided"] += len(verdicts)
            self.counts["deadlines"] += sum(each is None or each.reason == "deadline" for each in verdicts)

    def note_time(self, took_s: float) -> None:
        """Note how long a decision took, for :attr:`QueueFullError.retry_after`."""
        self.mean_s = took_s if self.mean_s is None else _NEWEST_SHARE * took_s + (1 - _NEWEST_SHARE) * self.mean_s

    def check_open(self) -> None:
        """Go on only if questions are taken.

        Raises:
            ServiceClosedError: closed, or another process's.
        """
        # Before any lock is taken: the thread that held it has stayed in the other process.
        self.process.check("service")
        if self.is_closed:
            raise ServiceClosedError("the service has been closed")
        if program_ends():
            raise ServiceClosedError("the program ends; nothing more is decided")

    def admit(self, asked: Question | WarmUp) -> tuple[Sequence[Question | WarmUp], QueueFullError | None]:
        """Take ``asked`` in: what has to give way for it, and the error that says so to questions.

        Raises:
            ServiceClosedError: closed, or another process's.
            QueueFullError: too many questions wait already, or too much text, and no other caller has more of it.
        """
        self.check_open()
        with self.lock:
            if isinstance(asked, Question):
                return self._admit(asked)
            # Of one that runs, and evaluates what the newer one begins with, nothing is to be lost.
            gone = [w for w in self.warms if w.caller == asked.caller and not (w.is_running and w.serves(asked))]
            left = [each for each in self.warms if each.caller != asked.caller]
            while left and (len(left) >= self.limit or _n_bytes([*left, asked]) > MOST_WAITING_BYTES):
                gone.append(left.pop(0))
            self.warms[asked] = None
            return gone, None

    def _admit(self, question: Question) -> tuple[Sequence[Question], QueueFullError | None]:
        waiting = [each for each in self.questions if not each.is_running]
        gone: list[Question] = []
        full: QueueFullError | None = None
        while waiting and ((is_many := len(waiting) >= self.limit) or _n_bytes([*waiting, question]) > MOST_WAITING_BYTES):
            self.counts["refused"] += 1
            full = self._full(len(waiting))
            weights: Counter[Hashable] = Counter()
            for each in (question, *waiting):
                weights[each.caller] += 1 if is_many else each.n_bytes
            longest, weight = weights.most_common(1)[0]
            if weight <= weights[question.caller]:
                raise full
            gone.append([each for each in waiting if each.caller == longest][-1])
            waiting.remove(gone[-1])
        self.questions[question] = None
        return gone, full

    def _full(self, n_waiting: int) -> QueueFullError:
        retry_after = _FIRST_GUESS_S if self.mean_s is None else max(0.1, self.mean_s * n_waiting)
        return QueueFullError(f"{n_waiting} requests wait already; ask again in {retry_after:.1f} s", retry_after=retry_after)

    def forget(self, each: Asked) -> None:
        """Note that there is an answer, or that it is not wanted."""
        with self.lock:
            if isinstance(each, WarmUp):
                self.warms.pop(each, None)
            elif isinstance(each, Question):
                self.questions.pop(each, None)
                self.counts["cancelled"] += each.answer.cancelled()
            self._changed.notify_all()

    def close(self, *, drain: bool, timeout: float | None, fail: bool = True) -> None:
        """Take nothing more, call warm-ups off, and wait for questions; those without an answer in time get an error.

        Args:
            drain: whether to wait for them.
            timeout: seconds to wait; None is no bound.
            fail: whether those without an answer get an error.
        """
        with self.lock:
            self.is_closed = True
            warms = list(self.warms)
        for warm in warms:
            warm.answer.call_off()
        if drain:
            with self.lock:
                self._changed.wait_for(lambda: not self.questions or program_ends(), timeout)
        for question in list(self.questions) if fail else ():
            question.answer.fail(ServiceClosedError("the service was closed before the request was finished"))


def _n_bytes(asked: Iterable[Question | WarmUp]) -> int:
    return sum(each.n_bytes for each in asked)
