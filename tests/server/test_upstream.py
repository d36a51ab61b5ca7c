"""The upstream of the tests against real clients, since what it does wrong others would look for in the gateway."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.upstream import (
    PATIENCE_S,
    Answer,
    Upstream,
    empty,
    empty_stream,
    garbage,
    gzipped,
    hangs_up,
    held,
    large,
    never,
    plain,
    refused_url,
    resets,
    short,
    status,
    streamed,
    truncated_chunk,
)
from tests.upstream_replies import TEXT, chat_events, chat_reply


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=PATIENCE_S, verify=False) as client:
        yield client


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(client: httpx.Client, upstream: Upstream) -> Ask:
    return lambda **options: client.post(f"{upstream.url}/chat/completions", json={"model": "m", **options})


def test_the_official_packages_read_all_its_replies(upstream: Upstream) -> None:
    import anthropic
    import openai

    with openai.OpenAI(base_url=upstream.url, api_key="k", max_retries=0) as client:
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        assert client.chat.completions.create(**asked).choices[0].message.content == TEXT  # type: ignore[call-overload]
        chunks = client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
        assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == TEXT
        assert client.responses.create(model="m", input="hi").output_text == TEXT
        deltas = client.responses.create(model="m", input="hi", stream=True)
        assert "".join(each.delta for each in deltas if each.type == "response.output_text.delta") == TEXT
    with anthropic.Anthropic(base_url=upstream.address, api_key="k", max_retries=0) as claude:
        message = claude.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        assert [block.text for block in message.content if block.type == "text"] == [TEXT]
        with claude.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
            assert "".join(stream.text_stream) == TEXT
    assert upstream.arrivals[0].header("authorization") == "Bearer k"
    assert upstream.arrivals[0].json() == asked


def test_it_answers_as_told_and_then_as_ever(upstream: Upstream, ask: Ask) -> None:
    upstream.will(status(429, retry_after="7"), plain(b"{}"), gzipped(b'{"a": 1}'))
    assert (first := ask()).status_code == 429
    assert first.headers["retry-after"] == "7"
    assert ask().content == b"{}"
    assert ask().json() == {"a": 1}
    assert ask().content == chat_reply(model="m")
    assert ask(stream=True).content == b"".join(chat_events(model="m"))


@pytest.mark.parametrize(
    "fault",
    [garbage, hangs_up, resets, short(b"{}"), truncated_chunk([b"data: 1\n\n"]), streamed([b"data: 1\n\n"], then=resets)],
)
def test_its_faults_are_faults(upstream: Upstream, ask: Ask, fault: Answer) -> None:
    upstream.will(fault)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        ask()
    assert ask().status_code == 200


def test_refused_is_refused_and_empty_is_empty(upstream: Upstream, client: httpx.Client, ask: Ask) -> None:
    with refused_url() as url, pytest.raises(httpx.ConnectError):
        client.post(url)
    upstream.will(empty, empty_stream)
    assert [ask().content, ask().content] == [b"", b""]


def test_a_gate_holds_an_answer(upstream: Upstream, client: httpx.Client, ask: Ask) -> None:
    upstream.will(held(plain(b"[1]")), streamed([b"data: 1\n\n", b"data: 2\n\n"], gate_after=1))
    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.append(ask().content))
    asking.start()
    upstream.next_arrival()
    assert not answers
    upstream.open_gate()
    asking.join(PATIENCE_S)
    assert answers == [b"[1]"]
    upstream.close_gate()
    with client.stream("POST", f"{upstream.url}/chat/completions") as stream:
        parts = stream.iter_raw()
        assert next(parts) == b"data: 1\n\n"
        upstream.open_gate()
        assert b"".join(parts) == b"data: 2\n\n"


@pytest.mark.parametrize("answer", [never, streamed([b"data: 1\n\n"], gate_after=1)])
def test_it_notices_when_a_client_leaves(upstream: Upstream, answer: Answer) -> None:
    upstream.will(answer)
    with socket.create_connection(("127.0.0.1", upstream.port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
        arrival = upstream.next_arrival()
        assert not arrival.left.is_set()
    assert arrival.wait_until_left() >= arrival.time


def test_a_large_body_comes_whole(upstream: Upstream, client: httpx.Client, ask: Ask) -> None:
    upstream.will(large(3_000_001))
    assert len(ask().content) == 3_000_001
    upstream.keeps_bodies = False
    client.post(upstream.url, content=b"x" * 3_000_001)
    assert (upstream.arrivals[-1].n_bytes, upstream.arrivals[-1].body) == (3_000_001, b"")
