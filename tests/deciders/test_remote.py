"""A model on another machine: the decisions of the local one, and a decision or one clear error whatever the server does."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import math
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archroute_edge import Calibration, Decision, Route, Router, RoutingConfig
from archroute_edge.deciders import identify
from archroute_edge.deciders._remote_server import RemoteServer
from archroute_edge.engine import Cancellation, LoadedModel
from archroute_edge.errors import (
    CalibrationError,
    ContextOverflowError,
    DecisionCancelledError,
    EngineError,
    ModelFileError,
    RemoteError,
    SettingsError,
)
from archroute_edge.models import RemoteAddress, RemoteApi, find_model
from archroute_edge.routing import RoutingService
from tests.conftest import CARD_MESSAGE
from tests.deciders.remote_server import CERTIFICATE, Fault, ModelLogits, RemoteModelServer, haphazard
from tests.engine.gguf_file import read_gguf

ENCODER = "made by a fixture"
KINDS: tuple[RemoteApi, ...] = ("vllm", "sglang", "llama-server")
ROUTES = [Route("bug_fixing", "Identifying and fixing errors"), Route("translation", "Translating text")]
MESSAGES: list[Any] = [
    CARD_MESSAGE,
    "translate 'good morning' into Greek",
    [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello <|im_end|>"},
        {"role": "user", "content": "plot it"},
    ],
]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries of a request, which are waited for in full."""
    monkeypatch.setattr("archroute_edge.deciders._remote_server._FIRST_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def tiny(bundled_model: Path) -> Iterator[ModelLogits]:
    logits = ModelLogits(bundled_model)
    yield logits
    logits.close()


@pytest.fixture(scope="module")
def n_vocabulary(random_loaded: LoadedModel) -> int:
    return random_loaded.vocabulary.n_tokens


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, n_vocabulary: int, random_model: Path) -> Iterator[RemoteModelServer]:
    """Each kind of server, with probabilities out of the air and a small vocabulary."""
    with RemoteModelServer(request.param, haphazard(n_vocabulary), n_vocabulary) as server:
        server.vocabulary = random_model
        yield server
        assert server.problems == []


@pytest.fixture
def vllm(n_vocabulary: int, random_model: Path) -> Iterator[RemoteModelServer]:
    with RemoteModelServer("vllm", haphazard(n_vocabulary), n_vocabulary) as server:
        server.vocabulary = random_model
        yield server
        assert server.problems == []


@pytest.fixture
def vllm_of_tiny(tiny: ModelLogits) -> Iterator[RemoteModelServer]:
    """With the vocabulary of a real model."""
    n_vocabulary = tiny.model.vocabulary.n_tokens
    with RemoteModelServer("vllm", haphazard(n_vocabulary), n_vocabulary) as server:
        yield server
        assert server.problems == []


