"""Who evaluates what, and when: one thread owns a decider, and everybody else asks it through here.

Every call is one of three kinds, in this order: a *question* for decisions, *unfinished work* that questions wait for (a static
prefix, the vectors of a table, a model that is loaded), a *warm-up*. Callers of questions take turns. A question stops the work
or the warm-up that runs, unless it needs just that; what is finished of it is kept. Work goes on past the deadline of those who
waited for it. A second thread keeps deadlines while the owner is inside llama.cpp.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from archroute_edge.deciders import Decider, UnfinishedError, Work
from archroute_edge.decision import Verdict
from archroute_edge.engine import Cancellation
from archroute_edge.errors import DecisionCancelledError, EngineError, QueueFullError, ServiceClosedError
from archroute_edge.routing._questions import FairQueue, Question, WarmUp
from archroute_edge.system import OwnProcess, program_ends, stop_at_the_end

logger = logging.getLogger(__name__)

MOST_WAITING_BYTES: Final = 32 << 20
"""Text that may wait in one account."""
# Share of the newest decision in the mean that QueueFullError.retry_after goes by, and what it is before there was any.
_NEWEST_SHARE: Final = 0.2
_FIRST_GUESS_S: Final = 1.0
# How long after its deadline a question may still wait for an encoder's answer.
_STAND_IN_S: Final = 0.025
# How often in a row a question may stop work that nothing else waits for, and how often it may wait for work itself.
_MOST_INTERRUPTIONS: Final = 3
_MOST_WORKS: Final = 4


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
            gone = [each for each in self.warms if each.caller == asked.caller]
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

    def forget(self, each: Question | WarmUp) -> None:
        """Note that there is an answer, or that it is not wanted."""
        with self.lock:
            (self.questions if isinstance(each, Question) else self.warms).pop(each, None)  # type: ignore[arg-type]
            if isinstance(each, Question) and each.answer.cancelled():
                self.counts["cancelled"] += 1
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


@dataclass
class _Turn:
    """What the owner does now."""

    stop: Cancellation = field(default_factory=Cancellation)
    questions: list[Question] = field(default_factory=list)
    warm: WarmUp | None = None
    work: _Pending | None = None
    is_evaluating: bool = True

    def make_room(self, question: Question) -> None:
        """Let ``question`` have its turn soon."""
        if self.questions:
            self.stop.give_way()
        elif self.warm is not None:
            if not self.warm.serves(question):
                self.stop.cancel()
        elif self.work is not None and self.work.may_be_stopped_by(question):
            self.work.n_interruptions += 1
            self.stop.cancel()


@dataclass(eq=False)
class _Pending:
    """Unfinished work, and the questions that wait for it."""

    work: Work
    questions: list[Question] = field(default_factory=list)
    stop: Cancellation | None = None
    """Stops it, if it runs apart."""
    n_interruptions: int = 0

    def may_be_stopped_by(self, question: Question) -> bool:
        """Whether ``question`` can begin without it."""
        if self.work.table is None:
            return self.n_interruptions < _MOST_INTERRUPTIONS
        return self.work.table != question.table


def _n_bytes(asked: Iterable[Question | WarmUp]) -> int:
    return sum(each.n_bytes for each in asked)


class Scheduler:
    """The one place where it is decided what a decider does next. Thread-safe.

    It is shared by routers; with the last share that is given back it answers what waits, and closes the decider.

    Args:
        decider: taken over. Nothing else may call it, except what its methods allow from any thread.
    """

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.process = OwnProcess()
        self._lock = threading.RLock()
        self._owner_wakes = threading.Condition(self._lock)
        self._clock_wakes = threading.Condition(self._lock)
        self._stopped = threading.Condition(self._lock)
        self._questions: FairQueue[Question] = FairQueue()
        self._works: dict[Hashable, _Pending] = {}
        self._warms: FairQueue[WarmUp] = FairQueue()
        self._turn: _Turn | None = None
        self._deadlines: list[tuple[float, int, Question]] = []
        self._numbers = itertools.count()
        self._n_shares = 1
        self._error: BaseException | None = None
        self._threads: dict[str, threading.Thread] = {}
        self._is_standing_in = False
        self._has_ended = False
        stop_at_the_end(self)

    # Asking.

    def submit(self, asked: Question | WarmUp) -> None:
        """Let a question wait for its turn, for which what runs makes room; a warm-up waits until nothing else does.

        Raises:
            EngineError: closed, or another process's; a ServiceClosedError if that is the service's.
            QueueFullError: as :meth:`Account.admit`.
        """
        self._check_open(asked)
        account = asked.account
        gone, full = ([], None) if account is None else account.admit(asked)
        with self._lock:
            if isinstance(asked, WarmUp):
                self._warms.put(asked.lane, asked)
            else:
                self._questions.put(asked.lane, asked)
                if self._turn is not None:
                    self._turn.make_room(asked)
                if asked.deadline is not None:
                    self._remind(asked, asked.ends_in(early=True))
            self._wake_owner()
        asked.answer.add_done_callback(partial(_forget, self, asked))
        for each in gone:
            # Without the lock: those who wait for it are told in this thread.
            if full is not None:
                each.answer.fail(full)
            else:
                each.answer.cancel()

    def ask(self, question: Question) -> None:
        """As :meth:`submit`, but decide in the calling thread if nothing else is being done: waking another takes longer."""
        self._check_open(question)
        with self._lock:
            is_free = self._turn is None and not self._questions and question.deadline is None
            if is_free:
                turn = self._turn = _Turn(questions=[question])
                question.is_running = True
        if not is_free:
            self.submit(question)
            return
        question.answer.add_done_callback(partial(_forget, self, question))
        try:
            self._decide(turn)
        finally:
            with self._lock:
                self._turn = None
                self._stopped.notify_all()
                self._owner_wakes.notify()

    def _check_open(self, asked: Question | WarmUp) -> None:
        if asked.account is not None:
            asked.account.check_open()
        self.process.check("router")
        if program_ends():
            raise DecisionCancelledError("the program ends; nothing more is decided")
        if self._error is not None:
            raise ServiceClosedError(f"the router's thread ended on an error: {self._error!r}; make another router")
        if self._n_shares == 0:
            raise EngineError("the router has been closed")

    def _wake_owner(self) -> None:
        self._start("owner", self._own)
        self._owner_wakes.notify()

    def _start(self, name: str, run: Callable[[], None]) -> None:
        if name not in self._threads:
            # The interpreter would wait for other than daemon threads to end by themselves before it stops anything.
            thread = self._threads[name] = threading.Thread(target=run, name=f"archroute-{name}", daemon=True)
            thread.start()

    def _forget(self, asked: Question | WarmUp) -> None:
        """There is an answer, or it is not wanted any more: take it off its queue, or stop what is done for it alone."""
        with self._lock:
            turn = self._turn
            if isinstance(asked, WarmUp):
                self._warms.remove(asked.lane, asked)
                is_needless = turn is not None and turn.warm is asked
            else:
                self._questions.remove(asked.lane, asked)
                for pending in self._works.values():
                    pending.questions = [each for each in pending.questions if each is not asked]
                if asked.deadline is not None:
                    self._deadlines = [each for each in self._deadlines if each[2] is not asked]
                    heapq.heapify(self._deadlines)
                is_needless = turn is not None and asked in turn.questions and all(q.answer.done() for q in turn.questions)
            if turn is not None and is_needless:
                turn.stop.cancel()
            if self._n_shares == 0:
                self._owner_wakes.notify()

    # The owner.

    def _own(self) -> None:
        try:
            while (do := self._next()) is not None:
                do()
        except BaseException as exc:
            logger.exception("a router's thread ends on an error that was not foreseen")
            self._error = exc
        if program_ends():
            return
        with self._lock:
            left = self._left()
            apart = [each.stop for each in self._works.values() if each.stop is not None]
            threads = [thread for name, thread in self._threads.items() if name != "owner"]
            self._turn, self._has_ended = None, True
            self._clock_wakes.notify()
        for each in left:
            if isinstance(each, WarmUp):
                each.answer.call_off()
            else:
                each.answer.fail(ServiceClosedError(f"the router's thread ended on an error: {self._error!r}"))
        for stop in apart:
            stop.cancel()
        for thread in threads:
            thread.join()
        self.decider.close()

    def _next(self) -> Callable[[], None] | None:
        """What to do now; None if all is done and more will not come."""
        with self._lock:
            self._turn = None
            self._stopped.notify_all()
            while not program_ends():
                if self._turn is not None:
                    # A caller decides in a thread of its own.
                    self._owner_wakes.wait()
                    continue
                if (first := self._questions.take()) is not None:
                    self._turn = _Turn(questions=[first, *self._companions(first)])
                    for each in self._turn.questions:
                        each.is_running = True
                    if len(self._questions):
                        self._turn.stop.give_way()
                    return partial(self._decide, self._turn)
                is_closing = self._n_shares == 0
                pending = next((w for w in self._works.values() if w.stop is None and (w.questions or not is_closing)), None)
                if pending is not None:
                    self._turn = _Turn(work=pending)
                    return partial(self._finish_work, self._turn, pending)
                if is_closing and not any(each.questions for each in self._works.values()):
                    return None
                if not is_closing and (warm := self._warms.take()) is not None:
                    self._turn = _Turn(warm=warm)
                    return partial(self._warm, self._turn, warm)
                self._owner_wakes.wait()
        return None

    def _companions(self, first: Question) -> list[Question]:
        """Others that are decided in the same evaluation."""
        found: list[Question] = []

        def fits(question: Question) -> bool:
            together = sum(each.n_left for each in (first, *found, question))
            return question.goes_with(first) and question.resume is None and together <= self.decider.batch_size

        while first.resume is None and self.decider.batch_size > 1 and (other := self._questions.take(fits)) is not None:
            found.append(other)
        return found

    def _decide(self, turn: _Turn) -> None:
        batch, first, began = turn.questions, turn.questions[0], time.monotonic()
        for each in batch:
            each.waited_s = began - each.started if each.waited_s is None else each.waited_s
        # Of a long list no more than is decided at once: other callers have their turn in between.
        most = self.decider.list_size if first.account is None else self.decider.batch_size
        sizes = [min(each.n_left, most) for each in batch]
        turn.stop.has_deadline = len(batch) == 1 and first.deadline is not None and first.n_works < _MOST_WORKS
        try:
            with self._evaluating(turn, first.cancellation):
                turn.stop.check()
                verdicts = self._verdicts(batch, sizes, turn.stop)
        except UnfinishedError as exc:
            self._wait_for_work(first, exc)
        except DecisionCancelledError as exc:
            if program_ends():
                return
            if turn.stop.gives_way and not turn.stop.cancelled:
                for each in batch:
                    # All of it is waiting for the question's own answer, which begins anew.
                    each.waited_s = None
                self._put_back(batch)
            elif turn.stop.timed_out:
                first.answer.give(partial(_result, first, [None]))
            else:
                for each in batch:
                    each.answer.fail(exc)
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            if not program_ends():
                for each in batch:
                    each.answer.fail(exc)
        else:
            if not program_ends():
                self._hand_out(batch, sizes, verdicts, (time.monotonic() - began) / sum(sizes))

    @contextmanager
    def _evaluating(self, turn: _Turn, cancellation: Cancellation | None = None) -> Iterator[None]:
        """Evaluate in the block, which ``cancellation`` stops, too."""
        try:
            with nullcontext() if cancellation is None else cancellation.setting(turn.stop):
                yield
        finally:
            with self._lock:
                turn.is_evaluating = False
                self._stopped.notify_all()

    def _verdicts(self, batch: Sequence[Question], sizes: Sequence[int], stop: Cancellation) -> list[Verdict]:
        first = batch[0]
        if first.resume is not None:
            return first.resume(stop)
        conversations = [
            turns
            for each, size in zip(batch, sizes, strict=True)
            for turns in each.conversations[len(each.verdicts) : len(each.verdicts) + size]
        ]
        return self.decider.decide_many(first.table, conversations, scores=first.scores, keep=first.keep, cancellation=stop)

    def _hand_out(self, batch: Sequence[Question], sizes: Sequence[int], verdicts: list[Verdict], took_s: float) -> None:
        """Give each question of a turn its verdicts; one that has more conversations waits again."""
        for question, size in zip(batch, sizes, strict=True):
            question.verdicts += verdicts[:size]
            verdicts = verdicts[size:]
            question.resume = question.found = None
            if (account := question.account) is not None:
                mean = account.mean_s
                account.mean_s = took_s if mean is None else _NEWEST_SHARE * took_s + (1 - _NEWEST_SHARE) * mean
        # At once: a question that is called off, or whose service is closed, is found here or there.
        self._put_back([each for each in batch if each.n_left])
        for each in batch:
            if not each.n_left:
                each.answer.give(partial(_result, each, each.verdicts))

    def _put_back(self, questions: Sequence[Question]) -> None:
        with self._lock:
            for each in questions:
                each.is_running = False
                if not each.answer.done():
                    self._questions.put_back(each.lane, each)
            if questions:
                self._wake_owner()
            if self._turn is not None:
                self._turn.questions = [each for each in self._turn.questions if each not in questions]

    # Unfinished work, and warm-ups.

    def _wait_for_work(self, question: Question, unfinished: UnfinishedError) -> None:
        with self._lock:
            question.is_running = False
            question.n_works += 1
            question.found, question.resume = unfinished.found, unfinished.resume
            if question.resume is None:
                question.waited_s = None
            if question.answer.done():
                return
            self._wake_owner()
            if unfinished.work is None:
                self._questions.put_back(question.lane, question)
                return
            pending = self._works.setdefault(unfinished.work.key, _Pending(unfinished.work))
            pending.questions.append(question)
            if pending.work.is_apart and pending.stop is None:
                pending.stop = Cancellation()
                self._threads.pop("apart", None)
                self._start("apart", partial(self._work_on, pending, pending.stop))

    def _finish_work(self, turn: _Turn, pending: _Pending) -> None:
        with self._evaluating(turn):
            self._work_on(pending, turn.stop)

    def _work_on(self, pending: _Pending, stop: Cancellation) -> None:
        error: BaseException | None = None
        try:
            pending.work.run(stop)
        except DecisionCancelledError as exc:
            if not program_ends() and pending.stop is None:
                # A question on another table came between; what is finished is kept.
                return
            error = exc
        except BaseException as exc:  # noqa: BLE001 - it belongs to those who wait
            error = exc
        if program_ends():
            return
        with self._lock:
            self._works.pop(pending.work.key, None)
            questions = pending.questions
            for question in questions if error is None else ():
                self._questions.put_back(question.lane, question)
            self._owner_wakes.notify()
        for question in questions if error is not None else ():
            question.answer.fail(error)  # type: ignore[arg-type]

    def _warm(self, turn: _Turn, warm: WarmUp) -> None:
        try:
            with self._evaluating(turn, warm.cancellation):
                done = self.decider.warm(warm.table, warm.turns, cancellation=turn.stop)
        except DecisionCancelledError as exc:
            if program_ends():
                return
            with self._lock:
                was_told_to = warm.cancellation is not None and warm.cancellation.cancelled
                goes_on = not warm.answer.done() and not was_told_to and self._n_shares > 0
                if goes_on:
                    self._warms.put_back(warm.lane, warm)
            if warm.account is not None and goes_on:
                warm.account.counts["preempted"] += 1
            if was_told_to:
                warm.answer.fail(exc)
            elif not goes_on:
                warm.answer.call_off()
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            logger.debug("a warm-up failed: %s", exc)
            if not program_ends():
                warm.answer.fail(exc)
        else:
            if warm.account is not None:
                warm.account.counts["warmed"] += 1
            warm.answer.give(lambda: done)

    # Deadlines.

    def _remind(self, question: Question, seconds: float) -> None:
        heapq.heappush(self._deadlines, (time.monotonic() + seconds, next(self._numbers), question))
        self._start("deadlines", self._keep_deadlines)
        self._clock_wakes.notify()

    def _keep_deadlines(self) -> None:
        while True:
            with self._lock:
                while not self._has_ended and (not self._deadlines or self._deadlines[0][0] > time.monotonic()):
                    self._clock_wakes.wait(self._deadlines[0][0] - time.monotonic() if self._deadlines else None)
                if self._has_ended:
                    return
                question = heapq.heappop(self._deadlines)[2]
                is_early = question.is_running and question.ends_in() > 0
                if is_early:
                    # It may still answer by itself; a cascade knows more than is known here.
                    if self._turn is not None and self._turn.questions == [question]:
                        self._turn.stop.time_out()
                    self._remind(question, question.ends_in())
            if not is_early:
                self._answer_at_deadline(question)

    def _answer_at_deadline(self, question: Question) -> None:
        """Answer a question that still waits, or that the owner has not answered by itself."""

        def answer() -> object:
            found = question.found
            if found is None:
                left = question.ends_in() + _STAND_IN_S
                found = self.decider.stand_in(
                    question.table, question.conversations[0], scores=question.scores, time_limit=left
                )
            took = 0.0 if found is None else found.timings.total_ms / 1000
            question.waited_s = time.monotonic() - question.started - took
            return _result(question, [found])

        with self._lock:
            if program_ends():
                return
            self._is_standing_in = True
        try:
            question.answer.give(answer)
        finally:
            with self._lock:
                self._is_standing_in = False
                self._stopped.notify_all()

    # The end.

    def share(self) -> None:
        """Count one more that uses this.

        Raises:
            EngineError: closed, or another process's.
        """
        self.process.check("router")
        with self._lock:
            if self._n_shares == 0:
                raise EngineError("the router has been closed")
            self._n_shares += 1

    def release(self) -> None:
        """Give a share back. With the last one the threads end when all questions are answered, and the decider is closed.

        The garbage collector calls it anywhere: it waits for nothing. In a forked process there is nothing to close.
        """
        if self.process.is_this:
            with self._lock:
                self._n_shares -= 1
                if self._n_shares == 0:
                    if self._turn is not None and not self._turn.questions:
                        self._turn.stop.cancel()
                    for pending in self._works.values():
                        if pending.stop is not None and not pending.questions:
                            pending.stop.cancel()
                    self._owner_wakes.notify()

    def join(self) -> None:
        """Wait for the end of the threads, if no share is left; without threads, close the decider."""
        if not self.process.is_this or self._n_shares > 0 or self.is_own_thread:
            return
        with self._lock:
            self._stopped.wait_for(lambda: self._turn is None or "owner" in self._threads)
            is_left_open, self._has_ended = "owner" not in self._threads and not self._has_ended, "owner" not in self._threads
        if is_left_open:
            self.decider.close()
        for thread in list(self._threads.values()):
            thread.join()

    @property
    def is_own_thread(self) -> bool:
        """Whether the calling thread is one of the scheduler's, as in a callback of a future."""
        return threading.current_thread() in self._threads.values()

    @property
    def has_failed(self) -> bool:
        """Whether the owner ended on an error."""
        return self._error is not None

    def stop(self) -> None:
        """Stop what is evaluated: the program ends, and models are freed."""
        # In a forked process there is no thread that would stop.
        if self.process.is_this:
            with self._lock:
                left = self._left()
                if self._turn is not None:
                    self._turn.stop.cancel()
                for pending in self._works.values():
                    if pending.stop is not None:
                        pending.stop.cancel()
                self._owner_wakes.notify_all()
            # A thread that waits in a call of a router lets go of what it holds; those who hold futures are left alone.
            for each in left:
                if each.account is None:
                    each.answer.fail(DecisionCancelledError("the program ends; nothing more is decided"))

    def _left(self) -> list[Question | WarmUp]:
        """What has no answer yet."""
        running = () if self._turn is None else (*self._turn.questions, *filter(None, [self._turn.warm]))
        parked = (each for work in self._works.values() for each in work.questions)
        return [*running, *self._questions, *parked, *self._warms]

    def wait_for_stop(self) -> None:
        """Wait until nothing is evaluated."""
        if self.process.is_this:
            apart = self._threads.get("apart")
            with self._lock:
                self._stopped.wait_for(
                    lambda: not self._is_standing_in and (self._turn is None or not self._turn.is_evaluating)
                )
            if apart is not None:
                apart.join()


def _result(question: Question, verdicts: Sequence[Verdict | None]) -> object:
    """What the future of ``question`` gets; counted before anybody sees it."""
    waited_ms = 1000 * (question.waited_s or 0.0)
    waited = [each and replace(each, timings=each.timings.after(waited_ms)) for each in verdicts]
    result = question.finish(waited, 1000 * (time.monotonic() - question.started), waited_ms)
    if question.account is not None:
        question.account.count(waited)
    return result


# A function, and no method: a future that is held somewhere holds no scheduler.
def _forget(scheduler: Scheduler, asked: Question | WarmUp, _future: object) -> None:
    if not scheduler.process.is_this:
        return
    if asked.answer.cancelled():
        asked.answer.acknowledge()
    scheduler._forget(asked)
    if asked.account is not None:
        asked.account.forget(asked)
