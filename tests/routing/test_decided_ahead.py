"""Deciding at a pause: the question that asks just that is answered with the verdict, and nobody else waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Decision, Router, RoutingService
from archroute_edge.conversation import Turn
from archroute_edge.deciders import UnfinishedError, Work
from archroute_edge.decision import Verdict
from archroute_edge.engine import Cancellation
from archroute_edge.errors import EngineError, SettingsError
from archroute_edge.routes import RouteTable
from archroute_edge.routing._account import Account
from archroute_edge.routing._decided_ahead import DecidedAhead
from archroute_edge.routing._questions import Question, WarmUp
from archroute_edge.routing._scheduler import Scheduler
from tests.fakes import FakeDecider, verdict_of
from tests.gate import PATIENCE_S, Gate, our_threads
from tests.routing.conftest import OTHERS, ROUTES, until

EARLIER = [Turn("user", "write a poem"), Turn("assistant", "The sea is wide.")]
TYPED = "please fix the bug in my code, the test says IndexError"


def turns_of(text: str, earlier: Sequence[Turn] = ()) -> list[Turn]:
    return [*earlier, Turn("user", text)]


def ask(text: str, table: RouteTable = ROUTES, earlier: Sequence[Turn] = (), **settings: Any) -> Question:
    """A question whose answer is its verdicts."""
    settings = {"scores": False, "keep": True, "caller": None, **settings}
    return Question(
        table, conversations=[turns_of(text, earlier)], finish=lambda verdicts, _total_ms, _wait_ms: verdicts, **settings
    )


def typed(text: str, table: RouteTable = ROUTES, earlier: Sequence[Turn] = (), **settings: Any) -> WarmUp:
    settings = {"whole": True, **settings}
    return WarmUp(table, settings.pop("caller", None), turns_of(text, earlier), **settings)


def result(asked: Question | WarmUp) -> Any:
    return asked.answer.result(PATIENCE_S)


class TestTheVerdict:
    def test_is_not_kept_if_the_model_may_be_another_one_by_then(self) -> None:
        """A server that breaks while it decides may have another model when it is back."""

        class Breaking(FakeDecider):
            @property
            def epoch(self) -> int:
                return len(self.log)

        ahead = DecidedAhead(Breaking())
        warming, question = typed("fix it"), ask("fix it")
        ahead.warm_up(warming, Cancellation())
        assert ahead.find(question) is None
        question.verdicts = [verdict_of("fix it")]
        ahead.keep_if_expected(question, [warming])
        assert ahead.find(question) is None
        question.epoch = 1
        ahead.keep_if_expected(question, [warming])
        assert ahead.find(question) is not None

    @pytest.mark.parametrize("direct", [False, True])
    def test_answers_the_same_question(self, scheduler: Scheduler, decider: FakeDecider, direct: bool) -> None:
        """With all that was decided, and with what that cost the question: nothing."""
        warming = typed("fix it")
        scheduler.submit(warming)
        assert result(warming).tokens == result(warming).evaluated == 1
        for _ in range(2):
            question = ask("fix it")
            (scheduler.ask if direct else scheduler.submit)(question)
            (verdict,) = result(question)
            assert (verdict.route, verdict.confidence) == ("fix it", 1.0)
            assert vars(verdict.tokens) == {"prompt": 1, "reused": 1, "evaluated": 0, "answer": 0, "evaluations": 0}
            assert 0 <= verdict.timings.total_ms == verdict.timings.wait_ms
        assert decider.log == [("decide", "fix it")]

    @pytest.mark.parametrize(
        "question",
        [
            ask("fix it!"),
            ask("fix it", OTHERS),
            ask("fix it", earlier=EARLIER),
            ask("fix it", scores=True),
            ask("fix it", tables=[ROUTES, OTHERS]),
        ],
        ids=["another text", "another table", "another conversation", "with scores", "by several tables"],
    )
    def test_answers_no_other_question(self, scheduler: Scheduler, decider: FakeDecider, question: Question) -> None:
        warming = typed("fix it")
        scheduler.submit(warming)
        result(warming)
        scheduler.submit(question)
        result(question)
        assert len(decider.log) > 1

    @pytest.mark.parametrize(("reason", "is_kept"), [(None, True), ("low_confidence", True), ("unreachable", False)])
    def test_is_kept_if_it_would_be_the_same_again(self, reason: Any, is_kept: bool) -> None:
        ahead = DecidedAhead(FakeDecider())
        ahead.keep(typed("fix it"), replace(verdict_of("fix it"), reason=reason))
        assert (ahead.find(ask("fix it")) is not None) == is_kept

    def test_has_the_scores_that_are_wanted(self) -> None:
        ahead = DecidedAhead(FakeDecider())
        ahead.keep(typed("fix it"), replace(verdict_of("fix it"), scores={"fix it": 1.0}))
        for scores in (False, True):
            found = ahead.find(ask("fix it", scores=scores))
            assert found is not None
            assert (found.scores is not None) == scores

    def test_does_not_wait_for_the_owner(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Would break if Enter in one window waited for a long decision in another, though its answer is there."""
        warming = typed("fix it", caller="one")
        scheduler.submit(warming)
        result(warming)
        decider.close_gate()
        busy = ask("busy", caller="other")
        scheduler.submit(busy)
        decider.wait_for_arrival()
        question = ask("fix it", caller="one", account=Account(9), deadline=PATIENCE_S)
        scheduler.submit(question)
        assert result(question)[0].route == "fix it"
        assert not busy.answer.done()


