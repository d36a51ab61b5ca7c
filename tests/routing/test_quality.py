"""Routes that prefer ``quality``, at the router: whose vector a predictor is given, and when its file is read."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archroute_edge.quality
from archroute_edge import Decision, Route, Router, RoutingService
from archroute_edge.config import parse_config
from archroute_edge.conversation import read_messages
from archroute_edge.deciders import TRAINED_TOKENS, conversation_text, find_models
from archroute_edge.engine import EmbeddingEngine, LoadedModel, Vectors
from archroute_edge.errors import ConfigError, EngineError, QualityError
from archroute_edge.quality import Predictor
from archroute_edge.routing._route_quality import SharedReader
from archroute_edge.server import ServerSettings, StdioSettings
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.stdio._session import Session
from tests.cli.conftest import Run, run
from tests.fake_predictor import FakePredictor, harder_when_longer
from tests.gate import PATIENCE_S
from tests.server.conftest import Client

__all__ = ["run"]

CONFIG_TEXT = """
default_model: m/default
routing_preferences:
  - name: bug_fixing
    description: identifying and fixing errors in code
    models: [m/small, m/large]
    selection_policy: {prefer: quality, predictor: p.safetensors, rate: 60}
  - {name: poems, description: writing poems, models: [m/a, m/b]}
archroute:
  models:
    m/small: {price: {input: 0, output: 0}}
    m/large: {price: {input: 2, output: 16}}
"""
CONFIG = parse_config(CONFIG_TEXT)
BUG = "my unit test stops with an IndexError"
LONG_BUG = "my unit test stops with an IndexError: " + "list index out of range, " * 5
POEM = "write a poem about the sea"
MINI = find_models("mini")[0].path
Use = Callable[[Predictor], Predictor]


def identity(path: str | Path) -> str:
    return Path(path).name


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Have any file hold this predictor."""

    def use(predictor: Predictor) -> Predictor:
        monkeypatch.setattr(archroute_edge.quality, "load_predictor", lambda _path: predictor)
        monkeypatch.setattr(archroute_edge.quality, "encoder_identity", identity)
        return predictor

    return use


def with_vectors() -> FakePredictor:
    return FakePredictor(encoder=identity(MINI))


@pytest.fixture(scope="module")
def vector_of() -> Iterator[Callable[[Any], Vectors]]:
    """What the bundled encoder gives a conversation by itself."""
    with LoadedModel(MINI, wanted="encoder") as model:
        engine = EmbeddingEngine(model, 1, TRAINED_TOKENS)
        yield lambda messages: engine.embed([engine.encode(conversation_text(read_messages(messages)))])
        engine.close()


def check(decision: Decision | dict[str, Any], first: str) -> None:
    plain = decision.to_dict() if isinstance(decision, Decision) else decision
    assert (plain["route"], plain["model"], plain["model_reason"]) == ("bug_fixing", first, "quality")
    assert [each["model"] for each in plain["targets"]] == plain["models"]
    assert [each["why"] for each in plain["targets"]] == ["best_value", "lower_value"]


CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}, {"role": "user", "content": BUG}]


@pytest.mark.parametrize("messages", [BUG, LONG_BUG, CHAT], ids=["short", "long", "chat"])
def test_a_predictor_is_given_the_vector_that_the_encoder_has_decided_by(
    use: Use, vector_of: Callable[[Any], Vectors], messages: Any
) -> None:
    """Another vector than the one that it was trained on would make its scores noise that nobody notices."""
    predictor = use(with_vectors())
    assert isinstance(predictor, FakePredictor)
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        decision = router.route(messages)
        assert router._quality is not None and not router._quality.readers
    ((asked),) = predictor.asked
    assert asked.vectors is not None and asked.vectors.shape == (1, 384)
    assert np.abs(asked.vectors - vector_of(messages)).max() < 1e-6
    assert asked.texts == (messages if isinstance(messages, str) else BUG,)
    assert decision.targets is not None
    small, large = 0.5 + 0.5 * asked.vectors[0, :2]
    found = {each.model: each.expected_score for each in decision.targets}
    assert found == pytest.approx({"m/small": float(small), "m/large": float(large)}, abs=1e-6)


