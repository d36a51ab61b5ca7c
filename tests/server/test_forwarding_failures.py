"""What the gateway makes of upstreams that fail, and of clients that leave."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from tests.server.gateway_server import BUG, CHAT, GatewayServer, two_models
from tests.upstream import (
    Answer,
    Arrival,
    Exchange,
    Upstream,
    as_asked,
    empty,
    empty_stream,
    garbage,
    hangs_up,
    held,
    never,
    plain,
    redirect,
    refused_url,
    resets,
    short,
    status,
    streamed,
    then_closes,
    truncated_chunk,
)
from tests.upstream_replies import chat_events, chat_reply

Start = Callable[..., GatewayServer]

IMPATIENT = "archroute: {first_byte_timeout: 0.2}"


BOTH = """
model_aliases:
  both: {targets: [{model: one/big, weight: 1000000000}, {model: two/small, weight: 1.0e-9}]}
"""
"""Both models, in this order, without a decision."""


def sends_both(answer: httpx.Response) -> None:
    """Check that the second target gave this answer, after the first."""
    assert answer.status_code == 200
    assert answer.headers["x-archroute-model"] == "two/small"
    assert answer.headers["x-archroute-tries"] == "2"


NEVER_RESTS = "archroute: {rest: {after: 1000, for: 1}}"


def test_such_a_status_lets_the_next_target_answer(forwarding: Start, one: Upstream, two: Upstream) -> None:
    codes = (408, 429, 500, 502, 503, 504, 529)
    server = forwarding(two_models(one.url, two.url, more=f"{BOTH}\n{NEVER_RESTS}"))
    for code in codes:
        one.will(status(code, retry_after="1000"))
        sends_both(server.ask(f"{code}", model="both"))
        assert two.next_arrival().json()["model"] == "small"
    assert len(one.arrivals) == len(codes)
    entries = server.entries.wait_for(len(codes))
    tries = [[(each.model, each.status) for each in entry.tries] for entry in entries]
    assert tries == [[("one/big", code), ("two/small", 200)] for code in codes]


def test_a_target_that_is_set_up_wrongly_is_passed_by_loudly(
    forwarding: Start, one: Upstream, two: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    server = forwarding(two_models(one.url, two.url, more=f"{BOTH}\n{NEVER_RESTS}"))
    for code in (401, 403, 404):
        one.will(status(code, message="your key sk-one-secret is wrong"))
        sends_both(server.ask(f"{code}", model="both"))
        loud = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert "one/big" in loud[-1]
        assert str(code) in loud[-1]
    assert "secret" not in caplog.text


def test_what_the_client_did_wrong_is_its_own(forwarding: Start, one: Upstream, two: Upstream) -> None:
    body = b'{"error":  {"message": "no such parameter"} }'
    server = forwarding(two_models(one.url, two.url, more=BOTH))
    for code in (400, 413, 422):
        one.will(plain(body, code, headers=[("x-request-id", "r1")]))
        answer = server.ask(model="both")
        assert (answer.status_code, answer.content, answer.headers["x-request-id"]) == (code, body, "r1")
    assert not two.arrivals


FAULTS = {
    "garbage": garbage,
    "reset": resets,
    "hung up": hangs_up,
    "empty": empty,
    "empty stream": empty_stream,
    "only comments": streamed([b": wait\n\n", b": wait\n\n"]),
    "broken before the first event": streamed([], then=resets),
    "half a chunk": truncated_chunk([]),
}


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_is_no_answer_lets_the_next_target_answer(
    forwarding: Start, one: Upstream, two: Upstream, is_stream: bool
) -> None:
    server = forwarding(two_models(one.url, two.url, more=f"{BOTH}\n{NEVER_RESTS}"))
    for name, fault in FAULTS.items():
        one.will(fault)
        answer = server.ask(name, model="both", stream=is_stream)
        sends_both(answer)
        assert answer.content == (b"".join(chat_events(model="small")) if is_stream else chat_reply(model="small")), name


def test_a_refused_connection_lets_the_next_target_answer(forwarding: Start, two: Upstream) -> None:
    with refused_url() as nowhere:
        server = forwarding(two_models(nowhere, two.url))
        sends_both(server.ask())
        sends_both(server.ask(f"{BUG} at once", stream=True))


@pytest.mark.parametrize("slow", [never, streamed(chat_events(), gate_after=0)], ids=["no head", "head alone"])
def test_a_target_without_a_first_byte_is_given_up(forwarding: Start, one: Upstream, two: Upstream, slow: Answer) -> None:
    one.will(slow)
    server = forwarding(two_models(one.url, two.url, more=IMPATIENT))
    sends_both(server.ask(stream=True))
    one.arrivals[0].wait_until_left()


def test_a_redirect_is_not_followed(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if an upstream could have the conversation, or its key, sent elsewhere."""
    with Upstream() as elsewhere:
        one.will(redirect(f"{elsewhere.url}/chat/completions"), redirect(f"{elsewhere.url}/chat/completions", 302))
        server = forwarding(two_models(one.url, two.url))
        for answer in (server.ask(), server.ask(model="one/big")):
            assert "location" not in answer.headers
            assert answer.status_code in (200, 502)
        assert not elsewhere.arrivals