@pytest.fixture(autouse=True)
def small_encoder(random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first model of a cascade."""
    monkeypatch.setattr(f"{__name__}.ENCODER", str(random_encoder))


def address(server: RemoteModelServer, **options: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in {"vocabulary": server.vocabulary, **options}.items())
    return f"{server.url}?{query}#{server.model}"


def opened(server: RemoteModelServer, **options: object) -> Router:
    return Router(ROUTES, model=address(server, **options))


def cascade(server: RemoteModelServer, **options: object) -> Router:
    return Router(ROUTES, model=f"{ENCODER}+{address(server, **options)}", switch_over=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_decisions_of_the_model_on_this_machine(kind: RemoteApi, tiny: ModelLogits, card_config: RoutingConfig) -> None:
    """Route, confidence and all scores; control tokens in a message stay text."""
    n_vocabulary = tiny.model.vocabulary.n_tokens
    with (
        RemoteModelServer(kind, tiny, n_vocabulary) as server,
        Router(config=card_config, model=address(server)) as remote,
        Router(config=card_config, model="tiny", prefix_cache=False) as local,
    ):
        for message, scores in itertools.product(MESSAGES, (False, True)):
            found, own = remote.route(message, scores=scores), local.route(message, scores=scores)
            assert found.route == own.route
            assert found.confidence == pytest.approx(own.confidence, abs=0.02)
            assert (found.scores is None) is not scores
            if found.scores is not None:
                assert found.scores == pytest.approx(own.scores, abs=0.02)
                assert sum(found.scores.values()) == pytest.approx(1)
            assert (found.decided_by, found.prompt_format) == (f"{server.url}#{server.model}", "card")
            assert found.tokens.prompt == own.tokens.prompt
            assert found.tokens.reused == 3
            assert found.tokens.evaluated == found.tokens.prompt - 3 + found.tokens.answer
        assert server.problems == []


def test_a_vocabulary_without_weights_will_do(vllm_of_tiny: RemoteModelServer, bundled_model: Path, tmp_path: Path) -> None:
    """The weights are the server's. As a model on this machine such a file is one clear error."""
    file = read_gguf(bundled_model)
    file.tensors, file.data = [], b""
    path = file.write(tmp_path / "vocabulary.gguf")
    with opened(vllm_of_tiny) as whole, opened(vllm_of_tiny, vocabulary=path) as alone:
        found, expected = (router.route(CARD_MESSAGE, scores=True) for router in (alone, whole))
        assert (found.scores, found.tokens) == (expected.scores, expected.tokens)
        who = identify((find_model(address(vllm_of_tiny, vocabulary=path)),), "auto")
        assert (who.fingerprint, who.prompt_format) == (whole.model_fingerprint, "card")
    with pytest.raises(ModelFileError, match="holds a vocabulary only, no weights"):
        Router(ROUTES, model=path)


def test_a_cascade_asks_only_where_it_is_unsure(vllm: RemoteModelServer) -> None:
    with cascade(vllm) as router, opened(vllm) as alone, Router(ROUTES, model=ENCODER) as mini:
        found, second, first = router.route("hello"), alone.route("hello"), mini.route("hello")
        assert (found.route, found.confidence, found.reason) == (second.route, second.confidence, None)
        assert found.tokens.prompt == first.tokens.prompt + second.tokens.prompt
        assert router.warm().tokens > mini.warm().tokens
    with Router(ROUTES, model=f"{ENCODER}+{address(vllm)}", switch_over=0.0) as router:
        n_asked = len(vllm.bodies)
        assert router.route("hello").decided_by == "random-encoder.gguf"
        assert len(vllm.bodies) == n_asked


@pytest.mark.parametrize("kind", KINDS)
def test_many_routes(kind: RemoteApi, tiny: ModelLogits) -> None:
    """vLLM answers for 128 tokens at a time (which the server checks), and a table may part at more."""
    ends = ("ccount", "uild", "atalog", "ocument", "rror", "unds")
    routes = [Route(f"{one}{two}", "x") for one in string.ascii_lowercase for two in ends]
    n_vocabulary = tiny.model.vocabulary.n_tokens
    with (
        RemoteModelServer(kind, haphazard(n_vocabulary), n_vocabulary) as server,
        Router(routes, model=address(server)) as router,
    ):
        scores = router.route("hello", scores=True).scores
        assert scores is not None
        assert sum(scores.values()) == pytest.approx(1)
        if kind == "vllm":
            assert max(len(body["logprob_token_ids"]) for body in server.bodies) == 128
        assert server.problems == []


def test_names_whose_tokens_part_before_their_letters_do(tiny: ModelLogits) -> None:
    """Of the tokens behind a beginning that names share, none is taken for granted."""
    names = ("recipes", "recommendations", "records", "reception", "rec", "recipe", "re", "receipts", "recipes_and_menus")
    routes = [Route(name, f"Questions on {name}") for name in names]
    n_vocabulary = tiny.model.vocabulary.n_tokens
    with (
        RemoteModelServer("vllm", tiny, n_vocabulary) as server,
        Router(routes, model=address(server)) as remote,
        Router(routes, model="tiny", prefix_cache=False) as local,
    ):
        for message in ("a recipe for bread", "recommend me a book", "where is the receipt?", "who is at the reception?"):
            found, own = remote.route(message, scores=True), local.route(message, scores=True)
            assert found.scores == pytest.approx(own.scores, abs=0.02)
            assert found.route == own.route
        assert server.problems == []


def test_several_at_once_and_no_more(vllm: RemoteModelServer) -> None:
    """As many as the address says, for a list and for many callers."""
    with opened(vllm, concurrency=3) as router:
        alone = [router.route(f"message {number}") for number in range(8)]
        vllm.fault = "stuck"
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(router.route_many, [f"message {number}" for number in range(8)])
            assert vllm.wait_for_most(3)
            vllm.let_go()
            together = asked.result(30)
    assert [(each.route, each.confidence) for each in together] == [(each.route, each.confidence) for each in alone]
    assert vllm.n_most == 3


@pytest.fixture
def asked(vllm: RemoteModelServer, n_vocabulary: int) -> Iterator[RemoteServer]:
    """The stub as it is asked, once it is known to be there."""
    server = RemoteServer(RemoteAddress(vllm.url, vllm.model, timeout=60), n_vocabulary, {})
    server.wait_for(server.ready(), Cancellation())
    yield server
    server.close()


def test_when_one_of_several_requests_fails_the_others_are_given_up(vllm: RemoteModelServer, asked: RemoteServer) -> None:
    """Nobody waits for their answers, and they would take the places of others."""
    vllm.fault = lambda body: 404 if 0 in body["logprob_token_ids"] and vllm.wait_for_most(3) else "stuck"
    with pytest.raises(RemoteError, match="HTTP 404"):
        asked.wait_for(asked.ask([1, 2], range(300)), Cancellation())
    assert vllm.wait_for_hang_ups(2)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_when_one_branch_of_the_answers_fails_the_others_are_given_up(
    vllm_of_tiny: RemoteModelServer, is_cancelled: bool
) -> None:
    """Of four names two part behind ``ab``, and two behind ``xy``: a question each, for the scores."""
    names = ("abc", "abd", "xyz", "xyw")
    with Router([Route(name, "x") for name in names], model=address(vllm_of_tiny, timeout=60)) as router:
        assert router.route("hello", scores=True).route == "other"
        lengths = [len(body["prompt"]) for body in vllm_of_tiny.bodies[-3:]]
        assert lengths[1:] == [lengths[0] + 1] * 2
        failing = vllm_of_tiny.bodies[-1]["prompt"]

        def fault(body: Any) -> Fault:
            if len(body["prompt"]) == lengths[0]:
                return None
            return 404 if body["prompt"] == failing and not is_cancelled and vllm_of_tiny.wait_for_most(2) else "stuck"

        vllm_of_tiny.fault, vllm_of_tiny.n_most = fault, 0
        if is_cancelled:
            with pytest.raises(DecisionCancelledError):
                router.route("hello", scores=True, cancellation=cancelled_after(partial(vllm_of_tiny.wait_for_most, 2)))
        else:
            with pytest.raises(RemoteError, match="HTTP 404"):
                router.route("hello", scores=True)
        assert vllm_of_tiny.wait_for_hang_ups(2 if is_cancelled else 1)


def cancelled_after(wait: Callable[[], object]) -> Cancellation:
    """A flag that is set when ``wait`` has returned."""
    flag = Cancellation()

    def cancel() -> None:
        wait()
        flag.cancel()

    threading.Thread(target=cancel).start()
    return flag


@pytest.mark.parametrize("is_cascade", [False, True])
def test_a_decision_that_is_given_up_gives_up_its_request(vllm: RemoteModelServer, is_cascade: bool) -> None:
    """A cascade asks in a thread of its own, for one decision alone."""
    with (cascade if is_cascade else opened)(vllm, timeout=60) as router:
        router.route("hello")
        vllm.fault = "stuck"
        vllm.arrived.clear()
        with pytest.raises(DecisionCancelledError):
            router.route("hello", cancellation=cancelled_after(partial(vllm.arrived.wait, 30)))
        assert vllm.wait_for_hang_ups(1)


def test_work_that_is_cancelled_before_it_began(asked: RemoteServer) -> None:
    """It leaves nothing that was never awaited, which is a warning and so fails a test."""
    asked._loop.call_soon_threadsafe(time.sleep, 0.3)
    flag = Cancellation()
    threading.Timer(0.05, flag.cancel).start()
    with pytest.raises(DecisionCancelledError):
        asked.wait_for(asked.deciding(asked.ready), flag)
    asked.wait_for(asked.deciding(asked.ready), Cancellation())
    gc.collect()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lying", "answers, but it ignores"),
        ("prefixed", r"it read \d+ tokens of a prompt that has"),
        ("raw", r"it gives no log-probabilities|do not add up to 1"),
    ],
)
def test_servers_that_cannot_be_used(server: RemoteModelServer, fault: str, message: str) -> None:
    """They are told from others when the router is made; one that changes later gives errors."""
    server.fault = fault
    with pytest.raises(RemoteError, match=message):
        opened(server)
    server.fault = None
    with opened(server) as router:
        server.fault = fault
        with pytest.raises(RemoteError, match=message):
            router.route("hello")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("garbage", "its answer from /v1/completions is no JSON"),
        ("redirect", r"it redirects /v1/completions \(HTTP 307\), which is not followed"),
        (404, "HTTP 404 from /v1/completions: no luck"),
    ],
)
def test_answers_that_are_none(vllm: RemoteModelServer, fault: str | int, message: str) -> None:
    """Errors at once, in a cascade, too; later they leave the decision to the encoder."""
    vllm.fault = fault
    for make in (opened, cascade):
        with pytest.raises(RemoteError, match=message) as caught:
            make(vllm)
        assert str(caught.value).startswith(f"{vllm.url}#{vllm.model}: ")
        assert "\n" not in str(caught.value)
    vllm.fault = None
    with cascade(vllm) as router:
        assert router.route("hello").reason is None
        vllm.fault = fault
        found = router.route("hello there")
        assert (found.decided_by, found.reason) == ("random-encoder.gguf", "unreachable")


