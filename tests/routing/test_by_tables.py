"""One conversation held against several route tables."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import OTHER, Route, Router, RouteTable
from archroute_edge.conversation import Turn
from archroute_edge.deciders import UnfinishedError
from archroute_edge.decision import Verdict
from archroute_edge.engine import Cancellation
from archroute_edge.errors import SettingsError
from archroute_edge.routing import RoutingService
from archroute_edge.routing._scheduler import Scheduler
from tests.fakes import FakeDecider, verdict_of
from tests.gate import PATIENCE_S
from tests.routing.conftest import SlowMessages, until
from tests.routing.test_scheduler import OTHERS, OWN, ask

TABLES = [
    RouteTable([Route("fix_bugs", "write code and fix bugs"), Route("cook_dinner", "cook a dinner, book a table")]),
    RouteTable([Route("translate", "translate a text into another language")]),
    RouteTable([Route("plan"), Route("trips"), Route("fix")]),
]
MESSAGE = "please fix this bug"


def decided(router: Router, tables: Sequence[RouteTable], deadline: float | None = None) -> list[str | None]:
    """Who decides on each table, with the scores that the table has alone."""
    with RoutingService(router.with_config(router.config)) as service:
        found = service.submit_by_tables(MESSAGE, tables, scores=True, deadline=deadline).result(PATIENCE_S)
    alone = [router.route(MESSAGE, routes=table, scores=True) for table in tables]
    assert [each.scores for each in found] == [pytest.approx(each.scores, abs=1e-3) for each in alone]
    return [each.decided_by for each in found]


@pytest.mark.parametrize("deadline", [None, PATIENCE_S])
def test_an_encoder_reads_the_conversation_once(random_encoder: Path, deadline: float | None) -> None:
    with Router(TABLES[0], model=random_encoder, prefix_cache=False) as router:
        for _ in range(2):
            with RoutingService(router.with_config(router.config)) as service:
                found = service.submit_by_tables(MESSAGE, TABLES, scores=True, deadline=deadline).result(PATIENCE_S)
        n_message = found[0].tokens.evaluated
        assert [each.tokens.evaluated for each in found] == [n_message, 0, 0]
        assert [each.tokens.evaluations for each in found] == [1, 0, 0]
        alone = [router.route(MESSAGE, routes=table, scores=True) for table in TABLES]
        assert [each.scores for each in found] == [each.scores for each in alone]
        assert [each.tokens.prompt for each in found] == [each.tokens.prompt for each in alone]
        assert {each.model for each in found} == {None}


@pytest.mark.parametrize("deadline", [None, PATIENCE_S])
def test_a_language_model_takes_one_table_after_another(random_model: Path, deadline: float | None) -> None:
    with Router(TABLES[0], model=random_model, prefix_cache=False, threads=1) as router:
        deciders = decided(router, TABLES, deadline)
    assert deciders == [random_model.name] * 3


@pytest.mark.parametrize("deadline", [None, PATIENCE_S])
def test_a_cascade_asks_its_model_by_the_tables_that_are_unsure(
    random_encoder: Path, random_model: Path, deadline: float | None
) -> None:
    with Router(TABLES[0], model=random_encoder, prefix_cache=False) as encoder:
        confidences = [encoder.route(MESSAGE, routes=table).confidence for table in TABLES]
    threshold = sorted(confidences)[1]
    model = f"{random_encoder}+{random_model}"
    with Router(TABLES[0], model=model, prefix_cache=False, threads=1, switch_over=threshold) as router:
        deciders = decided(router, TABLES, deadline)
    expected = [(random_encoder if confidence >= threshold else random_model).name for confidence in confidences]
    assert deciders == expected
    assert len(set(deciders)) == 2


def test_a_conversation_without_text_asks_no_model(random_encoder: Path) -> None:
    with RoutingService(Router(TABLES[0], model=random_encoder, prefix_cache=False)) as service:
        found = service.submit_by_tables([{"role": "system", "content": "s"}], TABLES).result(PATIENCE_S)
        assert [(each.route, each.reason) for each in found] == [(OTHER, "no_user_text")] * 3
        with pytest.raises(SettingsError, match="there are no tables"):
            service.submit_by_tables(MESSAGE, [])


def test_others_have_their_turn_between_two_tables() -> None:
    """Would break if 100 questions about one conversation kept everybody waiting until the last one is answered."""
    decider = FakeDecider()
    scheduler = Scheduler(decider)
    decider.close_gate()
    many = ask("many", OWN, tables=[OWN] * 3, caller="a")
    scheduler.submit(many)
    decider.wait_for_arrival()
    single = ask("single", OTHERS, caller="b")
    scheduler.submit(single)
    decider.opened.set()
    assert many.answer.result(PATIENCE_S) == ["many"] * 3
    assert single.answer.result(PATIENCE_S) == ["single"]
    assert [text for kind, text in decider.log if kind == "decide"] == ["many", "single", "many", "many"]
    scheduler.release()
    scheduler.join()


def test_at_the_deadline_what_is_decided_stands() -> None:
    """The rest is the fallback, or the quick answer of a decider that has one."""
    decider = FakeDecider()
    decider.answer_at_once = verdict_of("quick")
    scheduler = Scheduler(decider)
    first, second = RouteTable([Route("first")]), RouteTable([Route("second")])
    began: list[int] = []

    def stop_at_second(*arguments: object, **settings: object) -> list[object]:
        began.append(1)
        if len(began) == 2:
            decider.close_gate()
        return FakeDecider.decide_many(decider, *arguments, **settings)  # type: ignore[arg-type, return-value]

    decider.decide_many = stop_at_second  # type: ignore[assignment, method-assign]
    many = ask("many", first, tables=[first, second, second], deadline=0.3)
    scheduler.submit(many)
    found = many.answer.result(PATIENCE_S)
    assert found[0] == "many"
    assert set(found[1:]) <= {"quick", None}
    decider.opened.set()
    until(lambda: scheduler._turn is None)
    scheduler.release()
    scheduler.join()


def test_it_counts_the_texts_of_all_its_tables() -> None:
    """What waits is bounded in bytes."""
    large = RouteTable([Route("a", "x" * 100_000)])
    assert ask("many", large, tables=[large] * 5, keep=False).n_bytes > 500_000


def test_at_its_deadline_a_cascade_has_what_its_encoder_has_decided(
    random_encoder: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is evaluated again, beside whatever uses the encoder then."""
    model, name = f"{random_encoder}+{random_model}", random_encoder.name
    with Router(TABLES[0], model=random_encoder, prefix_cache=False) as encoder:
        confidences = [encoder.route(MESSAGE, routes=table).confidence for table in TABLES]
    threshold = sorted(confidences)[1]
    with Router(TABLES[0], model=model, prefix_cache=False, threads=1, switch_over=threshold) as router:
        for table in TABLES:
            router.warm(routes=table)
        loaded = threading.Event()
        monkeypatch.setattr(router.decider, "_open_second", lambda *_: loaded.wait(PATIENCE_S))
        monkeypatch.setattr(router.decider, "stand_in_by_tables", lambda tables, *_, **__: [None] * len(tables))
        with RoutingService(router.with_config(router.config)) as service:
            found = service.submit_by_tables(MESSAGE, TABLES, deadline=0.3).result(PATIENCE_S)
        loaded.set()
    assert [each.decided_by for each in found] == [name] * 3
    reasons = [None if confidence >= threshold else "deadline" for confidence in confidences]
    assert [each.reason for each in found] == reasons


