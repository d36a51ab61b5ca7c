"""Deadlines and cancellation of a router: there is an answer in time, and the next decision is right."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import OTHER, Cancellation, Decision, Route, Router
from archroute_edge.config import RoutingConfig
from archroute_edge.deciders import GenerativeDecider
from archroute_edge.deciders import _open_decider as opening
from archroute_edge.engine import BatchToken, EmbeddingEngine, LlamaEngine, LoadedModel, Logits, Vectors
from archroute_edge.errors import ContextOverflowError, DecisionCancelledError, EngineError, ModelLoadError, SettingsError
from archroute_edge.routes import RouteTable
from archroute_edge.routing import RoutingService
from tests.gate import PATIENCE_S, Gate, our_threads
from tests.routing.conftest import SlowMessages

ROUTES = RouteTable([Route("bug_fixing", "fixing errors in code", ("large",)), Route("poems", "writing poems", ("small",))])
OTHERS = [Route("cooking", "recipes and meals"), Route("travel", "trips and hotels")]
CONFIG = RoutingConfig(ROUTES, default_model="default")
LONG = "the test fails with an IndexError and I do not know why; " * 60


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


@pytest.fixture
def router(random_model: Path, gate: Gate) -> Iterator[Router]:
    with Router(config=CONFIG, model=random_model, prefix_cache=False) as router:
        yield router
        gate.open()


def same(one: Decision, two: Decision) -> bool:
    assert one.scores is not None
    assert two.scores is not None
    return one.route == two.route and one.scores == pytest.approx(two.scores, abs=1e-3)


def test_a_deadline_that_is_kept_changes_nothing(router: Router) -> None:
    assert same(router.route("fix it", scores=True, deadline=PATIENCE_S), router.route("fix it", scores=True))


def test_at_the_deadline_the_default_model_stands_in(router: Router, gate: Gate) -> None:
    """Would break if a thread in the middle of an evaluation could not leave it."""
    router.warm()
    gate.close()
    decision = router.route("fix it", deadline=0.2, scores=True)
    assert (decision.route, decision.matched, decision.model, decision.reason) == (OTHER, False, "default", "deadline")
    assert (decision.decided_by, decision.confidence, decision.scores) == (None, 0.0, None)
    assert 150 < decision.timings.total_ms < 2000
    gate.open()
    assert router.route("fix it").reason is None


def test_reading_the_messages_counts(router: Router, gate: Gate) -> None:
    """From the call on, so that a conversation of many messages has no more time than another."""
    router.warm()
    gate.close()
    decision = router.route(SlowMessages([{"role": "user", "content": "fix it"}]), deadline=0.1)
    assert decision.reason == "deadline"
    assert decision.timings.total_ms >= 200


@pytest.mark.parametrize("is_own", [True, False])
def test_a_callback_that_asks_holds_up_no_other_deadline(router: Router, gate: Gate, is_own: bool) -> None:
    """It runs in the thread that keeps deadlines, and waits there for this router, or for another one."""
    router.warm()
    called, asked = threading.Event(), threading.Event()
    with Router(OTHERS, model=router.model_file.path, prefix_cache=False) as other, RoutingService(router) as service:
        other.warm()
        gate.close()

        def ask(_future: object) -> None:
            called.set()
            (router if is_own else other).route("write a poem")
            asked.set()

        try:
            # The owner is busy, so that it does not answer itself.
            service.submit("a question that takes long")
            gate.wait_for_arrival()
            service.submit("fix it", deadline=0.1).add_done_callback(ask)
            assert called.wait(PATIENCE_S)
            late = service.submit("fix it, please", deadline=0.1).result(PATIENCE_S)
            assert late.reason == "deadline" and not asked.is_set()
        finally:
            gate.open()
        assert asked.wait(PATIENCE_S)


def test_the_static_prefix_is_finished_beyond_the_deadline(router: Router, gate: Gate) -> None:
    """Would break if a machine that is slower than the deadline started again with every decision, and never answered."""
    gate.close()
    for _ in range(2):
        assert router.route("fix it", deadline=0.05).reason == "deadline"
    gate.open()
    decision = router.route("fix it", deadline=PATIENCE_S, scores=True)
    assert decision.reason is None
    assert decision.tokens.reused >= router.warm().tokens - 1
    with Router(config=CONFIG, model=router.model_file.path, prefix_cache=False) as fresh:
        assert same(decision, fresh.route("fix it", scores=True))


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), True, "soon", 1e9])
def test_deadlines_that_are_no_times(router: Router, deadline: Any) -> None:
    with pytest.raises(SettingsError, match=r"deadline is .*; it must be a number of seconds"):
        router.route("fix it", deadline=deadline)


def test_a_decision_is_cancelled_from_another_thread(router: Router, gate: Gate) -> None:
    """While it is evaluated, while it waits for another one, and before it began; also where it has a deadline."""
    router.warm()
    gate.close()
    running, waiting = Cancellation(), Cancellation()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(router.route, "fix it", cancellation=running)
        gate.wait_for_arrival()
        second = pool.submit(router.route, "write a poem", cancellation=waiting, deadline=PATIENCE_S)
        for flag, future in ((waiting, second), (running, first)):
            flag.cancel()
            with pytest.raises(DecisionCancelledError):
                future.result(PATIENCE_S)
    gate.open()
    for ask in (router.route, router.warm):
        with pytest.raises(DecisionCancelledError):
            ask("fix it", cancellation=running)
    assert router.route("fix it", cancellation=Cancellation()).reason is None


@pytest.mark.parametrize("n_pieces", [1, 2, 3])
def test_decisions_after_an_abort_are_those_of_a_fresh_router(
    random_model: Path, monkeypatch: pytest.MonkeyPatch, n_pieces: int
) -> None:
    """Would break if cells of a half-evaluated prompt were taken for whole ones, or a finished piece were not reused."""
    conversation = [{"role": "user", "content": LONG}]
    with Router(ROUTES, model=random_model, prefix_cache=False) as fresh:
        fresh.warm()
        expected = fresh.route(conversation, scores=True)
        earlier = fresh.route("an earlier question", scores=True)
    with Router(ROUTES, model=random_model, prefix_cache=False) as router:
        router.warm()
        router.route("an earlier question")
        flag = Cancellation()
        evaluate, n_begun = LlamaEngine._evaluate_piece, 0

        def stop_llama_cpp(engine: LlamaEngine, piece: Sequence[BatchToken]) -> Logits | None:
            nonlocal n_begun
            n_begun += 1
            if n_begun == n_pieces:
                flag.cancel()
            return evaluate(engine, piece)

        with monkeypatch.context() as patch, pytest.raises(DecisionCancelledError):
            patch.setattr(LlamaEngine, "_evaluate_piece", stop_llama_cpp)
            router.route(conversation, scores=True, cancellation=flag)
        assert n_begun == n_pieces
        decision = router.route(conversation, scores=True)
        assert same(decision, expected)
        assert decision.tokens.prompt == expected.tokens.prompt
        assert decision.tokens.reused == expected.tokens.reused + 512 * (n_pieces - 1)
        again = router.route("an earlier question", scores=True)
        assert same(again, earlier)
        assert again.tokens.reused > router.warm().tokens + 5


def cascade(encoder: Path, model: Path) -> Router:
    return Router(config=CONFIG, model=f"{encoder}+{model}", prefix_cache=False, switch_over=1.0)


def test_the_encoders_answer_stands_where_the_model_is_late(random_encoder: Path, random_model: Path, gate: Gate) -> None:
    """With its models and its scores: would break if a cascade at its deadline were worth less than its encoder."""
    with Router(config=CONFIG, model=random_encoder, prefix_cache=False) as alone:
        expected = alone.route("fix it", scores=True)
    with cascade(random_encoder, random_model) as router:
        router.route("fix it")
        router.warm()
        gate.close()
        decision = router.route("fix it", scores=True, deadline=0.2)
        assert (decision.route, decision.model, decision.scores) == (expected.route, expected.model, expected.scores)
        assert (decision.reason, decision.decided_by) == ("deadline", random_encoder.name)
        gate.open()
        assert router.route("fix it", deadline=PATIENCE_S).decided_by == random_model.name


def test_loading_the_second_model_goes_on_beyond_the_deadline(
    random_encoder: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a model that takes longer to load than the deadline were loaded again and again, or waited for."""
    loaded, may_load = [], threading.Event()

    class SlowModel(LoadedModel):
        def __init__(self, path: Path, **settings: Any) -> None:
            if path == random_model:
                loaded.append(path)
                assert may_load.wait(PATIENCE_S)
            super().__init__(path, **settings)

    monkeypatch.setattr(opening, "LoadedModel", SlowModel)
    with cascade(random_encoder, random_model) as router:
        for _ in range(2):
            decision = router.route("fix it", deadline=0.3)
            assert (decision.reason, decision.decided_by) == ("deadline", random_encoder.name)
        may_load.set()
        assert router.route("fix it", deadline=PATIENCE_S).decided_by == random_model.name
        assert len(loaded) == 1