def _numbers(body: Any, value: float) -> bytes:
    """vLLM's reply, with the same number for each token that is asked about."""
    top = {f"token_id:{each}": value for each in body["logprob_token_ids"]}
    return json.dumps({"choices": [{"logprobs": {"top_logprobs": [top]}}]}).encode()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (b"[" * 100_000, "its answer from /v1/completions is no JSON"),
        (b"[]", "its reply has no probabilities of tokens"),
        (lambda body: _numbers(body, 10**400), "what is no number in the place of a probability"),
        (lambda body: _numbers(body, math.inf), "it gives no log-probabilities"),
    ],
    ids=["nested", "a list", "too long for a float", "infinite"],
)
def test_replies_of_any_form_are_one_clear_error(
    vllm: RemoteModelServer, asked: RemoteServer, fault: Any, message: str
) -> None:
    """And no other exception, by which a cascade would fail that has the encoder's answer."""
    vllm.fault = fault
    with pytest.raises(RemoteError, match=message):
        asked.wait_for(asked.ask([1], [2, 3]), Cancellation())


def test_what_the_server_says_of_itself(vllm: RemoteModelServer, n_vocabulary: int) -> None:
    vllm.model = "another/model"
    with pytest.raises(RemoteError, match="does not serve served/model; it serves another/model"):
        Router(ROUTES, model=f"{vllm.url}?vocabulary={vllm.vocabulary}#served/model")
    with Router(ROUTES, model=f"{vllm.url}/v1/?vocabulary={vllm.vocabulary}") as router:
        assert router.route("x").decided_by == vllm.url
    vllm.max_model_len = 2000
    with pytest.raises(ContextOverflowError, match="takes 2000; use fewer or shorter routes, a smaller budget"):
        opened(vllm)
    with RemoteModelServer("llama-server", haphazard(n_vocabulary), n_vocabulary + 1) as other:
        other.vocabulary = vllm.vocabulary
        with pytest.raises(RemoteError, match=f"has {n_vocabulary + 1} tokens, and the vocabulary here {n_vocabulary}"):
            opened(other)
        other.models_fault = "garbage"
        with pytest.raises(RemoteError, match="/v1/models is no JSON"):
            opened(other)