def test_several_conversations_have_a_vector_each(use: Use, vector_of: Callable[[Any], Vectors]) -> None:
    predictor = use(with_vectors())
    assert isinstance(predictor, FakePredictor)
    texts = [BUG, POEM, LONG_BUG, "", "another bug in my code"]
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        decisions = router.route_many(texts)
    assert [each.targets is not None for each in decisions] == [True, False, True, False, True]
    assert [each.texts[0] for each in predictor.asked] == [BUG, LONG_BUG, "another bug in my code"]
    for each in predictor.asked:
        # Texts that share an evaluation are rounded otherwise.
        assert each.vectors is not None and float((each.vectors @ vector_of(each.texts[0]).T)[0, 0]) > 0.999


@pytest.mark.parametrize("model", ["tiny", "mini+tiny"])
def test_a_language_models_decision_has_the_bundled_encoders_vector(
    use: Use, vector_of: Callable[[Any], Vectors], model: str
) -> None:
    predictor = use(with_vectors())
    assert isinstance(predictor, FakePredictor)
    switch_over = 1.0 if "+" in model else None
    with Router(config=CONFIG, model=model, threads=1, prefix_cache=False, switch_over=switch_over) as router:
        decision = router.route(BUG)
        assert decision.decided_by == "tiny"
        assert router._quality is not None and (not router._quality.readers) == ("+" in model)
        assert decision.route == "bug_fixing" and decision.targets is not None
        (asked,) = predictor.asked
        assert asked.vectors is not None and np.abs(asked.vectors - vector_of(BUG)).max() < 1e-6


def test_an_encoder_is_loaded_only_for_a_predictor_that_reads_vectors(
    use: Use, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: SharedReader, _path: Path, _n_threads: int | None = None) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(SharedReader, "__init__", fail)
    use(FakePredictor(expect=harder_when_longer))
    with Router(config=CONFIG, model=random_model, threads=1, prefix_cache=False) as router:
        router.route(BUG)
    use(with_vectors())
    with pytest.raises(AssertionError, match="loaded"):
        Router(config=CONFIG, model=random_model, threads=1, prefix_cache=False)


def test_vectors_of_another_encoder_are_refused_when_the_router_is_made(use: Use, random_model: Path) -> None:
    use(FakePredictor(encoder="other.gguf"))
    for model in (random_model, "mini"):
        with pytest.raises(ConfigError, match=r"^7: route 'bug_fixing': its predictor was trained .* train it again"):
            Router(config=CONFIG, model=model, threads=1, prefix_cache=False)


def test_a_predictor_that_cannot_be_read_is_an_error_when_the_router_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path) -> Predictor:
        raise QualityError(f"{path}: damaged")

    monkeypatch.setattr(archroute_edge.quality, "load_predictor", load)
    with pytest.raises(ConfigError, match=r"7: route 'bug_fixing': p\.safetensors: damaged"):
        Router(config=CONFIG, model="mini", threads=1, prefix_cache=False)


def test_another_configuration_has_predictors_of_its_own(use: Use) -> None:
    """A server that reads its file again must not go on with the old predictor, nor lose the old one when it cannot."""
    use(FakePredictor(expect=harder_when_longer))
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        check(router.route(BUG), "m/small")
        use(FakePredictor(expect=lambda _text: (0.0, 1.0)))
        with router.with_config(CONFIG) as other:
            check(other.route(BUG), "m/large")
        use(FakePredictor(("x", "y")))
        with pytest.raises(ConfigError, match="knows no model 'm/small'"):
            router.with_config(CONFIG)
        check(router.route(BUG), "m/small")
        with router.with_config(replace(CONFIG, quality={}, selection={})) as plain:
            decision = plain.route(BUG)
            assert (decision.models, decision.model_reason, decision.targets) == (("m/small", "m/large"), "listed", None)


def test_routers_over_one_model_share_the_bundled_encoder(use: Use, random_model: Path) -> None:
    use(with_vectors())
    with Router(config=CONFIG, model=random_model, threads=1, prefix_cache=False) as router:
        with router.with_config(CONFIG) as other:
            assert router._quality is not None and other._quality is not None
            (own,), (others,) = router._quality.readers.values(), other._quality.readers.values()
            assert own is others
        assert other._quality is None


def test_routes_of_a_message_have_no_predictor_though_they_are_called_alike(use: Use) -> None:
    use(FakePredictor(expect=lambda _text: (0.0, 1.0)))
    own = [Route("bug_fixing", "fixing errors in code", ["m/small", "m/large"])]
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        decision = router.route(BUG, routes=own)
        assert (decision.model, decision.model_reason, decision.targets) == ("m/small", "listed", None)