def test_reading_the_messages_counts(random_encoder: Path) -> None:
    """The deadline is one from the call on, as that of `route`."""
    with Router(TABLES[0], model=random_encoder, prefix_cache=False) as router:
        for table in TABLES:
            router.warm(routes=table)
        with RoutingService(router.with_config(router.config)) as service:
            messages = SlowMessages([{"role": "user", "content": MESSAGE}])
            found = service.submit_by_tables(messages, TABLES, deadline=0.1).result(PATIENCE_S)
    assert [each.reason for each in found] == ["deadline"] * 3


def test_what_a_cascade_has_decided_stands_when_others_come_first(
    random_encoder: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not have its turn again before the deadline."""
    with Router(TABLES[0], model=f"{random_encoder}+{random_model}", prefix_cache=False, threads=1, switch_over=1.0) as router:
        router.route(MESSAGE)
        second, flag = router.decider._second, Cancellation()  # type: ignore[attr-defined]
        decide = second.decide

        def decide_and_wait(*arguments: Any, **options: Any) -> Verdict:
            found: Verdict = decide(*arguments, **options)
            flag.give_way()
            return found

        monkeypatch.setattr(second, "decide", decide_and_wait)
        with pytest.raises(UnfinishedError) as caught:
            router.decider.decide_by_tables(TABLES, [Turn("user", MESSAGE)], cancellation=flag)
    encoder, model = random_encoder.name, random_model.name
    found = [(each.decided_by, each.reason) for each in caught.value.found]
    assert found == [(model, None), (encoder, "deadline"), (encoder, "deadline")]


def test_what_a_cascade_is_asked_at_deadlines_waits_for_what_runs(
    random_encoder: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of a table are computed past deadlines: llama.cpp would end the process if the encoder were used twice."""
    model = f"{random_encoder}+{random_model}"
    large = RouteTable([Route(f"r{number}", "translate a text into another language " * 12) for number in range(60)])
    with Router(TABLES[0], model=model, prefix_cache=False, threads=1, switch_over=1.0) as router:
        router.warm(routes=TABLES[0])
        working = threading.Thread(target=lambda: router.decider._encoder._routes.of(large, keep=False))  # type: ignore[attr-defined]
        working.start()
        turns = [Turn("user", MESSAGE * 30)]
        n_answers = 0
        while working.is_alive():
            answer = router.decider.stand_in(TABLES[0], turns, time_limit=0.5)
            n_answers += answer is not None
        working.join()
    assert n_answers > 1


def test_at_its_deadline_a_cascade_has_its_encoders_answers(random_encoder: Path, random_model: Path) -> None:
    model = f"{random_encoder}+{random_model}"
    with Router(TABLES[0], model=model, prefix_cache=False, threads=1, switch_over=1.0) as router:
        for table in TABLES:
            router.warm(routes=table)
        found = router.decider.stand_in_by_tables(TABLES, [Turn("user", MESSAGE)], scores=True)
        assert [each and each.decided_by for each in found] == [random_encoder.name] * 3
        assert [each and each.reason for each in found] == ["deadline"] * 3
        assert list(router.decider.stand_in_by_tables(TABLES, [Turn("user", MESSAGE)], time_limit=0.0)) == [None] * 3
