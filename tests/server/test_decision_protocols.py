"""Choices between given options: ``/v1/systemone`` and ``/v1/decisions``."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from backports import zstd

from archroute_edge import OTHER, Route, Router, RouteTable
from archroute_edge.config import RoutingConfig
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.http._choice_questions import MAX_QUESTIONS, plain_text, read_system_one
from tests.server.conftest import Client, StuckService
from tests.server.test_guard import App

BUG = "my test fails with an IndexError, please fix the bug"
OPTIONS = {"bug_fixing": "Identifying and fixing errors or bugs in the provided code", "translation": "Translating text"}
CHOICES = [{"value": name, "description": text} for name, text in OPTIONS.items()]


@pytest.fixture(scope="module")
def mini(encoder_router: Router, config: RoutingConfig) -> Iterator[Client]:
    with RoutingService(encoder_router.with_config(config)) as service:
        yield Client(ServerApp(service, ServerSettings()))


@pytest.fixture(scope="module")
def config() -> RoutingConfig:
    return RoutingConfig(table=RouteTable([Route("own")]))


def one(client: Client, criteria: dict[str, Any], state: Any = BUG) -> dict[str, Any]:
    """The answer to one question of System One."""
    asked = {"state": state, "questions": {"q": {"type": "choice", "criteria": criteria}}}
    reply = client.post("/v1/systemone", asked)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["answers"]["q"]
    return found


def test_the_options_are_a_route_table(mini: Client, encoder_router: Router) -> None:
    """The same probabilities as a decision by these routes, shared out between the options that were given."""
    scores = encoder_router.route(BUG, routes=[Route(*each) for each in OPTIONS.items()], scores=True).scores
    assert scores is not None
    with_other = one(mini, {**OPTIONS, OTHER: None})
    assert with_other["probabilities"] == pytest.approx(scores, abs=1e-4)
    assert list(with_other["probabilities"]) == [*OPTIONS, OTHER]
    closed = one(mini, OPTIONS)
    rest = 1 - scores[OTHER]
    assert closed["probabilities"] == pytest.approx({name: scores[name] / rest for name in OPTIONS}, abs=1e-4)
    assert closed["archroute"]["other"] == pytest.approx(scores[OTHER], abs=1e-4)
    assert closed["archroute"]["confidence"] == pytest.approx(scores["bug_fixing"], abs=1e-4)
    for answer, k in ((with_other, 3), (closed, 2)):
        p = max(answer["probabilities"].values())
        assert answer["choice"] == "bug_fixing"
        assert answer["confidence"] == pytest.approx((p - 1 / k) / (1 - 1 / k))
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert (answer["type"], answer["archroute"]["decided_by"], answer["archroute"]["matched"]) == ("choice", "mini", True)


def test_both_protocols_give_one_answer(mini: Client) -> None:
    first = one(mini, OPTIONS)
    body = {"model": "gpt-6-luna", "input": BUG, "questions": [{"type": "choice", "name": "q", "choices": CHOICES}]}
    reply = mini.post("/v1/decisions", body).json()
    (second,) = reply["answers"]
    assert (reply["model"], second["name"], second["choice"]) == ("gpt-6-luna", "q", first["choice"])
    assert {each["value"]: each["probability"] for each in second["probabilities"]} == pytest.approx(first["probabilities"])
    usage = reply["usage"]
    assert usage["input_tokens"] > usage["input_tokens_details"]["cached_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_several_questions_are_answered_by_their_names(mini: Client) -> None:
    """The conversation is read once: its tokens are new in the first prompt alone."""
    alone = [one(mini, {"python": None, "cooking": None}), one(mini, OPTIONS)]
    questions = {
        "a": {"type": "choice", "criteria": {"python": None, "cooking": None}},
        "only": {"type": "choice", "criteria": {OTHER: None}},
        "b": {"type": "choice", "instructions": "Which?", "criteria": OPTIONS},
    }
    answers = mini.post("/v1/systemone", {"model": "m", "state": BUG, "questions": questions}).json()["answers"]
    assert list(answers) == ["a", "only", "b"]
    assert (answers["only"]["choice"], answers["only"]["confidence"]) == (OTHER, 1.0)
    for name, expected in zip("ab", alone, strict=True):
        assert answers[name]["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)


def test_values_are_told_apart(mini: Client) -> None:
    """True and "true" are two options to OpenAI, and so are texts that Unicode calls equal, or that are our own word."""
    values: list[str | bool] = [True, "true", False, "\u00e9", "e\u0301", "true (2)", OTHER]
    body = {"input": BUG, "questions": [{"type": "choice", "choices": [{"value": value} for value in values]}]}
    (answer,) = mini.post("/v1/decisions", body).json()["answers"]
    assert [each["value"] for each in answer["probabilities"]] == values
    assert answer["name"] is None
    assert any(answer["choice"] is value or answer["choice"] == value for value in values)


def test_any_length_of_labels(mini: Client, client: Client) -> None:
    label = "Identifying and fixing errors in code " * 30
    for each in (mini, client):
        assert set(one(each, {label: None, label + "of tests": None})["probabilities"]) == {label, label + "of tests"}
    entry = mini.app.recent.look().entries[-1]
    assert entry.route is not None and len(entry.route) <= 256


def test_labels_that_only_the_order_of_their_accents_tells_apart() -> None:
    """Each is compared with all before it, and Python's own normalization takes a time that grows with their square."""
    labels = ["e" + "\u0301" * number + "\u0323" * 1000 + "\u0301" * (1000 - number) for number in range(200)]
    began = time.process_time()
    asked = read_system_one({"state": BUG, "questions": {"q": {"type": "choice", "criteria": dict.fromkeys(labels)}}})
    assert time.process_time() - began < 5
    assert asked.questions[0].answers == (labels[0], *(f"{label} ({number})" for number, label in enumerate(labels[1:], 2)))