def test_if_no_vector_can_be_had_the_models_stand_as_in_the_file(
    use: Use, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The route is known by then, and a failure of a second model is no reason to answer nothing."""

    def fail(_self: SharedReader, _turns: Sequence[Any]) -> Vectors:
        raise EngineError("no memory")

    use(with_vectors())
    with Router(config=CONFIG, model="tiny", threads=1, prefix_cache=False) as router:
        monkeypatch.setattr(SharedReader, "of", fail)
        with caplog.at_level(logging.WARNING):
            decision = router.route(BUG)
    assert decision.route == "bug_fixing"
    assert (decision.models, decision.model_reason) == (("m/small", "m/large"), "no_scores")
    assert decision.targets is None
    assert "no memory" in caplog.text


def test_threads_take_turns_at_the_bundled_encoder(vector_of: Callable[[Any], Vectors]) -> None:
    reader = SharedReader(MINI, 1)
    texts = [f"question number {number}" for number in range(12)]
    found: dict[str, Vectors] = {}

    def ask(text: str) -> None:
        vectors = reader.of(read_messages(text)).vectors
        assert vectors is not None
        found[text] = vectors

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.abs(found[text] - vector_of(text)).max() < 1e-6 for text in texts)


def test_total_time_has_what_the_order_took(use: Use) -> None:
    def slowly(text: str) -> tuple[float, ...]:
        time.sleep(0.05)
        return harder_when_longer(text)

    use(FakePredictor(expect=slowly))
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router:
        timings = router.route(BUG).timings
        assert timings.total_ms - timings.prompt_ms - timings.evaluate_ms >= 50


def test_the_order_takes_little_beside_the_decision(use: Use) -> None:
    """The work of the router itself, without the predictor's, in processor time, which other programs do not lengthen much."""
    use(FakePredictor(expect=harder_when_longer))
    plain = replace(CONFIG, quality={}, selection={})
    with Router(config=CONFIG, model="mini", threads=1, prefix_cache=False) as router, router.with_config(plain) as other:
        taken: dict[Router, list[float]] = {router: [], other: []}
        for _ in range(30):
            for each, times in taken.items():
                begun = time.process_time()
                each.route(BUG)
                times.append(time.process_time() - begun)
        assert min(taken[router]) < min(taken[other]) + 0.005


def test_every_door_has_the_targets(use: Use, run: Run, tmp_path: Path) -> None:
    use(FakePredictor(expect=harder_when_longer))
    with RoutingService(Router(config=CONFIG, model="mini", threads=1, prefix_cache=False)) as service:
        client = Client(ServerApp(service, ServerSettings()))
        check(client.post("/v1/route", {"messages": BUG}).json(), "m/small")
        check(client.post("/v1/route/batch", {"conversations": [LONG_BUG]}).json()["decisions"][0], "m/large")
        assert "targets" not in client.post("/v1/route", {"messages": POEM}).json()
        answer = client.post(
            "/routing/v1/chat/completions", {"model": "x", "messages": [{"role": "user", "content": LONG_BUG}]}
        )
        assert answer.json()["models"] == ["m/large", "m/small"]
        replies: list[dict[str, Any]] = []
        session = Session(service, StdioSettings(), lambda line: replies.append(json.loads(line)))
        session.handle(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "route", "params": {"messages": BUG}}).encode())
        decision: Decision = service.submit(BUG).result(PATIENCE_S)
        check(decision, "m/small")
        check(replies[0]["result"], "m/small")
    routes = tmp_path / "routes.yaml"
    routes.write_text(CONFIG_TEXT)
    arguments = ("--config", str(routes), "--model", "mini", "--threads", "1", "--no-prefix-cache")
    result = run("route", LONG_BUG, "--explain", *arguments)
    assert result.stdout == (
        "bug_fixing -> m/large\n"
        "   0.4135  m/large: expected score 0.9000, $0.008108; best_value\n"
        "   0.0000  m/small: expected score 0.0000, $0.000000; lower_value\n"
    )
    assert result.stderr.endswith("decided by mini; the model is the one with the best expected score for its price\n")
    result = run("route", POEM, "--explain", *arguments)
    assert result.stdout == "poems -> m/a\n  m/a  listed\n  m/b\n"
    check(json.loads(run("route", BUG, "--json", *arguments).stdout), "m/small")
    refused = run("route", "--batch", "-", "--explain", *arguments, stdin="")
    assert (refused.exit_code, "--explain is about one message" in refused.stderr) == (2, True)