def test_a_list_of_models_with_fields_of_other_kinds() -> None:
    """They say nothing; the error is the same as without them."""
    server = RemoteServer(RemoteAddress("http://gpu-box", "m"), 10, {})
    try:
        served = server._read_models({"data": [{"id": "m", "owned_by": "vllm", "meta": "x", "max_model_len": "long"}]})
        assert (served.model, served.n_ctx) == ("m", None)
        with pytest.raises(RemoteError, match="does not say which server it is"):
            server._read_models({"data": [{"id": "m", "owned_by": ["vllm"]}]})
    finally:
        server.close()


def test_what_a_server_writes_is_one_short_line_without_the_key() -> None:
    """Wherever it stands: in the names of models, in the place of numbers, in a body that is no error of a known form."""
    key = 'sk-"remote"-123456'
    server = RemoteServer(RemoteAddress("http://localhost", "m"), 10, {"ARCHROUTE_REMOTE_KEY": key})
    try:
        models = [{"id": f"a\n\x1b[2J{key} {number}" + "x" * 1000, "owned_by": "vllm"} for number in range(2)]
        with pytest.raises(RemoteError) as caught:
            server._read_models({"data": models})
        said = [str(caught.value), server._shown(json.dumps([f"your key is {key}", "x" * 1000]).encode())]
        said.append(str(server._error(f"the reply is no HTTP: {key!r}", is_away=True)))
    finally:
        server.close()
    for each in said:
        assert "[redacted]" in each
        assert "123456" not in each
        assert "\n" not in each
        assert len(each) < 600


