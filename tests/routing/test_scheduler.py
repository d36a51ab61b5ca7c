"""What the scheduler promises, whatever decides: order, fairness, deadlines, and an end without threads that are left."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge import Cancellation, Route, RouteTable
from archroute_edge.conversation import Turn
from archroute_edge.decision import Verdict
from archroute_edge.errors import DecisionCancelledError, EngineError, QueueFullError, ServiceClosedError
from archroute_edge.routing import _account
from archroute_edge.routing._account import Account
from archroute_edge.routing._questions import Question, WarmUp
from archroute_edge.routing._queues import FairQueue
from archroute_edge.routing._scheduler import Scheduler
from tests.fakes import FakeDecider, verdict_of
from tests.gate import PATIENCE_S, our_threads
from tests.routing.conftest import until

OWN, OTHERS = RouteTable([Route("own")]), RouteTable([Route("others")])


def ask(text: str | Sequence[str], table: RouteTable = OWN, **settings: Any) -> Question:
    """A question whose answer is the routes; None is the fallback at the deadline."""
    texts = [text] if isinstance(text, str) else text

    def finish(verdicts: Sequence[Verdict | None], _total_ms: float, _wait_ms: float) -> list[str | None]:
        return [each.route if each is not None else None for each in verdicts]

    settings = {"scores": False, "keep": True, "caller": None, **settings}
    return Question(table, conversations=[[Turn("user", each)] for each in texts], finish=finish, **settings)


def warm(text: str | None, table: RouteTable = OWN, **settings: Any) -> WarmUp:
    return WarmUp(table, settings.pop("caller", None), None if text is None else [Turn("user", text)], **settings)


@pytest.fixture
def busy(scheduler: Scheduler, decider: FakeDecider) -> Question:
    """A question that is decided until the gate is opened."""
    decider.close_gate()
    question = ask("busy", caller="busy")
    scheduler.submit(question)
    decider.wait_for_arrival()
    return question


def result(asked: Question | WarmUp) -> Any:
    return asked.answer.result(PATIENCE_S)


class TestOrder:
    def test_no_question_waits_behind_a_warm_up(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Which is stopped, and goes on afterwards: typing in one window delays nobody, and no warm-up is lost."""
        account = Account(9)
        decider.close_gate()
        warming, question = warm("typed", OTHERS, account=account), ask("asked")
        scheduler.submit(warming)
        decider.wait_for_arrival()
        scheduler.submit(question)
        until(lambda: ("decide", "asked") in decider.log)
        assert not warming.answer.done()
        decider.opened.set()
        assert result(question) == ["asked"]
        assert result(warming).tokens == 1
        assert decider.log == [("warm", "typed"), ("decide", "asked"), ("warm", "typed")]
        assert (account.counts["preempted"], account.counts["warmed"]) == (1, 1)

    @pytest.mark.parametrize(("typed", "table", "is_stopped"), [("fix", OWN, False), ("fox", OWN, True), (None, OWN, False)])
    def test_a_warm_up_of_its_own_is_waited_for(
        self, scheduler: Scheduler, decider: FakeDecider, typed: str | None, table: RouteTable, is_stopped: bool
    ) -> None:
        """Would break if what was typed were evaluated twice: stopping the warm-up loses what the question needs."""
        decider.close_gate()
        warming, question = warm(typed, table), ask("fix it")
        scheduler.submit(warming)
        decider.wait_for_arrival()
        scheduler.submit(question)
        decider.opened.set()
        assert result(question) == ["fix it"]
        result(warming)
        assert (len(decider.log) == 3) == is_stopped

    @given(st.lists(st.sampled_from("abcd"), max_size=20))
    def test_callers_take_turns(self, callers: list[str]) -> None:
        """Nobody is served twice while another waits, and each caller's own questions keep their order."""
        decider = FakeDecider()
        scheduler = Scheduler(decider)
        decider.close_gate()
        scheduler.submit(ask("busy", caller="busy"))
        decider.wait_for_arrival()
        asked = [ask(f"{caller}{number}", caller=caller) for number, caller in enumerate(callers)]
        for each in asked:
            scheduler.submit(each)
        decider.opened.set()
        scheduler.release()
        scheduler.join()
        served = [text for _, text in decider.log[1:]]
        assert sorted(served) == sorted(f"{caller}{number}" for number, caller in enumerate(callers))
        for caller in "abcd":
            numbers = [int(text[1:]) for text in served if text[0] == caller]
            assert numbers == sorted(numbers)
        waiting = {caller: callers.count(caller) for caller in "abcd"}
        for before, after in itertools.pairwise(served):
            waiting[before[0]] -= 1
            if before[0] == after[0]:
                assert not any(count for caller, count in waiting.items() if caller != before[0])

    def test_a_long_list_leaves_others_their_turn(self, scheduler: Scheduler, decider: FakeDecider, busy: Question) -> None:
        many, one = ask(["1", "2", "3"], caller="list"), ask("one", caller="one")
        scheduler.submit(many)
        scheduler.submit(one)
        decider.opened.set()
        assert result(many) == ["1", "2", "3"]
        assert [text for _, text in decider.log] == ["busy", "1", "one", "2", "3"]
        assert result(busy) == ["busy"]

    def test_what_gives_way_begins_again(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """A large table in slices: would break if others waited for all of it, or it were never finished."""
        decider.gives_way = "large"
        decider.close_gate()
        large, small = ask("large", OTHERS, caller="a"), ask("small", caller="b")
        scheduler.submit(large)
        decider.wait_for_arrival()
        scheduler.submit(small)
        until(lambda: ("decide", "small") in decider.log)
        decider.opened.set()
        assert (result(small), result(large)) == (["small"], ["large"])
        assert [text for _, text in decider.log] == ["large", "small", "large"]

    def test_services_questions_are_decided_together(self, scheduler: Scheduler, decider: FakeDecider, busy: Question) -> None:
        """If they are alike; a router's own call never is, since what else is evaluated would change its last digits."""
        decider.batch_size = 3
        account = Account(9)
        asked = [ask(str(number), caller=number, account=account) for number in range(4)]
        asked += [ask("other", OTHERS, caller="o", account=account), ask("router's own", caller="r")]
        for each in asked:
            scheduler.submit(each)
        decider.opened.set()
        assert [result(each) for each in asked] == [["0"], ["1"], ["2"], ["3"], ["other"], ["router's own"]]
        assert [text for _, text in decider.log] == ["busy", "0 1 2", "3", "other", "router's own"]

    def test_callers_that_decide_in_their_own_threads(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Which they do if nothing else is done: never two at a time, and none is lost. The fake looks after the first."""
        decider.unready.add("others")

        def decide(number: int) -> list[Any]:
            asked = [ask(f"{number}"), ask(f"{number}", OTHERS, deadline=PATIENCE_S), ask([f"{number}"] * 3)]
            for each in asked:
                scheduler.ask(each)
            return [result(each) for each in asked]

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(decide, range(60)))
        assert found == [[[f"{number}"], [f"{number}"], [f"{number}"] * 3] for number in range(60)]

    def test_many_of_one_caller_are_no_single_turn(self, scheduler: Scheduler, decider: FakeDecider, busy: Question) -> None:
        """Would break if a polite caller waited for an evaluation of all that a greedy one has asked for."""
        decider.batch_size = 64
        account = Account(99)
        many = [ask("many", caller="greedy", account=account) for _ in range(20)]
        for each in many:
            scheduler.submit(each)
        busy.answer.cancel()
        until(lambda: ("decide", "many " * 7 + "many") in decider.log)
        polite = ask("polite", caller="polite", account=account)
        scheduler.submit(polite)
        until(lambda: any("polite" in text for _, text in decider.log))
        decider.opened.set()
        assert result(polite) == ["polite"]
        assert [result(each) for each in many] == [["many"]] * 20
        texts = [text.split() for _, text in decider.log]
        assert max(map(len, texts)) == 8
        assert all(len(each) <= 2 for each in texts if "polite" in each)


class TestUnfinishedWork:
    def test_what_no_question_waits_for_is_bounded(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Would break if tables that come with requests left work behind, one each, however many come."""
        tables = [RouteTable([Route(f"table {number}")]) for number in range(30)]
        decider.unready = {table.names[0] for table in tables}
        decider.close_gate()
        for table in tables:
            question = ask("late", table, deadline=0.01)
            scheduler.submit(question)
            assert result(question) == [None]
        decider.opened.set()
        last = warm("last")
        scheduler.submit(last)
        result(last)
        assert 30 - 12 <= len(decider.unready) < 30

    def test_it_goes_on_past_the_deadline(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Would break if a machine that is slower than the deadline began again with every question, and never answered."""
        decider.unready.add("own")
        decider.close_gate()
        late = [ask("late", deadline=0.05), ask("later", deadline=0.05)]
        for each in late:
            scheduler.submit(each)
            assert result(each) == [None]
        patient = ask("patient", deadline=PATIENCE_S)
        scheduler.submit(patient)
        decider.opened.set()
        assert result(patient) == ["patient"]
        assert decider.log == [("work", "own"), ("decide", "patient")]

    def test_it_holds_up_no_other_table(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        decider.unready.add("others")
        decider.close_gate()
        waiting, ready = ask("waiting", OTHERS, deadline=PATIENCE_S), ask("ready")
        scheduler.submit(waiting)
        decider.wait_for_arrival()
        scheduler.submit(ready)
        until(lambda: ("decide", "ready") in decider.log)
        decider.opened.set()
        assert (result(ready), result(waiting)) == (["ready"], ["waiting"])
        assert [kind for kind, _ in decider.log] == ["work", "decide", "work", "decide"]

    def test_its_error_is_that_of_those_who_wait(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        decider.unready.add("own")
        decider.error = EngineError("no memory")
        question = ask("x", deadline=PATIENCE_S)
        scheduler.submit(question)
        with pytest.raises(EngineError, match="no memory"):
            result(question)


class TestDeadlines:
    @pytest.mark.parametrize("found", [None, verdict_of("quick")])
    def test_one_is_kept_while_the_owner_cannot_be_stopped(
        self, scheduler: Scheduler, decider: FakeDecider, found: Verdict | None
    ) -> None:
        """Running and waiting: would break if only the owner could answer, which is inside llama.cpp."""
        decider.is_stoppable, decider.answer_at_once = False, found
        decider.close_gate()
        asked = [ask("running", deadline=0.05), ask("waiting", deadline=0.05)]
        for each in asked:
            scheduler.submit(each)
        expected = [found and found.route]
        assert [result(each) for each in asked] == [expected] * 2
        decider.opened.set()
        after = ask("after", deadline=PATIENCE_S)
        scheduler.submit(after)
        assert result(after) == ["after"]
        assert ("decide", "waiting") not in decider.log

    def test_what_runs_is_told_to_stop(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        decider.close_gate()
        late, next_one = ask("late", deadline=0.05), ask("next")
        scheduler.submit(late)
        scheduler.submit(next_one)
        assert result(late) == [None]
        until(lambda: ("decide", "next") in decider.log)
        decider.opened.set()
        assert result(next_one) == ["next"]

    def test_one_that_fails_takes_no_other_along(self, scheduler: Scheduler, decider: FakeDecider, busy: Question) -> None:
        """Would break if an error in the thread that keeps deadlines ended it."""
        failing = ask("x", deadline=0.01)

        def finish(*_arguments: object) -> object:
            raise RuntimeError("no room")

        failing.finish = finish
        scheduler.submit(failing)
        with pytest.raises(RuntimeError):
            result(failing)
        late = ask("late", deadline=0.01)
        scheduler.submit(late)
        assert result(late) == [None]
        assert not busy.answer.done()


class TestCancelling:
    def test_takes_off_the_queue_or_stops(self, scheduler: Scheduler, decider: FakeDecider, busy: Question) -> None:
        """The gate stays closed: only a flag that reaches the decider lets the next question begin."""
        waiting, warming, next_one = ask("waiting"), warm("warming"), ask("next")
        for each in (waiting, warming, next_one):
            scheduler.submit(each)
        assert waiting.answer.cancel()
        assert warming.answer.cancel()
        assert busy.answer.cancel()
        until(lambda: ("decide", "next") in decider.log)
        decider.opened.set()
        assert result(next_one) == ["next"]
        assert decider.log == [("decide", "busy"), ("decide", "next")]
        with pytest.raises(CancelledError):
            result(busy)

    def test_a_flag_stops_what_runs(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        flag = Cancellation()
        decider.close_gate()
        both: list[Question | WarmUp] = [ask("x", cancellation=flag), warm("x", cancellation=flag)]
        for asked in both:
            scheduler.submit(asked)
            flag.cancel()
            with pytest.raises(DecisionCancelledError):
                result(asked)


def leave(_future: object) -> None:
    """What a callback does that takes its thread for the program's."""
    sys.exit(1)


def interrupt(_future: object) -> None:
    raise KeyboardInterrupt


class TestCallbacks:
    @pytest.mark.parametrize("callback", [leave, interrupt])
    @pytest.mark.parametrize("deadline", [None, 0.02])
    def test_none_ends_a_thread(
        self,
        scheduler: Scheduler,
        decider: FakeDecider,
        caplog: pytest.LogCaptureFixture,
        callback: Callable[[object], None],
        deadline: float | None,
    ) -> None:
        """Neither the owner nor the one that keeps deadlines; and other callbacks are called."""
        decider.close_gate()
        question, called = ask("x", deadline=deadline), threading.Event()
        scheduler.submit(question)
        question.answer.add_done_callback(callback)
        question.answer.add_done_callback(lambda _future: called.set())
        if deadline is None:
            decider.opened.set()
        assert called.wait(PATIENCE_S)
        decider.opened.set()
        assert callback.__name__ in caplog.text
        for again in (None, PATIENCE_S):
            after = ask("after", deadline=again)
            scheduler.submit(after)
            assert result(after) == ["after"]

    def test_in_a_thread_of_ones_own_it_does_end_that(self, scheduler: Scheduler, busy: Question) -> None:
        """Would break if Ctrl-C, or sys.exit, were swallowed if the program itself cancels or adds a callback."""
        busy.answer.add_done_callback(leave)
        with pytest.raises(SystemExit):
            busy.answer.cancel()
        with pytest.raises(SystemExit):
            busy.answer.add_done_callback(leave)

    def test_a_caller_that_is_crowded_out_may_ask_again_at_once(self, scheduler: Scheduler, busy: Question) -> None:
        """Would deadlock if callers were told while anything is locked."""
        account = Account(2)
        greedy = [ask("x", caller="greedy", account=account) for _ in range(2)]
        for each in greedy:
            scheduler.submit(each)
        refused: list[Exception] = []

        def ask_again(_future: object) -> None:
            try:
                scheduler.submit(ask("again", caller="greedy", account=account))
            except QueueFullError as exc:
                refused.append(exc)

        greedy[1].answer.add_done_callback(ask_again)
        scheduler.submit(ask("x", caller="polite", account=account))
        assert len(refused) == 1

    def test_a_list_is_found_while_it_goes_back_to_the_queue(
        self, scheduler: Scheduler, decider: FakeDecider, busy: Question
    ) -> None:
        """Would break if a list whose service is closed between two conversations were decided to its end."""
        account = Account(9)
        many = ask(["1", "2", "3", "4"], caller="a", account=account)
        scheduler.submit(many)
        between = ask("between", caller="b")
        between.answer.add_done_callback(lambda _future: account.close(drain=False, timeout=None))
        scheduler.submit(between)
        decider.opened.set()
        with pytest.raises(ServiceClosedError):
            result(many)
        assert len(decider.log) < 5


class TestBounds:
    def test_the_newest_of_the_caller_with_most_gives_way(self, scheduler: Scheduler, busy: Question) -> None:
        account = Account(4)
        greedy = [ask(str(number), caller="greedy", account=account) for number in range(4)]
        for each in greedy:
            scheduler.submit(each)
        polite = [ask("x", caller="polite", account=account) for _ in range(2)]
        for each, victim in zip(polite, (greedy[3], greedy[2]), strict=True):
            scheduler.submit(each)
            with pytest.raises(QueueFullError, match="4 requests wait already"):
                victim.answer.result(0)
        for caller in ("greedy", "polite"):
            with pytest.raises(QueueFullError):
                scheduler.submit(ask("one more", caller=caller, account=account))
        assert account.counts["refused"] == 4
        assert list(account.questions) == [*greedy[:2], *polite]

    def test_text_that_waits_is_bounded(self, scheduler: Scheduler, busy: Question, monkeypatch: pytest.MonkeyPatch) -> None:
        """Would break if ``--queue`` counted requests alone: 64 of 4 MiB may wait."""
        monkeypatch.setattr(_account, "MOST_WAITING_BYTES", 10_000)
        account = Account(99)
        large = [ask("x" * 4000, caller="greedy", account=account) for _ in range(2)]
        for each in large:
            scheduler.submit(each)
        small = ask("x" * 3000, caller="polite", account=account)
        scheduler.submit(small)
        assert isinstance(large[1].answer.exception(0), QueueFullError)
        with pytest.raises(QueueFullError):
            scheduler.submit(ask("x" * 9000, caller="polite", account=account))
        assert list(account.questions) == [large[0], small]

    def test_warm_ups_are_bounded(self, scheduler: Scheduler, busy: Question) -> None:
        """One of each caller, and so many in all."""
        account = Account(2)
        warms = [warm(str(number), caller=number, account=account) for number in range(3)]
        for each in warms:
            scheduler.submit(each)
        newer = warm("newer", caller=2, account=account)
        scheduler.submit(newer)
        assert [each.answer.cancelled() for each in [*warms, newer]] == [True, False, True, False]

    @pytest.mark.parametrize("keep", [True, False])
    def test_routes_that_come_with_warm_ups_are_text_that_waits(
        self, scheduler: Scheduler, busy: Question, monkeypatch: pytest.MonkeyPatch, keep: bool
    ) -> None:
        """Would break if a MiB of routes from each client waited beside 32 MiB of text; the router's own are there anyway."""
        monkeypatch.setattr(_account, "MOST_WAITING_BYTES", 10_000)
        account, large = Account(99), RouteTable([Route("large", "x" * 4000)])
        warms = [warm(None, large, keep=keep, caller=number, account=account) for number in range(3)]
        for each in warms:
            scheduler.submit(each)
        assert [each.answer.cancelled() for each in warms] == [not keep, False, False]


class TestTheEnd:
    def test_closing_answers_what_waits(self, decider: FakeDecider) -> None:
        scheduler = Scheduler(decider)
        decider.close_gate()
        asked = [ask("1"), ask("2"), ask("3", OTHERS, deadline=PATIENCE_S)]
        decider.unready.add("others")
        warming = warm("x")
        everything: list[Question | WarmUp] = [*asked, warming]
        for each in everything:
            scheduler.submit(each)
        scheduler.release()
        decider.opened.set()
        scheduler.join()
        assert [each.answer.result(0) for each in asked] == [["1"], ["2"], ["3"]]
        assert warming.answer.cancelled()
        assert decider.is_closed
        assert not our_threads()
        with pytest.raises(EngineError, match="has been closed"):
            scheduler.submit(ask("x"))

    def test_closing_does_not_wait_for_work_that_nobody_needs(self, decider: FakeDecider) -> None:
        scheduler = Scheduler(decider)
        decider.unready.add("own")
        decider.close_gate()
        late = ask("late", deadline=0.05)
        scheduler.submit(late)
        assert result(late) == [None]
        scheduler.release()
        scheduler.join()
        assert decider.is_closed

    def test_one_of_several_shares(self, scheduler: Scheduler) -> None:
        scheduler.share()
        scheduler.release()
        scheduler.join()
        question = ask("x")
        scheduler.submit(question)
        assert result(question) == ["x"]

    def test_an_account_that_is_closed_gives_up_its_own_only(
        self, scheduler: Scheduler, decider: FakeDecider, busy: Question
    ) -> None:
        account = Account(9)
        own, foreign = ask("own", account=account), ask("foreign")
        scheduler.submit(own)
        scheduler.submit(foreign)
        account.close(drain=True, timeout=0.01)
        with pytest.raises(ServiceClosedError):
            own.answer.result(0)
        with pytest.raises(ServiceClosedError):
            scheduler.submit(ask("x", account=account))
        decider.opened.set()
        assert (result(busy), result(foreign)) == (["busy"], ["foreign"])

    def test_an_error_of_the_decider_is_the_questions(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        for error in (EngineError("once"), KeyboardInterrupt()):
            decider.error = error
            both: list[Question | WarmUp] = [ask("x"), warm("x")]
            for asked in both:
                scheduler.submit(asked)
                assert asked.answer.exception(PATIENCE_S) is error
        decider.error = None
        question = ask("x")
        scheduler.submit(question)
        assert result(question) == ["x"]

    def test_an_owner_that_ends_on_an_error_says_so(
        self, decider: FakeDecider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Would break if later questions hung, or were told that the router has been closed."""
        scheduler = Scheduler(decider)

        def fail(*_arguments: object) -> object:
            raise MemoryError("no room")

        monkeypatch.setattr(FairQueue, "take", fail)
        question = ask("x")
        scheduler.submit(question)
        with pytest.raises(ServiceClosedError, match="no room"):
            result(question)
        with pytest.raises(ServiceClosedError, match=r"ended on an error: MemoryError\('no room'\)"):
            scheduler.submit(ask("x"))
        assert scheduler.error is not None
        assert "MemoryError" in caplog.text

    def test_a_program_that_ends_leaves_nothing(self) -> None:
        """With questions that run and wait, with work and with a warm-up: no hang, no traceback."""
        script = (
            "import sys, threading\n"
            "from tests.routing.test_scheduler import *\n"
            "for unready in (False, True):\n"
            "    decider = FakeDecider()\n"
            "    scheduler = Scheduler(decider)\n"
            "    decider.unready.update(['own'] if unready else [])\n"
            "    decider.close_gate()\n"
            "    for each in (ask('1', deadline=9), ask('2'), warm('3')):\n"
            "        scheduler.submit(each)\n"
            "    decider.wait_for_arrival()\n"
            "sys.exit(3)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_a_callback_may_wait_for_an_answer_that_another_thread_gives(scheduler: Scheduler, decider: FakeDecider) -> None:
    """Would break if the owner, which calls it, waited for something to do while its own caller has the answer already."""
    decider.unready.add("others")
    decider.apart = threading.Event()
    found: list[object] = []
    done = threading.Event()

    def ask_again(_answer: object) -> None:
        late = ask("late", OTHERS, deadline=0.05)
        scheduler.ask(late)
        scheduler.work_until_answered(late)
        found.append(result(late))
        done.set()

    first = ask("first")
    first.answer.add_done_callback(ask_again)
    scheduler.submit(first)
    assert done.wait(PATIENCE_S)
    assert found == [[None]]
    decider.apart.set()


@pytest.mark.parametrize("is_for_these_alone", [False, True])
def test_work_that_is_of_no_use_later_ends_with_the_last_question(
    scheduler: Scheduler, decider: FakeDecider, is_for_these_alone: bool
) -> None:
    """A request to another machine; a model that is loaded is of use to the next question."""
    decider.unready.add("own")
    decider.apart = threading.Event()
    decider.is_for_these_alone = is_for_these_alone
    first, second = ask("first", deadline=PATIENCE_S), ask("second", deadline=PATIENCE_S)
    for each in (first, second):
        scheduler.submit(each)
    until(lambda: second.n_works == 1)
    first.answer.cancel()
    assert scheduler._works["own"].stop is not None
    assert not scheduler._works["own"].stop.cancelled
    second.answer.cancel()
    if is_for_these_alone:
        until(lambda: decider.n_stopped == 1)
    else:
        decider.apart.set()
        until(lambda: not decider.unready)


def test_a_decider_is_closed_when_nothing_works_beside_it_any_more(
    decider: FakeDecider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the work that was begun last: would break if a model were freed that a thread still writes prompts with."""
    gates = {"own": threading.Event(), "others": threading.Event()}
    done: list[tuple[str, bool]] = []

    def work(name: str, _flag: Cancellation) -> None:
        decider.log.append(("work", name))
        assert gates[name].wait(PATIENCE_S)
        done.append((name, decider.is_closed))

    monkeypatch.setattr(decider, "_get_ready", work)
    scheduler = Scheduler(decider)
    decider.unready.update(gates)
    decider.apart = threading.Event()
    questions = [ask("late", table, deadline=PATIENCE_S) for table in (OWN, OTHERS)]
    for each in questions:
        scheduler.submit(each)
    until(lambda: len(decider.log) == len(gates))
    for each in questions:
        each.answer.cancel()
    scheduler.release()
    gates["others"].set()
    threading.Timer(0.2, gates["own"].set).start()
    scheduler.join()
    assert decider.is_closed
    assert done == [("others", False), ("own", False)]
    assert not our_threads()


@pytest.mark.parametrize("put", [Scheduler.ask, Scheduler.submit])
def test_who_was_let_in_while_the_last_share_was_given_back_is_refused(
    decider: FakeDecider, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, put: Callable[[Scheduler, Question], None]
) -> None:
    """Would break if what comes between the look at whether a router is open and the queue waited for ever, or was decided."""
    check = Scheduler._check_open

    def check_and_close(self: Scheduler, asked: Question) -> None:
        check(self, asked)
        monkeypatch.undo()
        scheduler.release()
        scheduler.join()

    monkeypatch.setattr(Scheduler, "_check_open", check_and_close)
    with pytest.raises(EngineError, match="has been closed"):
        put(scheduler, ask("late"))
    assert decider.is_closed
    with pytest.raises(EngineError, match="has been closed"):
        scheduler.share()
    scheduler._n_shares = 1  # for the fixture, which gives it back


def test_ctrl_c_between_a_decision_and_the_end_of_its_turn_keeps_nobody_waiting(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if the turn were never over: everybody would wait for it, and so would close()."""

    def interrupt(*_turn: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler, "_end_turn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scheduler.ask(ask("one"))
    last = ask("last")
    scheduler.submit(last)
    assert last.answer.result(PATIENCE_S)


def test_a_thread_that_could_not_be_started_is_made_again(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if one moment with too many threads left a router that never answers."""

    def refuse(_thread: threading.Thread) -> None:
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        scheduler.submit(ask("one"))
    last = ask("last")
    scheduler.submit(last)
    assert last.answer.result(PATIENCE_S)
