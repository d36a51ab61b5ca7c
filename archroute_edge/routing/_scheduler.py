"""Who evaluates what, and when: one thread owns a decider, and all callers ask it through here.

Every call is one of three kinds, in this order: a *question* for decisions, *unfinished work* that questions wait for (a static
prefix, the vectors of a table, a model that is loaded), a *warm-up*. Callers of questions take turns. A question stops the work
or the warm-up that runs, unless it needs just that; what is finished of it is kept. Work goes on past the deadline of those who
waited for it. A second thread keeps deadlines while the owner is inside llama.cpp.

A warm-up of a whole conversation decides on it. Its verdict is kept for the question that asks just that, which is then
answered at once, whatever the owner does. If that question is decided before the warm-up is, its own verdict is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from archroute_edge.deciders import Decider, UnfinishedError
from archroute_edge.engine import Cancellation
from archroute_edge.errors import DecisionCancelledError, EngineError, RemoteError, ServiceClosedError
from archroute_edge.routing._decided_ahead import DecidedAhead
from archroute_edge.routing._doing import Doing, Pending, Works
from archroute_edge.routing._questions import Question, WarmUp, companions, decide, decide_at_deadline, share_out
from archroute_edge.routing._queues import AlarmClock, Evaluators, FairQueue, OwnThreads
from archroute_edge.system import OwnProcess, program_ends, stop_at_the_end

logger = logging.getLogger(__name__)

# How often a question may wait for work.
_MOST_WORKS: Final = 4


class Scheduler:
    """Chooses what a decider does next. Thread-safe.

    Routers share it. When the last one gives its share back, it answers what waits and closes the decider.

    Args:
        decider: taken over. Nothing else may call it, except what its methods allow from any thread.
    """

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.process = OwnProcess()
        self._lock = threading.RLock()
        self._owner_wakes = threading.Condition(self._lock)
        self._questions: FairQueue[Question] = FairQueue()
        self._works = Works()
        self._warms: FairQueue[WarmUp] = FairQueue()
        self._turn: Doing | None = None
        self._clock = AlarmClock()
        self._n_shares = 1
        self.error: BaseException | None = None
        """What the owner ended on, so that nothing more is decided."""
        self._threads = OwnThreads()
        self._evaluators = Evaluators(self._lock)
        self._ahead = DecidedAhead(decider)
        stop_at_the_end(self)

    def submit(self, asked: Question | WarmUp) -> None:
        """Let a question wait for its turn, for which what runs makes room; a warm-up waits until nothing else does.

        Raises:
            EngineError: closed, or another process's; a ServiceClosedError if that is the service's.
            QueueFullError: as :meth:`Account.admit`.
        """
        self._check_open(asked)
        # One that cannot be a key is refused before it is counted.
        hash(asked.lane)
        account = asked.account
        gone, full = ([], None) if account is None else account.admit(asked)
        is_known = isinstance(asked, Question) and self._ahead.find(asked) is not None
        # Of what could not be put into a queue, the caller has no future: it must not be waited for.
        with self._lock, asked.failing_with(partial(self._forget, asked)):
            # Again: the owner ends only while it holds the lock, and looks at nothing afterwards.
            self._check_open(asked)
            waiting = (*self._warms, *self._works.warms)
            outdated = [each for each in waiting if each.is_outdated_by(asked) and not each.is_about(asked)]
            if self._turn is not None:
                self._turn.note_newer(asked)
            if isinstance(asked, WarmUp):
                self._warms.put(asked.lane, asked)
            else:
                self._questions.put(asked.lane, asked)
                if is_known:
                    # The owner may be busy with a long decision.
                    self._clock.ring(0.0, asked, partial(self._answer_ahead, asked))
                elif self._turn is not None:
                    self._turn.make_room(asked)
                if asked.deadline is not None:
                    self._clock.ring(asked.ends_in(early=True), asked, partial(self._at_deadline, asked))
            self._wake_owner()
        asked.answer.add_done_callback(partial(self._forget, asked))
        for warm in outdated:
            warm.answer.call_off()
        for each in gone:
            # Without the lock: those who wait for it are told in this thread.
            each.answer.fail(full) if full is not None else each.answer.cancel()

    def _answer_ahead(self, question: Question) -> None:
        """Answer with the verdict that is kept; if it has just ended, make room as for any other question."""
        if not self._ahead.answer(question):
            with self._lock:
                if self._turn is not None and not (question.is_running or question.answer.done()):
                    self._turn.make_room(question)

    def ask(self, question: Question) -> None:
        """As :meth:`submit`, but decide in the calling thread if nothing else is being done: waking another takes longer."""
        self._check_open(question)
        if self._ahead.answer(question):
            return
        turn: Doing | None = None
        try:
            with self._lock:
                self._check_open(question)
                if self._turn is None and not self._questions and question.deadline is None and not program_ends():
                    turn = self._turn = Doing(questions=[question])
            if turn is not None:
                self._decide(turn)
        finally:
            try:
                self._end_turn(turn)
            finally:
                # Ctrl-C may have come in between.
                self._end_turn(turn)
        if turn is None:
            self.submit(question)
        elif not question.answer.done():
            question.answer.add_done_callback(partial(self._forget, question))

    def _end_turn(self, turn: Doing | None) -> None:
        """Let the owner go on, if ``turn`` is not over yet."""
        if turn is not None and self._turn is turn:
            with self._lock:
                # First, since Ctrl-C may come in between, and this is tried again.
                self._owner_wakes.notify()
                self._turn = None

    def _check_open(self, asked: Question | WarmUp) -> None:
        if asked.account is not None:
            asked.account.check_open()
        self.process.check("router")
        if program_ends():
            raise DecisionCancelledError("the program ends; nothing more is decided")
        if self.error is not None:
            raise ServiceClosedError(f"the router's thread ended on an error: {self.error!r}; make another router")
        if self._n_shares == 0:
            raise EngineError("the router has been closed")

    def _wake_owner(self) -> None:
        self._threads.start("owner", self._own)
        self._owner_wakes.notify()

    def _forget(self, asked: Question | WarmUp, _future: object) -> None:
        """There is an answer, or it is not wanted any more: take it off its queue, or stop what is done for it alone."""
        if not self.process.is_this:
            return
        if asked.answer.cancelled():
            asked.answer.acknowledge()
        with self._lock:
            turn = self._turn
            self._works.drop(asked)
            if isinstance(asked, WarmUp):
                self._warms.remove(asked.lane, asked)
                is_needless = turn is not None and turn.warm is asked
            else:
                self._questions.remove(asked.lane, asked)
                if asked.deadline is not None:
                    self._clock.turn_off(asked)
                is_needless = turn is not None and asked in turn.questions and all(q.answer.done() for q in turn.questions)
            if turn is not None and is_needless:
                turn.stop.cancel()
            # It may wait for this answer itself, or for the last one.
            self._owner_wakes.notify()
        asked.forget()

    def _own(self) -> None:
        try:
            self._work_while(lambda: True)
        except BaseException as exc:
            logger.exception("a router's thread ends on an error that was not foreseen")
            with self._lock:
                self.error = exc
        if program_ends():
            return
        with self._lock:
            left = self._left()
            self._works.stop_apart()
            self._turn = None
            apart = [thread for thread in self._threads if thread is not self._threads.get("owner")]
        self._clock.close()
        for each in left:
            each.refuse(ServiceClosedError(f"the router's thread ended on an error: {self.error!r}"))
        for thread in (*apart, self._clock.thread):
            if thread is not None and thread.ident is not None:
                thread.join()
        self.decider.close()

    def _work_while(self, goes_on: Callable[[], bool]) -> None:
        while (do := self._next(goes_on)) is not None:
            turn = self._turn
            do()
            self._end_turn(turn)

    def work_until_answered(self, asked: Question | WarmUp) -> None:
        """Do the owner's work until ``asked`` has its answer, if this is its thread: a callback of a future asks a router."""
        if threading.current_thread() is self._threads.get("owner"):
            self._end_turn(self._turn)
            self._work_while(lambda: not asked.answer.done())

    def _next(self, goes_on: Callable[[], bool]) -> Callable[[], None] | None:
        """What to do now; None if all is done and more will not come, or if it does not go on."""
        with self._lock:
            while goes_on() and not program_ends():
                if self._turn is not None:
                    # A caller decides in a thread of its own.
                    self._owner_wakes.wait()
                    continue
                if (first := self._questions.take()) is not None:
                    self._turn = Doing(questions=[first, *companions(self._questions, first, self.decider.batch_size)])
                    if len(self._questions):
                        self._turn.stop.give_way()
                    return partial(self._decide, self._turn)
                is_closing = self._n_shares == 0
                if (pending := self._works.next(only_needed=is_closing)) is not None:
                    self._turn = Doing(work=pending)
                    return partial(self._work_on, pending, self._turn.stop)
                if is_closing and not self._works.questions:
                    return None
                if not is_closing and (warm := self._warms.take()) is not None:
                    self._turn = Doing(warm=warm)
                    return partial(self._warm, self._turn, warm)
                self._owner_wakes.wait()
        return None

    def _decide(self, turn: Doing) -> None:
        turn.questions = batch = [each for each in turn.questions if not self._ahead.answer(each)]
        if not batch:
            return
        first, began = batch[0], time.monotonic()
        for each in batch:
            each.waited_s = began - each.started if each.waited_s is None else each.waited_s
            each.begin(self.decider.epoch)
        # Of a long list no more than is decided at once: other callers have their turn in between.
        most = self.decider.list_size if first.account is None else self.decider.batch_size
        sizes = [min(each.n_left, most) for each in batch]
        turn.stop.has_deadline = len(batch) == 1 and first.deadline is not None and first.n_works < _MOST_WORKS
        try:
            with self._evaluators.one_more(), first.stopping(turn.stop):
                turn.stop.check()
                found = decide(self.decider, batch, sizes, turn.stop)
        except UnfinishedError as exc:
            self._wait_for_work(first, exc)
        except BaseException as exc:  # noqa: BLE001 - it belongs to whoever waits
            if program_ends():
                return
            was_stopped = isinstance(exc, DecisionCancelledError)
            if was_stopped and (turn.is_interrupted or (turn.stop.gives_way and not turn.stop.cancelled)):
                for each in batch:
                    # All of it is waiting for the question's own answer, which begins anew.
                    each.waited_s = None
                self._put_back(batch)
            elif was_stopped and turn.stop.timed_out:
                first.answer.give(partial(first.result, [*first.verdicts, *[None] * first.n_left]))
            else:
                for each in batch:
                    each.answer.fail(exc)
        else:
            if not program_ends():
                sizes = [len(found)] if first.tables else sizes
                self._hand_out(batch, share_out(batch, sizes, found, (time.monotonic() - began) / sum(sizes)))

    def _hand_out(self, batch: Sequence[Question], failed: Mapping[Question, RemoteError]) -> None:
        """Answer the questions of a turn; one that has more conversations waits again."""
        # At once: a question that is called off, or whose service is closed, is found here or there.
        self._put_back([each for each in batch if each.n_left and each not in failed])
        with self._lock:
            warms = [*self._warms, *self._works.warms]
        for each in batch:
            if each in failed:
                each.answer.fail(failed[each])
            elif not each.n_left:
                self._ahead.keep_if_expected(each, warms)
                each.answer.give(partial(each.result, each.verdicts))

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

    def _wait_for_work(self, asked: Question | WarmUp, unfinished: UnfinishedError) -> None:
        with self._lock:
            asked.leave(unfinished)
            if asked.answer.done():
                return
            self._wake_owner()
            if unfinished.work is None:
                self._put_back_one(asked)
                return
            pending = self._works.add(unfinished.work, asked)
            if pending.work.is_apart and pending.stop is None:
                pending.stop = Cancellation()
                self._threads.start_apart(partial(self._work_on, pending, pending.stop))

    def _put_back_one(self, asked: Question | WarmUp) -> None:
        if isinstance(asked, Question):
            self._questions.put_back(asked.lane, asked)
        else:
            self._warms.put_back(asked.lane, asked)

    def _work_on(self, pending: Pending, stop: Cancellation) -> None:
        error: BaseException | None = None
        try:
            with self._evaluators.one_more():
                pending.work.run(stop)
        except BaseException as exc:  # noqa: BLE001 - it belongs to those who wait
            error = exc
        if program_ends() or (isinstance(error, DecisionCancelledError) and pending.stop is None):
            return  # a question on another table came between; what is finished is kept
        with self._lock:
            del self._works[pending.work.key]
            for each in pending.waiting if error is None else ():
                self._put_back_one(each)
            self._owner_wakes.notify()
        for each in pending.waiting if error is not None else ():
            each.answer.fail(error)  # type: ignore[arg-type]

    def _warm(self, turn: Doing, warm: WarmUp) -> None:
        try:
            with self._evaluators.one_more(), warm.stopping(turn.stop):
                done = self._ahead.warm_up(warm, turn.stop)
        except UnfinishedError as exc:
            self._wait_for_work(warm, exc)
        except DecisionCancelledError as exc:
            if program_ends():
                return
            with self._lock:
                warm.is_running = False
                was_told_to = warm.cancellation is not None and warm.cancellation.cancelled
                goes_on = not (warm.answer.done() or was_told_to or warm.is_outdated) and self._n_shares > 0
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
            if warm.whole:
                with self._lock:
                    same = [each for each in (*self._questions, *self._works.questions) if warm.is_about(each)]
                for each in same:
                    self._ahead.answer(each)
            warm.answer.give(lambda: done)

    def _at_deadline(self, question: Question) -> None:
        with self._lock:
            if question.is_running and question.ends_in() > 0:
                # It may still answer by itself; a cascade knows more than is known here.
                if self._turn is not None and self._turn.questions == [question]:
                    self._turn.stop.time_out()
                self._clock.ring(question.ends_in(), question, partial(self._at_deadline, question))
                return
        if not program_ends():
            question.answer.give(partial(decide_at_deadline, self.decider, question, self._evaluators))

    def share(self) -> None:
        """Count one more router that uses this.

        Raises:
            EngineError: the last one has been closed.
        """
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
                    self._works.stop_apart(only_needless=True)
                    self._owner_wakes.notify()

    def join(self) -> None:
        """Wait until the decider is closed, if no share is left."""
        if self.process.is_this and self._n_shares == 0 and not self.is_own_thread:
            with self._lock:
                self._wake_owner()
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()

    @property
    def is_own_thread(self) -> bool:
        """Whether the calling thread is one of the scheduler's, as in a callback of a future."""
        return threading.current_thread() in (*self._threads, self._clock.thread)

    def stop(self) -> None:
        """Stop what is evaluated: the program ends, and models are freed."""
        # In a forked process there is no thread that would stop.
        if self.process.is_this:
            with self._lock:
                left = self._left()
                if self._turn is not None:
                    self._turn.stop.cancel()
                self._works.stop_apart()
                self._owner_wakes.notify()
            # A thread that waits in a call of a router lets go of what it holds; those who hold futures are left alone.
            for each in left:
                if each.account is None:
                    each.answer.fail(DecisionCancelledError("the program ends; nothing more is decided"))

    def _left(self) -> list[Question | WarmUp]:
        """What has no answer yet."""
        running = () if self._turn is None else (*self._turn.questions, *filter(None, [self._turn.warm]))
        return [*running, *self._questions, *self._works.questions, *self._warms, *self._works.warms]

    def wait_for_stop(self) -> None:
        """Wait until nothing is evaluated."""
        if self.process.is_this:
            self._evaluators.wait()