def test_work_that_comes_while_it_is_closed(asked: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused, and does not wait for a loop that has ended."""
    submit = asyncio.run_coroutine_threadsafe
    closing = threading.Thread(target=asked.close)

    def close_first(work: Any, loop: Any) -> Any:
        monkeypatch.undo()
        closing.start()
        closing.join(0.3)
        return submit(work, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", close_first)
    with pytest.raises(EngineError, match="the router has been closed"):
        asked.wait_for(asked.deciding(partial(asyncio.sleep, 30)), Cancellation())
    closing.join()


def test_a_server_that_is_away(vllm: RemoteModelServer) -> None:
    """Alone it is an error at once; in a cascade the encoder decides until it is there, and again when it has gone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"http://127.0.0.1:{port}?vocabulary={vllm.vocabulary}#served/model"
    with pytest.raises(RemoteError, match="the connection was refused"):
        Router(ROUTES, model=name)
    with Router(ROUTES, model=f"{ENCODER}+{name}", switch_over=1.0) as router:
        away = router.route("hello", scores=True)
        assert (away.decided_by, away.reason) == ("random-encoder.gguf", "unreachable")
        with RemoteModelServer("vllm", vllm.logits, vllm.n_vocabulary, port=port):
            assert router.route("hello").decided_by == f"http://127.0.0.1:{port}#served/model"
        many = router.route_many(["one", "two", "three"])
        assert {(each.decided_by, each.reason) for each in many} == {("random-encoder.gguf", "unreachable")}


@pytest.mark.parametrize("fault", [429, 503, "cut"])
def test_a_passing_failure_is_tried_again(vllm: RemoteModelServer, fault: str | int) -> None:
    with opened(vllm) as router:
        right = router.route("hello")
        vllm.fault, vllm.n_faults = fault, 2
        assert router.route("hello").confidence == right.confidence


def test_a_request_that_is_refused_fails_its_own_question_alone(vllm: RemoteModelServer) -> None:
    """Would break if one caller's message, which the server does not take, was the error of all who wait beside it."""
    with RoutingService(opened(vllm, concurrency=8)) as service:
        service.submit("hello").result(30)
        most = max(len(body["prompt"]) for body in vllm.bodies) + 20
        vllm.fault = lambda body: 400 if len(body["prompt"]) > most else "stuck"
        vllm.arrived.clear()
        busy = service.submit("busy", caller="busy")
        assert vllm.arrived.wait(30)
        refused = "a long message " * 30
        fine = [service.submit(text, caller=text) for text in ("one", "two")]
        failing: list[Future[Any]] = [
            service.submit(refused, caller="three"),
            service.submit_many(["four", refused, "five"], caller="four"),
        ]
        fine_list = service.submit_many(["six", "seven"], caller="five")
        vllm.let_go()
        assert [each.result(30).reason for each in (busy, *fine)] == [None] * 3
        assert [each.reason for each in fine_list.result(30)] == [None] * 2
        for future in failing:
            with pytest.raises(RemoteError, match="HTTP 400"):
                future.result(30)
        assert service.stats().decided == 6


@pytest.mark.parametrize("is_cascade", [False, True])
@pytest.mark.parametrize("sign", ["none", 429, 503, "cut", "gone"])
def test_what_was_decided_ahead_is_forgotten_when_another_model_may_be_there(
    vllm: RemoteModelServer, n_vocabulary: int, sign: str | int, is_cascade: bool
) -> None:
    """Would break if a server that was started with another model had the former one's answers for a while. One that is busy
    has the same model."""
    port = vllm.port
    with (cascade if is_cascade else opened)(vllm) as router:
        router.warm("hello", whole=True)
        n_asked = len(vllm.bodies)
        if isinstance(sign, int) or sign == "cut":
            vllm.fault, vllm.n_faults = sign, 1
            router.route("another text")
            n_asked = len(vllm.bodies)
        elif sign == "gone":
            vllm.close()
            with suppress(RemoteError):
                router.route("another text")
            vllm = RemoteModelServer("vllm", haphazard(n_vocabulary), n_vocabulary, port=port)
            n_asked = 0
        answer = router.route("hello")
        assert answer.decided_by == f"{vllm.url}#{vllm.model}"
        is_asked_again = sign not in ("none", 429)
        assert (answer.tokens.evaluated > 0, len(vllm.bodies) > n_asked) == (is_asked_again, is_asked_again)
        if sign == "gone":
            vllm.close()


def test_what_was_asked_before_a_failure_is_not_kept_after_it(vllm: RemoteModelServer) -> None:
    """Would break if a reply that comes beside another's failure was the answer of the model that is there afterwards."""
    model = f"{ENCODER}+{address(vllm)}"
    with RoutingService(Router(ROUTES, model=model, switch_over=1.0)) as service:
        service.submit("good morning").result(30)
        vllm.fault = "stuck"
        vllm.arrived.clear()
        warming = service.warm("hello", whole=True)
        assert vllm.arrived.wait(30)
        vllm.fault = 404
        assert service.submit("another text", caller="other").result(30).reason == "unreachable"
        vllm.fault = None
        vllm.let_go()
        warming.result(30)
        n_asked = len(vllm.bodies)
        assert service.submit("hello").result(30).reason is None
        assert len(vllm.bodies) > n_asked


def test_what_was_decided_ahead_is_kept_for_a_minute(vllm: RemoteModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a server whose model changes without a sign had the former one's answers for longer."""
    with opened(vllm) as router:
        router.warm("hello", whole=True)
        now = time.monotonic()
        for later, is_kept in ((50, True), (70, False)):
            monkeypatch.setattr(router.scheduler._ahead._verdicts, "_clock", lambda later=later: now + later)
            assert (router.route("hello").tokens.evaluated == 0) == is_kept


def test_after_failures_it_rests(vllm: RemoteModelServer) -> None:
    """It is not asked for a while, so that nobody waits for it."""
    with opened(vllm) as router:
        vllm.fault = 500
        for _ in range(3):
            with pytest.raises(RemoteError, match="HTTP 500 from /v1/completions: no luck"):
                router.route("hello")
        n_asked = len(vllm.bodies)
        with pytest.raises(RemoteError, match="failed 3 times in a row and rests"):
            router.route("hello")
        assert len(vllm.bodies) == n_asked


def test_a_prompt_that_is_refused_is_no_failure_of_the_server(vllm: RemoteModelServer) -> None:
    """Other callers are served as before. A server that refuses many prompts has its models looked at again, and may go on."""
    long = "word " * 500
    with opened(vllm) as router:
        router.route("hello")
        most = len(vllm.bodies[-1]["prompt"]) + 100
        vllm.fault = lambda body: 400 if len(body["prompt"]) > most else None
        for _ in range(7):
            with pytest.raises(RemoteError, match="HTTP 400 from /v1/completions: no luck"):
                router.route(long)
        assert router.route("hello").reason is None
    n_looks = len(vllm.headers) - len(vllm.bodies)
    assert n_looks == 3


def test_a_server_that_refuses_its_check_fails(vllm: RemoteModelServer) -> None:
    """It may serve another model now, to which no prompt of ours makes sense."""
    with opened(vllm) as router:
        router.route("hello")
        vllm.fault = 400
        for _ in range(6):
            with pytest.raises(RemoteError, match="HTTP 400"):
                router.route("hello")
        with pytest.raises(RemoteError, match="rests"):
            router.route("hello")


def test_a_server_that_hangs_rests_though_nobody_waits_so_long(vllm: RemoteModelServer, asked: RemoteServer) -> None:
    """Decisions with short deadlines do not each wait for it: together they have waited as long as one may."""
    vllm.fault = "stuck"
    asked.address = replace(asked.address, timeout=0.5)
    for _ in range(100):
        try:
            with pytest.raises(DecisionCancelledError):
                asked.wait_for(asked.deciding(partial(asked.ask, [1], [2])), cancelled_after(partial(time.sleep, 0.2)))
        except RemoteError as exc:
            if "rests" in str(exc):
                break
    else:
        pytest.fail("it was asked all the time")


def test_time_runs_out(vllm: RemoteModelServer) -> None:
    """The fallback at a deadline, the encoder's answer in a cascade; without a deadline an error when the time is over."""
    with opened(vllm, timeout=2) as router, cascade(vllm) as both:
        both.route("hello")
        vllm.fault = "stuck"
        late: Decision = router.route("hello", deadline=0.2)
        assert (late.route, late.reason, late.decided_by) == ("other", "deadline", None)
        late = both.route("hello", deadline=1.0)
        assert (late.reason, late.decided_by) == ("deadline", "random-encoder.gguf")
        started = time.monotonic()
        with pytest.raises(RemoteError, match="no answer within 2 s"):
            router.route("hello")
        assert time.monotonic() - started < 10
        vllm.let_go()


def test_the_encoder_goes_on_while_the_server_is_asked(vllm: RemoteModelServer) -> None:
    with Router(ROUTES, model=ENCODER) as mini:
        low, high = sorted(("hello", CARD_MESSAGE), key=lambda message: mini.route(message).confidence)
        switch_over = mini.route(high).confidence
    with RoutingService(Router(ROUTES, model=f"{ENCODER}+{address(vllm)}", switch_over=switch_over)) as service:
        service.submit(low).result(30)
        vllm.fault = "stuck"
        vllm.arrived.clear()
        unsure = service.submit(low)
        assert vllm.arrived.wait(30)
        sure = service.submit(high).result(30)
        assert (sure.decided_by, sure.reason) == ("random-encoder.gguf", None)
        assert not unsure.done()
        vllm.let_go()
        assert unsure.result(30).decided_by != "random-encoder.gguf"


def test_keys(vllm: RemoteModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment; never in an error."""
    monkeypatch.delenv("ARCHROUTE_REMOTE_KEY", raising=False)
    vllm.key = "sk-remote-123456"
    with pytest.raises(RemoteError, match="takes no request without a key; put it into ARCHROUTE_REMOTE_KEY"):
        opened(vllm)
    with pytest.raises(SettingsError, match="the environment variable GPU_KEY is not set"):
        opened(vllm, key="GPU_KEY")
    with pytest.raises(SettingsError, match="the environment variable that its option key names is not set"):
        opened(vllm, key="hf_aKeyInThePlaceOfAName")
    monkeypatch.setenv("GPU_KEY", "wrong")
    with pytest.raises(RemoteError, match="refuses the key in GPU_KEY"):
        opened(vllm, key="GPU_KEY")
    monkeypatch.setenv("ARCHROUTE_REMOTE_KEY", vllm.key)
    with opened(vllm) as router:
        assert router.route("hello").decided_by is not None
        vllm.fault = 400
        with pytest.raises(RemoteError, match="HTTP 400") as caught:
            router.route("hello")
        assert vllm.key not in str(caught.value)
    monkeypatch.setenv("ARCHROUTE_REMOTE_KEY", "new\nline")
    with pytest.raises(SettingsError, match="cannot stand in a header"):
        opened(vllm)


@pytest.mark.parametrize(
    ("url", "is_sent_in_the_open"),
    [
        ("http://localhost:8000", False),
        ("http://[::1]", False),
        ("https://gpu-box", False),
        ("http://gpu-box", True),
        ("http://localhost.example", True),
        ("http://127.example", True),
    ],
)
def test_a_key_without_tls_is_warned_of(url: str, is_sent_in_the_open: bool, caplog: pytest.LogCaptureFixture) -> None:
    """On the way to another machine, whatever its name begins with."""
    RemoteServer(RemoteAddress(url), 10, {"ARCHROUTE_REMOTE_KEY": "sk-remote-123456"}).close()
    assert ("is sent unencrypted; use https" in caplog.text) is is_sent_in_the_open


def test_tls(n_vocabulary: int, random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate is checked; one's own authority can be named, also in the home, which a shell leaves alone in quotes."""
    with RemoteModelServer("vllm", haphazard(n_vocabulary), n_vocabulary, is_tls=True) as server:
        server.vocabulary = random_model
        with opened(server, ca=CERTIFICATE) as router:
            assert router.route("hello").decided_by is not None
        monkeypatch.setenv("HOME", str(CERTIFICATE.parent))
        opened(server, ca=f"~/{CERTIFICATE.name}").close()
        with pytest.raises(RemoteError, match="no TLS connection"):
            opened(server)
        with pytest.raises(SettingsError, match=r"its ca nowhere\.pem cannot be used"):
            opened(server, ca="nowhere.pem")


@pytest.mark.parametrize(
    "settings", [{"n_ctx": 4096}, {"kv_type": "q8_0"}, {"decoder": "grammar"}, {"threads": 1}, {"gpu_layers": 0}]
)
def test_settings_of_a_model_on_this_machine(vllm: RemoteModelServer, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(settings))} is about a model on this machine"):
        Router(ROUTES, model=address(vllm), **settings)


def test_a_calibration_goes_by_the_model(vllm_of_tiny: RemoteModelServer) -> None:
    """Not by the machine that serves it."""
    with opened(vllm_of_tiny) as router:
        fitted = Calibration(2.0, 0.0, "m", router.model_fingerprint, "card")
        plain = router.route("hello")
    with Router(ROUTES, model=address(vllm_of_tiny, concurrency=2), calibration=fitted) as router:
        assert router.route("hello").confidence < plain.confidence
    with pytest.raises(CalibrationError, match="was fitted for the model m"):
        Router(ROUTES, model=ENCODER, calibration=fitted)


def test_closed_while_it_is_asked(vllm: RemoteModelServer) -> None:
    service = RoutingService(opened(vllm))
    vllm.fault = "stuck"
    vllm.arrived.clear()
    asked = service.submit("hello")
    assert vllm.arrived.wait(30)
    service.close(drain=False)
    assert asked.exception(30) is not None
    vllm.let_go()