TOMORROW = status(429, retry_after="86400")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([status(500), status(503)], {502, 503}),
        ([status(429, retry_after="1000"), TOMORROW], {429}),
        ([status(429), status(401)], {429}),
        ([status(401), status(404)], {404, 502}),
        ([garbage, resets], {502}),
    ],
    ids=["5xx", "429", "429 and a wrong key", "set up wrongly", "broken"],
)
def test_if_all_fail_the_client_is_told(
    forwarding: Start, one: Upstream, two: Upstream, answers: list[Answer], expected: set[int]
) -> None:
    one.will(answers[0])
    two.will(answers[1])
    server = forwarding(two_models(one.url, two.url, more="archroute: {timeout: 20}"))
    answer = server.ask(stream=True)
    assert answer.status_code in expected
    error = answer.json()["error"]
    assert error["message"]
    assert error["code"]
    assert len(one.arrivals) == len(two.arrivals) == 1
    (entry,) = server.entries.wait_for(1)
    assert (entry.outcome, entry.status) == ("failed", answer.status_code)
    assert len(entry.tries) == 2
    if answers[1] is TOMORROW:
        assert 990 < int(answer.headers["retry-after"]) <= 1001


def test_retry_after_is_waited_for_where_there_is_no_other_target(forwarding: Start, one: Upstream, two: Upstream) -> None:
    two.will(status(429, retry_after="1"))
    answer = forwarding(two_models(one.url, two.url)).ask(model="two/small")
    assert (answer.status_code, answer.headers["x-archroute-tries"]) == (200, "2")
    first, second = two.arrivals
    assert second.time - first.time >= 1.0