class TestOrder:
    @pytest.mark.parametrize("caller", ["another", None])
    @pytest.mark.parametrize("text", ["a poem", "fix it now"])
    def test_a_question_stops_it(self, scheduler: Scheduler, decider: FakeDecider, caller: str | None, text: str) -> None:
        """And it goes on afterwards, unless the same caller has sent another text: what was typed is not asked any more."""
        decider.close_gate()
        warming, question = typed("fix it"), ask(text, caller=caller)
        scheduler.submit(warming)
        decider.wait_for_arrival()
        scheduler.submit(question)
        until(lambda: ("decide", text) in decider.log)
        decider.opened.set()
        assert result(question)[0].route == text
        if caller is None:
            with pytest.raises(CancelledError):
                result(warming)
        else:
            assert result(warming).tokens == 1
        assert len(decider.log) == (2 if caller is None else 3)

    def test_a_question_that_is_answered_without_the_model_stops_it(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Would break if what was typed on, and taken back, was decided all the same, and others waited for that."""
        scheduler.submit(kept := typed("fix it"))
        result(kept)
        decider.close_gate()
        scheduler.submit(newer := typed("fix it now"))
        decider.wait_for_arrival()
        scheduler.submit(question := ask("fix it"))
        assert result(question)[0].tokens.evaluated == 0
        with pytest.raises(CancelledError):
            result(newer)

    def test_a_question_whose_verdict_has_just_ended_does_not_wait_for_it(
        self, scheduler: Scheduler, decider: FakeDecider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Found when the question comes, and a moment later too old to answer it."""
        scheduler.submit(kept := typed("fix it"))
        result(kept)
        decider.close_gate()
        scheduler.submit(warming := typed("a poem", caller="other"))
        decider.wait_for_arrival()
        monkeypatch.setattr(scheduler._ahead, "answer", lambda _question: False)
        scheduler.submit(question := ask("fix it"))
        until(lambda: decider.log.count(("decide", "fix it")) == 2)
        assert not warming.answer.done()
        decider.opened.set()
        assert result(question)[0].tokens.evaluated == 1

    @pytest.mark.parametrize("caller", ["another", None])
    def test_the_same_question_waits_for_it(self, scheduler: Scheduler, decider: FakeDecider, caller: str | None) -> None:
        """Would break if pressing Enter threw away what the pause before it had begun."""
        decider.close_gate()
        warming, question = typed("fix it"), ask("fix it", caller=caller)
        scheduler.submit(warming)
        decider.wait_for_arrival()
        scheduler.submit(question)
        decider.opened.set()
        assert result(question)[0].tokens.evaluated == 0
        assert result(warming).tokens == 1
        assert decider.log == [("decide", "fix it")]

    def test_typing_on_stops_it(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """The next pause of the caller, whole or not: the text so far is not what will be asked about."""
        for whole in (True, False):
            account = Account(9)
            decider.close_gate()
            older, newer = typed("fix", account=account), typed(f"fix {whole}", account=account, whole=whole)
            scheduler.submit(older)
            decider.wait_for_arrival()
            scheduler.submit(newer)
            with pytest.raises(CancelledError):
                result(older)
            decider.opened.set()
            assert result(newer).tokens == 1

    def test_a_warm_up_that_runs_is_no_loss_for_the_next_pause(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        """Would break if each pause of someone who types fast began with the message again, on a slow machine."""
        account = Account(9)
        decider.close_gate()
        first, second = typed("fix", account=account, whole=False), typed("fix it", account=account)
        scheduler.submit(first)
        decider.wait_for_arrival()
        scheduler.submit(second)
        decider.opened.set()
        result(first)
        result(second)
        assert decider.log == [("warm", "fix"), ("decide", "fix it")]

    def test_one_that_waits_is_called_off_by_the_question(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        decider.close_gate()
        busy = ask("busy", caller="other")
        scheduler.submit(busy)
        decider.wait_for_arrival()
        waiting = [typed("fix it"), typed("fix", earlier=EARLIER), typed("fix it", caller="other")]
        for each in waiting:
            scheduler.submit(each)
        question = ask("fix it now")
        scheduler.submit(question)
        assert [each.answer.cancelled() for each in waiting] == [True, False, False]
        decider.opened.set()
        result(question)
        for each in waiting[1:]:
            result(each)

    @pytest.mark.parametrize("caller", ["one", "another"])
    @pytest.mark.parametrize("after", ["it waited", "it was stopped"])
    def test_a_question_before_it_is_decided_once(
        self, scheduler: Scheduler, decider: FakeDecider, caller: str, after: str
    ) -> None:
        """Would break if what was sent, and then sent again, was decided twice because Enter was faster than the pause."""
        decider.close_gate()
        busy, warming = ask("busy", caller="busy"), typed("fix it", caller="one")
        for each in (busy, warming) if after == "it waited" else (warming, busy):
            scheduler.submit(each)
            if each is not warming or after == "it was stopped":
                decider.wait_for_arrival()
        question = ask("fix it", caller=caller)
        scheduler.submit(question)
        decider.opened.set()
        assert result(question)[0].tokens.evaluated == 1
        assert (result(warming).tokens, result(warming).evaluated) == (1, 0)
        n_decided = len(decider.log)
        again = ask("fix it", caller=caller)
        scheduler.submit(again)
        assert result(again)[0].tokens.evaluated == 0
        assert len(decider.log) == n_decided

    @pytest.mark.parametrize(
        "waiting",
        [None, typed("fix"), typed("fix it", whole=False), typed("fix it", OTHERS), typed("fix it", earlier=EARLIER)],
        ids=["nothing", "another text", "the beginning", "another table", "another conversation"],
    )
    def test_a_question_that_nothing_expected_is_not_kept(
        self, scheduler: Scheduler, decider: FakeDecider, waiting: WarmUp | None
    ) -> None:
        decider.close_gate()
        busy = ask("busy", caller="other")
        scheduler.submit(busy)
        decider.wait_for_arrival()
        for each in filter(None, [waiting]):
            scheduler.submit(each)
        decider.opened.set()
        for _ in range(2):
            question = ask("fix it")
            scheduler.submit(question)
            assert result(question)[0].tokens.evaluated == 1

    def test_a_program_that_waits_for_it_may_cancel_it(self, scheduler: Scheduler, decider: FakeDecider) -> None:
        decider.close_gate()
        warming = typed("fix it")
        scheduler.submit(warming)
        decider.wait_for_arrival()
        warming.answer.cancel()
        question = ask("fix it")
        scheduler.submit(question)
        decider.opened.set()
        assert result(question)[0].tokens.evaluated == 1


class NeedsWork(FakeDecider):
    """Decisions need some work that runs apart, as those that another machine makes."""

    def __init__(self) -> None:
        super().__init__()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.n_breaks = 0

    @property
    def epoch(self) -> int:
        return self.n_breaks

    def decide_many(self, table: RouteTable, conversations: Sequence[Sequence[Turn]], **settings: Any) -> list[Verdict]:
        text = conversations[0][-1].content

        def run(flag: Cancellation) -> None:
            self.log.append(("work", text))
            while not self.done.wait(0.002):
                flag.check()
            if self.error is not None:
                raise self.error

        def resume(_flag: Cancellation) -> list[Verdict]:
            return [verdict_of(text)]

        raise UnfinishedError(Work(object(), run, is_apart=True, is_for_these_alone=True), resume=resume)


class TestWork:
    @pytest.fixture
    def decider(self) -> FakeDecider:
        return NeedsWork()

    @pytest.fixture
    def done(self, decider: NeedsWork) -> Iterator[threading.Event]:
        yield decider.done
        decider.done.set()

    def test_it_waits_for_work_that_runs_apart(self, scheduler: Scheduler, decider: NeedsWork, done: threading.Event) -> None:
        """And those who ask the same meanwhile are answered by whoever is done first; both once."""
        warming, question = typed("fix it"), ask("fix it")
        scheduler.submit(warming)
        until(lambda: bool(decider.log))
        scheduler.submit(question)
        until(lambda: len(decider.log) == 2)
        done.set()
        assert result(question)[0].route == "fix it"
        assert result(warming).tokens == 1
        again = ask("fix it")
        scheduler.submit(again)
        assert result(again)[0].tokens.evaluated == 0
        assert len(decider.log) == 2

    def test_typing_on_stops_the_work(self, scheduler: Scheduler, decider: NeedsWork, done: threading.Event) -> None:
        account = Account(9)
        older, newer = typed("fix", account=account), typed("fix it", account=account)
        scheduler.submit(older)
        until(lambda: bool(decider.log))
        scheduler.submit(newer)
        with pytest.raises(CancelledError):
            result(older)
        until(lambda: len(decider.log) == 2)
        assert len([name for name in our_threads() if "apart" in name]) <= 2
        done.set()
        assert result(newer).tokens == 1

    def test_its_verdict_is_not_kept_after_a_break(
        self, scheduler: Scheduler, decider: NeedsWork, done: threading.Event
    ) -> None:
        """Whoever asked for it. Would break if a former model's answer, here before the break, was taken for the next one's."""
        question, warming = ask("fix it"), typed("fix it")
        scheduler.submit(question)
        until(lambda: len(decider.log) == 1)
        scheduler.submit(warming)
        until(lambda: len(decider.log) == 2)
        decider.n_breaks += 1
        done.set()
        result(question)
        result(warming)
        again = ask("fix it")
        scheduler.submit(again)
        assert result(again)[0].tokens.evaluated == 1

    def test_its_error_is_the_warm_ups(self, scheduler: Scheduler, decider: NeedsWork, done: threading.Event) -> None:
        decider.error = EngineError("no answer")
        done.set()
        warming = typed("fix it")
        scheduler.submit(warming)
        with pytest.raises(EngineError, match="no answer"):
            result(warming)

    def test_closing_does_not_wait_for_it(self, decider: NeedsWork) -> None:
        scheduler = Scheduler(decider)
        warming = typed("fix it")
        scheduler.submit(warming)
        until(lambda: bool(decider.log))
        scheduler.release()
        scheduler.join()
        assert warming.answer.done()
        assert decider.is_closed


Models = Callable[[str], str]


@pytest.fixture
def models(random_model: Path, random_encoder: Path, bundled_model: Path) -> Models:
    names = {
        "random": str(random_model),
        "bundled": str(bundled_model),
        "encoder": str(random_encoder),
        "cascade": f"{random_encoder}+{random_model}",
    }
    return names.__getitem__


# As in tests/decoding/test_reuse.py. An encoder's vector is the same in each evaluation.
TOLERANCE = {"random": 2e-3, "bundled": 0.08, "encoder": 1e-6, "cascade": 2e-3}


def open_router(name: str, models: Models, **settings: Any) -> Router:
    more: dict[str, Any] = {"switch_over": 1.0} if name == "cascade" else {}
    return Router(ROUTES, model=models(name), prefix_cache=False, threads=1, **more, **settings)


@pytest.mark.parametrize("name", TOLERANCE)
@pytest.mark.parametrize("earlier", [(), EARLIER], ids=["first message", "in a conversation"])
def test_the_decision_is_that_of_a_cold_router(name: str, models: Models, earlier: Sequence[Turn]) -> None:
    """With the pauses that come before it, with scores and without; the decision itself evaluates nothing."""
    messages = [{"role": turn.role, "content": turn.content} for turn in turns_of(TYPED, earlier)]
    with open_router(name, models) as router:
        cold = router.route(messages, scores=True)
    with open_router(name, models) as router:
        for n_typed in (10, 30, len(TYPED)):
            so_far = [*messages[:-1], {"role": "user", "content": TYPED[:n_typed]}]
            router.warm(so_far)
            warmed = router.warm(so_far, whole=True, scores=True)
        for scores in (True, False):
            found = router.route(messages, scores=scores)
            assert (found.route, found.decided_by, found.reason) == (cold.route, cold.decided_by, cold.reason)
            assert found.confidence == pytest.approx(cold.confidence, abs=TOLERANCE[name])
            assert found.tokens.prompt == found.tokens.reused == cold.tokens.prompt == warmed.tokens
            assert found.tokens.evaluated == found.tokens.answer == found.tokens.evaluations == 0
            assert (found.scores is None) == (not scores)
            if found.scores is not None:
                assert found.scores == pytest.approx(dict(cold.scores or {}), abs=TOLERANCE[name])
        assert found.timings.evaluate_ms == found.timings.score_ms == 0


def test_scores_that_were_not_asked_for_cost_the_answers_alone(random_model: Path) -> None:
    """One token of the prompt, and those of the answers."""
    with Router(ROUTES, model=random_model, prefix_cache=False, threads=1) as router:
        warmed = router.warm(TYPED, whole=True)
        assert warmed.evaluated > warmed.tokens
        tokens = router.route(TYPED, scores=True).tokens
        assert tokens.prompt - tokens.reused == 1
        assert tokens.answer > 0


def test_each_pause_evaluates_the_end_alone(random_model: Path, bundled_model: Path) -> None:
    """Would break if decisions on what is not finished pushed other conversations out of the KV cache, one a pause."""
    for model in (random_model, bundled_model):
        with Router(ROUTES, model=model, prefix_cache=False, threads=1) as router:
            others = [f"another conversation, number {number}" for number in range(10)]
            for each in others:
                router.route(each)
            n_closing = router.decider.prompt.static_parts(ROUTES).n_closing  # type: ignore[attr-defined]
            before = router.warm(TYPED[:9]).tokens
            for n_typed in range(10, len(TYPED), 2):
                warmed = router.warm(TYPED[:n_typed], whole=True)
                # What was typed since, a token or two that it changed, the end of the prompt, and the answer.
                assert warmed.evaluated <= max(0, warmed.tokens - n_closing - before) + n_closing + 20
                before = warmed.tokens - n_closing
            assert router.n_evictions == 0
            for each in others:
                tokens = router.route(each).tokens
                assert tokens.prompt - tokens.reused <= n_closing + 2


def test_a_message_that_goes_on_loses_its_end_alone(service: RoutingService, gate: Gate) -> None:
    """Its beginning, which the message that is sent needs, is finished; its end, which that has no use for, is not."""
    gate.close()
    warming = service.warm(TYPED, whole=True)
    gate.wait_for_arrival()
    question = service.submit(TYPED + " in line 3")
    gate.open()
    decision = question.result(PATIENCE_S)
    with pytest.raises(CancelledError):
        warming.result(PATIENCE_S)
    n_closing = service.router.decider.prompt.static_parts(ROUTES).n_closing  # type: ignore[attr-defined]
    assert decision.tokens.prompt - decision.tokens.reused <= n_closing + 8


def test_a_decision_of_another_caller_does_not_wait(service: RoutingService, gate: Gate, busy: Future[Decision]) -> None:
    """It is stopped inside llama.cpp, and what it decides afterwards is right."""
    gate.open()
    busy.result(PATIENCE_S)
    gate.close()
    warming = service.warm(TYPED, whole=True, caller="one")
    gate.wait_for_arrival()
    other = service.submit("write a poem about the sea", caller="other")
    # It has left when the next evaluation arrives at the gate.
    until(lambda: service.stats().preempted == 1)
    assert not warming.done()
    gate.open()
    assert other.result(PATIENCE_S).tokens.evaluated > 0
    warming.result(PATIENCE_S)
    decision = service.submit(TYPED, caller="one").result(PATIENCE_S)
    assert decision.tokens.evaluated == 0
    with Router(ROUTES, model=service.router.model_file.path, prefix_cache=False) as router:
        assert router.route(TYPED).confidence == pytest.approx(decision.confidence, abs=2e-3)


def test_a_cascade_asks_and_loads_its_model_only_if_it_is_unsure(random_encoder: Path, random_model: Path) -> None:
    for switch_over, decided_by in ((0.0, random_encoder.name), (1.0, random_model.name)):
        with Router(
            ROUTES, model=f"{random_encoder}+{random_model}", prefix_cache=False, threads=1, switch_over=switch_over
        ) as router:
            router.warm(TYPED, whole=True)
            assert (router.n_ctx > 0) == (switch_over > 0)
            decision = router.route(TYPED)
            assert (decision.decided_by, decision.tokens.evaluated) == (decided_by, 0)
            # Nor does it evaluate anything in a model that is loaded.
            router.decider.switch_over = 0.0  # type: ignore[attr-defined]
            n_text = router.warm("a poem", whole=True).evaluated
            assert n_text < router.warm("a poem").tokens
            assert n_text < 10


@pytest.mark.parametrize("name", ["random", "encoder", "cascade"])
def test_a_message_that_is_sent_before_the_pause_is_over_is_decided_once(name: str, models: Models) -> None:
    """With a warm-up that waits, as each does while another caller's decision runs."""
    with RoutingService(open_router(name, models)) as service:
        busy = service.submit("write a poem about the sea", caller="other")
        service.warm(TYPED, whole=True, caller="one")
        first = service.submit(TYPED, caller="one").result(PATIENCE_S)
        again = service.submit(TYPED, caller="one").result(PATIENCE_S)
        assert again.tokens.evaluated == 0
        assert (again.route, again.confidence, again.decided_by) == (first.route, first.confidence, first.decided_by)
        busy.result(PATIENCE_S)


def test_another_configuration_decides_by_its_own_routes(service: RoutingService) -> None:
    """The verdicts are the model's, and outlast a reload; the models and keys are the configuration's."""
    service.warm(TYPED, whole=True).result(PATIENCE_S)
    config = replace(service.router.config, default_model="another")
    service.replace(service.router.with_config(config))
    decision = service.submit(TYPED).result(PATIENCE_S)
    assert decision.tokens.evaluated == 0
    if not decision.matched:
        assert decision.model == "another"
    assert service.submit(TYPED, routes=OTHERS).result(PATIENCE_S).tokens.evaluated > 0


def test_messages_without_text_warm_the_routes(random_model: Path) -> None:
    with Router(ROUTES, model=random_model, prefix_cache=False, threads=1) as router:
        assert router.warm([], whole=True).tokens == router.warm().tokens
        with pytest.raises(SettingsError, match="whole is about messages"):
            router.warm(whole=True)
        with pytest.raises(SettingsError, match="give whole, too"):
            router.warm(TYPED, scores=True)