def test_loading_stops_at_the_flag(random_model: Path) -> None:
    """And closing a cascade does not wait for a gigabyte to be read."""
    flag = Cancellation()
    flag.cancel()
    with pytest.raises(DecisionCancelledError):
        LoadedModel(random_model, cancellation=flag)
    with pytest.raises(ModelLoadError), pytest.MonkeyPatch.context() as patch:
        patch.setattr("llama_cpp.llama_model_load_from_file", lambda *_arguments: None)
        LoadedModel(random_model)


MANY_ROUTES = [Route(f"route_{number}", "what is asked about code, meals and trips " * 4) for number in range(60)]


def test_an_encoders_vectors_of_a_table_hold_up_no_other_table(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a decision waited until the many routes that came with another one have their vectors."""
    may_end, evaluate = threading.Event(), EmbeddingEngine._evaluate

    def wait_and_evaluate(engine: EmbeddingEngine, texts: Sequence[Sequence[int]], cancellation: Cancellation) -> Vectors:
        while len(texts) > 1 and not may_end.wait(0.002):
            cancellation.check()
        return evaluate(engine, texts, cancellation)

    with Router(config=CONFIG, model=random_encoder, prefix_cache=False) as router:
        monkeypatch.setattr(EmbeddingEngine, "_evaluate", wait_and_evaluate)
        assert router.route("fix it", routes=MANY_ROUTES, deadline=0.05).reason == "deadline"
        assert router.route("fix it", deadline=5).reason is None
        may_end.set()
        assert router.route("fix it", routes=MANY_ROUTES, deadline=PATIENCE_S).reason is None


def test_vectors_that_are_finished_are_not_evaluated_again(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a table with more routes than there ever is time for were begun again each time."""
    with Router(MANY_ROUTES, model=random_encoder, prefix_cache=False) as fresh:
        expected = fresh.route("fix it", scores=True)
    evaluate, n_texts, flag = EmbeddingEngine._evaluate, 0, Cancellation()

    def count_and_evaluate(engine: EmbeddingEngine, texts: Sequence[Sequence[int]], cancellation: Cancellation) -> Vectors:
        nonlocal n_texts
        vectors = evaluate(engine, texts, cancellation)
        n_texts += len(texts)
        flag.cancel()
        return vectors

    with Router(config=CONFIG, model=random_encoder, prefix_cache=False) as router:
        monkeypatch.setattr(EmbeddingEngine, "_evaluate", count_and_evaluate)
        with pytest.raises(DecisionCancelledError):
            router.warm(routes=MANY_ROUTES, cancellation=flag)
        assert 0 < n_texts < len(MANY_ROUTES)
        assert same(router.route("fix it", routes=MANY_ROUTES, scores=True), expected)
        assert n_texts == len(MANY_ROUTES) + 1


def test_closing_does_not_wait_for_what_goes_on(random_model: Path, gate: Gate) -> None:
    """Would break if a closed router left a thread behind, or freed the model under it."""
    router = Router(config=CONFIG, model=random_model, prefix_cache=False)
    gate.close()
    assert router.route("fix it", deadline=0.05).reason == "deadline"
    router.close()
    assert not our_threads()
    with pytest.raises(EngineError, match="has been closed"):
        router.route("fix it", deadline=1)


def test_routers_share_a_model(random_model: Path) -> None:
    """Would break if a new configuration loaded the weights again, or closing one router closed the other's model."""
    config = RoutingConfig(RouteTable(OTHERS), default_model="elsewhere")
    router = Router(config=CONFIG, model=random_model, prefix_cache=False)
    other = router.with_config(config)
    assert other.decider is router.decider
    first = router.route("fix it", scores=True)
    router.close()
    with pytest.raises(EngineError):
        router.route("fix it")
    with pytest.raises(EngineError):
        router.with_config(CONFIG)
    assert set(other.route("a recipe", scores=True).scores or ()) == {"cooking", "travel", OTHER}
    assert same(other.route("fix it", routes=ROUTES, scores=True), first)
    router.close()
    assert other.route("a recipe").reason is None
    other.close()
    with pytest.raises(EngineError):
        other.decider  # noqa: B018


@pytest.mark.parametrize("fits", [True, False])
def test_a_router_may_be_closed_while_another_is_made_from_it(
    random_model: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    """Would break if the end of a server freed the model that a new configuration is being checked with: a crash."""
    router = Router(config=CONFIG, model=random_model, prefix_cache=False)
    assert router.route("fix it", deadline=PATIENCE_S).reason is None
    model, check = router.decider.model, GenerativeDecider.check_table

    def close_and_check(decider: GenerativeDecider, table: RouteTable) -> None:
        router.close()
        check(decider, table)

    monkeypatch.setattr(GenerativeDecider, "check_table", close_and_check)
    if fits:
        with router.with_config(RoutingConfig(RouteTable(OTHERS))) as other:
            assert set(other.route("a recipe", scores=True).scores or ()) == {"cooking", "travel", OTHER}
    else:
        with pytest.raises(ContextOverflowError):
            router.with_config(RoutingConfig(RouteTable([Route("long", LONG * 30)])))
    assert not our_threads()
    with pytest.raises(EngineError, match="closed"):
        model.vocabulary.tokenize("it is freed with the last router")