def test_nothing_is_tried_twice_without_being_asked_to(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if a retry of ours came on top of the client's own."""
    two.will(status(500), status(429), status(503, retry_after="3600"))
    server = forwarding(two_models(one.url, two.url))
    assert [server.ask(model="two/small").status_code >= 429 for _ in range(3)] == [True] * 3
    assert len(two.arrivals) == 3


@pytest.mark.parametrize("end", [resets, hangs_up], ids=["reset", "hung up"])
def test_after_the_first_byte_a_broken_stream_ends_with_an_error(
    forwarding: Start, one: Upstream, two: Upstream, end: Answer
) -> None:
    events = chat_events()[:4]
    one.will(streamed(events, then=end))
    server = forwarding(two_models(one.url, two.url))
    answer = server.ask(stream=True)
    sent = b"".join(events)
    assert answer.status_code == 200
    assert answer.content.startswith(sent)
    assert b"[DONE]" not in answer.content
    last = answer.content[len(sent) :].decode().strip().splitlines()
    (data,) = [line.removeprefix("data: ") for line in last if line.startswith("data: ")]
    assert json.loads(data)["error"]["message"]
    assert not two.arrivals
    (entry,) = server.entries.wait_for(1)
    assert (entry.outcome, entry.status, entry.model) == ("failed", 200, "one/big")
    assert [each.error is not None for each in entry.tries] == [True]


def test_an_error_event_stands_alone_behind_half_an_event(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if the client's parser took the error for the rest of what broke off."""
    server = forwarding(two_models(one.url, two.url))
    for part in (b'data: {"choi', b"data: ", b": com", b"event: new\n", b"data: {}\n"):
        one.will(streamed([b"data: {}\n\n", part], then=resets))
        content = server.ask(model="one/big", stream=True).content
        assert content.startswith(b"data: {}\n\n")
        last = content.strip().rpartition(b"\n\n")[2]
        assert last.startswith(b"data: "), part
        assert json.loads(last.removeprefix(b"data: "))["error"]["message"]


async def two_lengths(exchange: Exchange) -> None:
    """A reply that states a length and comes in chunks, too."""
    await exchange.head(200, [("Content-Length", "3"), ("Transfer-Encoding", "chunked")])
    await exchange.send(b"6\r\n[1, 2]\r\n0\r\n\r\n")


def test_a_length_that_chunks_contradict_counts_for_nothing(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(two_lengths)
    answer = forwarding(two_models(one.url, two.url)).ask()
    assert (answer.status_code, answer.content) == (200, b"[1, 2]")


def test_half_an_answer_is_never_taken_for_a_whole_one(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(short(b'{"choices": [],'))
    server = forwarding(two_models(one.url, two.url))
    try:
        answer = server.ask()
    except httpx.RemoteProtocolError:
        return
    sends_both(answer)


def test_a_connection_that_was_closed_while_idle_costs_no_try(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if an idle connection's end, which every server brings about in time, counted as a failure."""
    one.will(then_closes(as_asked()), as_asked(), hangs_up)
    server = forwarding(two_models(one.url, two.url))
    for _ in range(2):
        assert server.ask().headers["x-archroute-model"] == "one/big"
    assert one.arrivals[1].n_before == 0


RESTS = "archroute: {rest: {after: 3, for: %s}}"


def test_a_target_that_fails_three_times_in_a_row_rests(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(status(500), status(500), as_asked(), status(500), status(503), garbage)
    server = forwarding(two_models(one.url, two.url, more=RESTS % 1000))
    answers = [server.ask(f"{BUG} {number}") for number in range(8)]
    assert [each.headers["x-archroute-model"] for each in answers] == [
        *("two/small", "two/small", "one/big", "two/small", "two/small", "two/small"),
        *("two/small", "two/small"),
    ]
    assert len(one.arrivals) == 6
    assert [each.headers["x-archroute-tries"] for each in answers[-2:]] == ["1", "1"]


def test_a_target_that_rested_comes_back(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(status(500), status(500), status(500))
    server = forwarding(two_models(one.url, two.url, more=RESTS % 0.01))
    for number in range(3):
        server.ask(f"{BUG} {number}")
    time.sleep(0.01)
    assert server.ask().headers["x-archroute-model"] == "one/big"


def test_one_that_rests_still_answers_where_it_is_the_only_one(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(*[status(500)] * 3)
    server = forwarding(two_models(one.url, two.url, more=RESTS % 1000))
    assert [server.ask(model="one/big").status_code for _ in range(4)][-1] == 200


def test_errors_of_the_client_make_no_target_rest(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(*[status(400)] * 5)
    server = forwarding(two_models(one.url, two.url, more=RESTS % 1000))
    assert [server.ask().status_code for _ in range(6)] == [400] * 5 + [200]


def leave_after(server: GatewayServer, upstream: Upstream, n_bytes: int, stream: bool = True) -> Arrival:
    """Ask, read at least so many bytes of the answer, and hang up while the upstream is still at it."""
    body = json.dumps({"model": "auto", "stream": stream, "messages": [{"role": "user", "content": BUG}]}).encode()
    url = httpx.URL(server.address)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as client:
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        arrival = upstream.next_arrival()
        came = 0
        while came < n_bytes:
            came += len(client.recv(1 << 16))
        assert not arrival.left.is_set()
    return arrival


@pytest.mark.parametrize(
    ("answer", "n_bytes", "stream"),
    [
        (never, 0, True),
        (never, 0, False),
        (held(plain(b"{}")), 0, False),
        (streamed(chat_events(), gate_after=0), 0, True),
        (streamed(chat_events(), gate_after=3), 400, True),
    ],
    ids=["silent, stream", "silent", "held", "head alone", "within the stream"],
)
def test_a_client_that_leaves_ends_the_request(
    forwarding: Start, one: Upstream, two: Upstream, answer: Answer, n_bytes: int, stream: bool
) -> None:
    one.will(answer)
    server = forwarding(two_models(one.url, two.url))
    leave_after(server, one, n_bytes, stream).wait_until_left()
    (entry,) = server.entries.wait_for(1)
    assert entry.outcome == "aborted"
    assert not two.arrivals


def test_a_client_that_leaves_in_the_second_try_ends_that(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(status(500))
    two.will(never)
    server = forwarding(two_models(one.url, two.url))
    leave_after(server, two, 0).wait_until_left()
    (entry,) = server.entries.wait_for(1)
    assert (entry.outcome, [each.model for each in entry.tries]) == ("aborted", ["one/big", "two/small"])


def test_clients_that_leave_are_no_failure_of_the_target(forwarding: Start, one: Upstream, two: Upstream) -> None:
    """Would break if users who press Stop three times sent everybody to another model."""
    one.will(*[never] * 3)
    server = forwarding(two_models(one.url, two.url, more=RESTS % 1000))
    for _ in range(3):
        leave_after(server, one, 0).wait_until_left()
    assert server.ask().headers["x-archroute-model"] == "one/big"


def test_a_server_that_ends_lets_a_stream_come_to_its_end(forwarding: Start, one: Upstream, two: Upstream) -> None:
    one.will(streamed(chat_events(), gate_after=2))
    server = forwarding(two_models(one.url, two.url))
    asked = {"model": "auto", "messages": [{"role": "user", "content": BUG}], "stream": True}
    with server.client.stream("POST", CHAT, json=asked) as answer:
        parts = answer.iter_raw()
        came = next(parts)
        server.end()
        one.open_gate()
        with suppress(StopIteration):
            while True:
                came += next(parts)
    assert came == b"".join(chat_events())