def test_a_state_may_be_anything(mini: Client) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}, {"role": "user", "content": BUG}]
    litellm = (
        "\nRecent conversation (context only, do not classify these):\n[1] user: hello\n[2] assistant: hi\nthere\n"
        f"\nConversation so far: ~3 tokens across the request\n\nClassify this message:\n{BUG}"
    )
    anything: list[Any] = [chat, litellm, {"subject": "a bug", "text": BUG}, [BUG, 7, None, {"a": [True]}]]
    for state in anything:
        assert one(mini, OPTIONS, state)["choice"] == "bug_fixing"
    mini.app.serving.settings = ServerSettings(keep_content=True)
    taken: list[Any] = []
    mini.app.serving.entries.hang(Taker(taken))
    states: list[Any] = [
        litellm,
        [{"role": "user", "content": [{"type": "input_json", "data": {"text": BUG}}]}],
        {"a": {"b": BUG}},
    ]
    for state in states:
        one(mini, OPTIONS, state)
    texts = [[turn["content"] for turn in json.loads(entry.content.request)["messages"]] for entry in taken]
    assert texts == [["hello", "hi\nthere", BUG], [f"text: {BUG}"], [f"a: b: {BUG}"]]
    assert plain_text({"a": [None, 1.5, False, ""], "b": None}) == "a: 1.5\nfalse"


class Taker:
    def __init__(self, taken: list[Any]) -> None:
        self._taken = taken

    def add(self, entry: Any) -> None:
        self._taken.append(entry)


def test_without_text_other_is_the_answer_where_it_was_offered(mini: Client) -> None:
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]
    answer = one(mini, {**OPTIONS, OTHER: None}, image)
    assert (answer["choice"], answer["probabilities"][OTHER], answer["archroute"]["reason"]) == (OTHER, 1.0, "no_user_text")
    refused = mini.post("/v1/systemone", {"state": image, "questions": {"q": {"type": "choice", "criteria": OPTIONS}}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "state")


def choice(criteria: Any) -> dict[str, Any]:
    return {"state": BUG, "questions": {"q": {"type": "choice", "criteria": criteria}}}


def listed(choices: Any, **more: Any) -> dict[str, Any]:
    return {"input": BUG, "questions": [{"type": "choice", "choices": choices, **more}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("systemone", {"state": BUG, "questions": {"q": {"type": "noul", "instructions": "?"}}}, 422, "questions.q.type"),
        ("systemone", {"state": BUG, "questions": {"q": {"type": "score", "criteria": ["a"]}}}, 422, "questions.q.type"),
        ("decisions", {"input": BUG, "questions": [{"type": "predicate"}]}, 422, "questions.0.type"),
        ("systemone", {"state": BUG, "questions": {"q": {"type": "riddle"}}}, 400, "questions.q.type"),
        ("systemone", choice({str(number): None for number in range(50_000)}), 400, "questions.q.criteria"),
        ("decisions", listed([{"value": str(number)} for number in range(5_000)]), 400, "questions.0.choices"),
        ("systemone", choice({}), 400, "questions.q.criteria"),
        ("systemone", choice({"a": 5}), 400, "questions.q.criteria.a"),
        ("systemone", choice({"a": "x" * (1 << 20)}), 400, "questions.q"),
        ("systemone", choice(["a"]), 400, "questions.q.criteria"),
        ("systemone", {"state": BUG, "questions": {"q": {"type": "choice"}}}, 400, "questions.q.criteria"),
        ("systemone", {"state": BUG, "questions": dict.fromkeys(map(str, range(MAX_QUESTIONS + 1)))}, 400, "questions"),
        ("systemone", {"state": 5, "questions": {"q": {}}}, 400, "questions.q.type"),
        ("systemone", {**choice({"a": None}), "state": 5}, 400, "state"),
        ("systemone", {"questions": {}}, 400, "state"),
        ("decisions", listed([{"value": "a"}, {"value": "a"}]), 400, "questions.0.choices.1"),
        ("decisions", listed([{"value": True}, {"value": True}]), 400, "questions.0.choices.1"),
        ("decisions", listed([{"value": OTHER}, {"value": OTHER}]), 400, "questions.0.choices.1"),
        ("decisions", listed([{"value": " "}]), 400, "questions.0.choices.0.value"),
        ("decisions", listed([{"value": 1}]), 400, "questions.0.choices.0.value"),
        ("decisions", listed([{"value": "a"}], name="n" * 300), 400, "questions.0.name"),
        ("decisions", {**listed([{"value": "a"}]), "input": [{"role": "user", "content": 5}]}, 400, "input.0.content"),
    ],
)
def test_what_cannot_be_answered_says_where(mini: Client, path: str, body: Any, status: int, param: str) -> None:
    answer = mini.post(f"/v1/{path}", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert len(answer.json()["error"]["message"]) < 300


def compressed(client: Client, content: bytes, coding: str = "zstd") -> httpx.Response:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    return client("POST", "/v1/systemone", content=content, headers=headers)


def test_bodies_may_be_compressed(mini: Client) -> None:
    body = json.dumps(choice(OPTIONS)).encode()
    answer = compressed(mini, zstd.compress(body))
    assert answer.json()["answers"]["q"]["choice"] == "bug_fixing"
    whole = zstd.compress(body)
    for content, code in ((whole[:-3], 400), (whole + whole, 400), (b"no zstd", 400), (zstd.compress(b"[" * 100), 400)):
        assert compressed(mini, content).status_code == code
    assert compressed(mini, body, "gzip").status_code == 415
    assert compressed(mini, body, "identity").status_code == 200


def test_a_few_bytes_that_stand_for_gigabytes_are_refused(app_over: App, mini: Client) -> None:
    """By their decompressed size, and where decoding takes a window of more than 8 MiB."""
    bomb = zstd.compress(b" " * (1 << 25))
    assert len(bomb) < 1 << 16
    answer = compressed(mini, bomb)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    wide = zstd.compress(b" " * (1 << 25), options={zstd.CompressionParameter.window_log: 25})
    assert compressed(mini, wide).status_code == 400
    small = app_over(mini.app.serving.service, max_body=1000)
    assert compressed(small, zstd.compress(json.dumps(choice({"a": "x" * 1000})).encode())).status_code == 413


def test_what_bodies_are_decompressed_to_is_bounded_together(mini: Client, stuck: StuckService, app_over: App) -> None:
    """Else 100 requests of 1 KiB each take 400 MiB."""
    body = zstd.compress(json.dumps(choice({"a": "x" * 1_000_000})).encode() + b" " * 3_000_000)
    client = app_over(stuck, queue_limit=64, timeout=1.0)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(client.app.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as session:
            headers = {"Content-Type": "application/json", "Content-Encoding": "zstd"}
            sent = [session.post("/v1/systemone", content=body, headers=headers) for _ in range(20)]
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    statuses = asyncio.run(ask())
    assert set(statuses) == {429, 503}
    assert 10 < statuses.count(503) < 18


def test_at_the_deadline_there_is_no_made_up_answer(app_over: App, service: RoutingService) -> None:
    app = app_over(service, deadline=1e-6)
    answer = app.post("/v1/systemone", choice({"something new": "x", "something else": "y"}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
    assert answer.headers["retry-after"] == "1"
    # The client got no decision, so none is noted.
    assert app.app.recent.look().entries == ()


def test_the_models_are_listed_for_its_clients(mini: Client) -> None:
    found = mini("GET", "/v1/models").json()
    assert [each["name"] for each in found["models"]] == ["mini"] == [each["id"] for each in found["data"]]


def made_up(draw: random.Random) -> tuple[str, bytes, str]:
    """A body that is nearly right: a sound one in which some values are others, or whose bytes are damaged."""
    odd: list[Any] = [
        None,
        7,
        -1.5e308,
        True,
        "",
        " ",
        "x",
        OTHER,
        "\ud800",
        "\u0000",
        [],
        {},
        [[]],
        {"type": "choice"},
        10**30,
        "y" * 3000,
    ]

    def vary(value: Any) -> Any:
        if draw.random() < 0.08:
            return draw.choice(odd)
        if isinstance(value, dict):
            found = {draw.choice([key] * 9 + [OTHER, "\ud800", ""]): vary(each) for key, each in value.items()}
            return {**found, str(draw.choice(odd)): draw.choice(odd)} if draw.random() < 0.1 else found
        return [vary(each) for each in value] if isinstance(value, list) else value

    chat = [{"role": "user", "content": [{"type": "input_text", "text": BUG}, {"type": "input_json", "data": {"a": 1}}]}]
    subject = draw.choice([BUG, chat, "hello"])
    options = draw.choice([OPTIONS, {"a": None, "b": {"when": "fixing", "examples": ["a bug", {"in": "code"}]}}])
    path, body = draw.choice(
        [
            ("/v1/systemone", {"model": "m", "state": subject, "questions": {"q": {"type": "choice", "criteria": options}}}),
            (
                "/v1/decisions",
                {"model": "m", "input": subject, "questions": [{"type": "choice", "name": "q", "choices": CHOICES}]},
            ),
        ]
    )
    raw = bytearray(json.dumps(vary(body)).encode())
    if draw.random() < 0.1:
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    if draw.random() < 0.2:
        packed = bytearray(zstd.compress(bytes(raw)))
        if draw.random() < 0.5:
            packed[draw.randrange(len(packed))] = draw.randrange(256)
        return path, bytes(packed), "zstd"
    return path, bytes(raw), "identity"


def test_a_thousand_made_up_bodies(mini: Client) -> None:
    """None is an error of the server; those that are answered are answered by one of their options."""
    draw = random.Random(1)
    mini.app.serving.settings = ServerSettings()

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(mini.app.asgi, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as session:
            answers = []
            for _ in range(1000):
                path, content, coding = made_up(draw)
                headers = {"Content-Type": "application/json", "Content-Encoding": coding}
                answers.append(await session.post(path, content=content, headers=headers))
            return answers

    answers = asyncio.run(ask())
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 400, 413, 422}
    assert {200, 400} <= statuses
    for answer in answers:
        if answer.status_code == 200:
            found = answer.json()["answers"]
            for each in found.values() if isinstance(found, dict) else found:
                assert 0 <= each["confidence"] <= 1


def test_the_server_says_whether_it_is_calibrated(client: Client, mini: Client) -> None:
    for each in (client, mini):
        assert one(each, OPTIONS)["archroute"]["calibrated"] is False


def test_a_language_model_answers_as_it_routes(client: Client, service: RoutingService) -> None:
    """Each question apart: in its prompt the routes stand before the conversation."""
    routes = [Route(*each) for each in OPTIONS.items()]
    scores = service.router.route(BUG, routes=routes, scores=True).scores
    questions = {name: {"type": "choice", "criteria": {**OPTIONS, OTHER: None}} for name in "ab"}
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(client.post, "/v1/systemone", {"state": BUG, "questions": questions}) for _ in range(2)]
        answers = [answer for each in asked for answer in each.result().json()["answers"].values()]
    for answer in answers:
        assert answer["probabilities"] == pytest.approx(scores, abs=0.05)
        assert answer["archroute"]["decided_by"] == "tiny"
