"""One request along its targets, against upstreams with faults."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from archroute_edge.config import KeyRule, ModelFacts, Price, Shadow, TrafficRule
from archroute_edge.gateway import Gateway
from archroute_edge.record import Operation
from tests.gateway.conftest import KEY, Kept, ask, configure, request, run
from tests.upstream import (
    Answer,
    Upstream,
    empty,
    empty_stream,
    garbage,
    gzipped,
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
    truncated_chunk,
)
from tests.upstream_replies import chat_events, chat_reply, messages_events, responses_events

CHAT = {"model": "both", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
SAYS_DONE = b'data: {"choices": [{"delta": {"content": "data: [DONE]"}}]}\n\n'
SSE_ERROR = b'data: {"error": {"message": "overloaded", "code": 529}}\n\n'


def in_pieces(*pieces: bytes) -> Answer:
    """An answer that is no stream of events, each piece a chunk of its own."""
    return streamed(pieces, content_type="application/json")


@pytest.fixture
def two(upstream: Upstream, second: Upstream, kept: Kept) -> Gateway:
    """The alias ``both``: first ``p/one`` at ``upstream``, then ``p/two`` at ``second``."""
    config = configure(
        {"p/one": upstream.url, "p/two": second.url}, aliases={"both": ["p/one", "p/two"]}, first_byte_timeout=10.0
    )
    return Gateway(config, kept)


def test_an_alias_serves_its_name_also_if_a_model_has_it(upstream: Upstream, second: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url, "p/two": second.url}, aliases={"one": ["p/two"]}), kept)
    reply = run(gateway, lambda: ask(gateway, request({**CHAT, "model": "one"})))
    assert reply.headers["x-archroute-model"] == "p/two"
    assert upstream.arrivals == []


@pytest.mark.parametrize("is_stream", [False, True])
def test_bytes_pass_as_they_are(upstream: Upstream, kept: Kept, is_stream: bool) -> None:
    raw = b'{ "messages":[{"role":"user","content":"h\\u00e9 \xc3\xa9"}],\n "x_new": 1.10,"model" :"p/one","stream":%s }'
    raw %= b"true" if is_stream else b"false"
    events = chat_events(model="one")
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed(events) if is_stream else plain(chat_reply(model="one"), headers=[("X-Request-Id", "7")]))
    reply = run(gateway, lambda: ask(gateway, request(raw)))
    arrival = upstream.next_arrival()
    assert arrival.body == raw.replace(b'"p/one"', b'"one"')
    assert arrival.path == "/v1/chat/completions"
    assert reply.body == (b"".join(events) if is_stream else chat_reply(model="one"))
    assert reply.headers.get("x-request-id") == (None if is_stream else "7")
    assert (reply.headers["x-archroute-model"], reply.headers["x-archroute-tries"]) == ("p/one", "1")
    [entry] = kept
    assert (entry.outcome, entry.status, entry.model, entry.response_model) == ("completed", 200, "p/one", "one")
    assert (entry.usage.input, entry.usage.output, entry.usage.cached) == (12, 7, 4)


@pytest.mark.parametrize(
    ("own", "query", "sent"), [("", b"beta=true", "?beta=true"), ("?api-version=3", b"beta=true", "?api-version=3&beta=true")]
)
def test_a_query_stands_behind_that_of_the_address(upstream: Upstream, kept: Kept, own: str, query: bytes, sent: str) -> None:
    gateway = Gateway(configure({"p/one": f"{upstream.url}{own}"}), kept)
    run(gateway, lambda: ask(gateway, request({"model": "p/one"}, "messages", query=query)))
    assert upstream.next_arrival().path == f"/v1/messages{sent}"


def test_a_compressed_reply_passes_as_it_is(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(gzipped(b'{"x": 1}'))
    reply = run(gateway, lambda: ask(gateway, request({**CHAT, "model": "p/one"})))
    assert upstream.next_arrival().header("accept-encoding") == "identity"
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.body.startswith(b"\x1f\x8b")


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (status(500), "server_error"),
        (status(529), "server_error"),
        (status(999), "bad_reply"),
        (status(429), "rate_limited"),
        (status(408), "timeout"),
        (status(401), "not_authorised"),
        (status(403), "not_authorised"),
        (status(404), "not_found"),
        (hangs_up, "bad_reply"),
        (resets, "connection_broken"),
        (garbage, "bad_reply"),
        (empty, "empty_answer"),
        (empty_stream, "empty_stream"),
        (streamed([b": thinking\n\n"]), "empty_stream"),
        (streamed([SSE_ERROR]), "error_event"),
        (status(200, message="overloaded"), "error_event"),
        (in_pieces(b'{"error": {"mess', b'age": "overloaded"}}'), "error_event"),
        (in_pieces(b"\n", b" \n", b'{ "err', b'or":"overloaded"}'), "error_event"),
        (in_pieces(b'{"type":', b'"error","error":{"type":"overloaded_error"}}'), "error_event"),
        (in_pieces(b"\n", b" \n"), "empty_answer"),
        (streamed([b'{"error": {'], content_type="application/json", then=hangs_up), "bad_reply"),
        (redirect("http://127.0.0.1:9/"), "redirect"),
    ],
)
def test_the_next_target_answers(
    two: Gateway, upstream: Upstream, second: Upstream, kept: Kept, fault: Answer, word: str
) -> None:
    upstream.will(fault)
    reply = run(two, lambda: ask(two, request(STREAM)))
    assert reply.status == 200
    assert reply.body == b"".join(chat_events(model="two"))
    assert (reply.headers["x-archroute-model"], reply.headers["x-archroute-tries"]) == ("p/two", "2")
    [entry] = kept
    assert [(each.model, each.error) for each in entry.tries] == [("p/one", word), ("p/two", None)]
    assert "location" not in reply.headers


def test_the_next_target_answers_where_the_first_refuses_connections(second: Upstream, kept: Kept) -> None:
    with refused_url() as url:
        gateway = Gateway(configure({"p/one": url, "p/two": second.url}, aliases={"both": ["p/one", "p/two"]}), kept)
        reply = run(gateway, lambda: ask(gateway, request(CHAT)))
    assert reply.status == 200
    assert [each.error for each in kept[0].tries] == ["connection_refused", None]


@pytest.mark.parametrize("body", [CHAT, STREAM])
def test_the_next_target_answers_where_the_first_is_silent(
    upstream: Upstream, second: Upstream, kept: Kept, body: dict[str, Any]
) -> None:
    models = {"p/one": ModelFacts(first_byte_timeout=0.05)}
    config = configure({"p/one": upstream.url, "p/two": second.url}, aliases={"both": ["p/one", "p/two"]}, models=models)
    gateway = Gateway(config, kept)
    upstream.will(never)
    reply = run(gateway, lambda: ask(gateway, request(body)))
    assert reply.status == 200
    assert [each.error for each in kept[0].tries] == ["timeout", None]


@pytest.mark.parametrize("code", [400, 413, 422])
def test_the_clients_own_fault_goes_to_the_client(two: Gateway, upstream: Upstream, second: Upstream, code: int) -> None:
    upstream.will(status(code, message="your fault"))
    reply = run(two, lambda: ask(two, request(CHAT)))
    assert (reply.status, reply.json()["error"]["message"]) == (code, "your fault")
    assert second.arrivals == []


@pytest.mark.parametrize(("fault", "code"), [(status(503), 503), (status(429), 429), (resets, 502), (redirect("/x"), 502)])
def test_no_target_is_left(two: Gateway, upstream: Upstream, second: Upstream, kept: Kept, fault: Answer, code: int) -> None:
    upstream.will(garbage)
    second.will(fault)
    reply = run(two, lambda: ask(two, request(CHAT)))
    assert reply.status == code
    assert reply.json()["error"]["message"]
    assert (kept[0].outcome, kept[0].status, kept[0].model) == ("failed", code, None)


@pytest.mark.parametrize(
    ("operation", "events", "expected"),
    # The texts speak of what a stream ends with.
    [
        ("chat", [*chat_events()[:2], SAYS_DONE], {"error": {"code": "broken_stream"}}),
        ("responses", responses_events("response.completed")[:4], {"type": "error", "sequence_number": 4}),
        ("messages", messages_events("message_stop")[:4], {"type": "error", "error": {"type": "api_error"}}),
    ],
)
@pytest.mark.parametrize("breaks", [lambda events: streamed(events, then=resets), truncated_chunk], ids=["between", "within"])
def test_a_stream_that_breaks_ends_with_an_error_event(
    upstream: Upstream,
    kept: Kept,
    operation: Operation,
    events: list[bytes],
    expected: dict[str, Any],
    breaks: Callable[[list[bytes]], Answer],
) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(breaks(events))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True}, operation)))
    whole = b"".join(events)
    assert reply.body.startswith(whole)
    last = reply.body[len(whole) :].decode()
    name, _, data = last.strip().rpartition("data: ")
    assert name == ("" if operation == "chat" else "event: error\n")
    assert _holds(json.loads(data), expected)
    assert (kept[0].outcome, kept[0].tries[0].error) == ("failed", "broken_stream")


def _holds(found: Any, expected: dict[str, Any]) -> bool:
    return all(_holds(found[key], each) if isinstance(each, dict) else found[key] == each for key, each in expected.items())


def test_an_error_event_stands_alone_behind_half_a_huge_event(upstream: Upstream, kept: Kept) -> None:
    half = b"data: " + b"x" * (2 << 20)
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed([chat_events()[1], half], then=hangs_up))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True})))
    assert reply.body.startswith(chat_events()[1] + half[:1000])
    assert json.loads(reply.body.strip().rpartition(b"\n\ndata: ")[2])["error"]["code"] == "broken_stream"


def test_half_an_event_passes_if_the_rest_does_not_come(upstream: Upstream, kept: Kept) -> None:
    event = chat_events()[1]
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed([event, event[:20], event[20:]], gate_after=2))

    async def read() -> list[bytes]:
        forwarded = await gateway.forward(request({"model": "p/one", "stream": True}))
        chunks = []
        async for chunk in forwarded.content:
            chunks.append(chunk)
            if len(chunks) == 2:
                upstream.open_gate()
        await forwarded.close()
        return chunks

    assert run(gateway, read) == [event, event[:20], event[20:]]


def test_an_answer_in_one_piece_that_breaks_is_cut(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(short(b'{"x": 1'))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"})))
    assert reply.is_cut
    assert (kept[0].outcome, kept[0].tries[0].error) == ("failed", "broken_answer")


@pytest.mark.parametrize(
    "pieces",
    [
        [b'{"err', b'ata": 1}'],
        [b'{"error"', b': null, "choices": [1]}'],
        [b'{"error": {}, "out', b'put": [1]}'],
        [b'{"type": ', b'"message"}'],
        [b'{"error": {', b"no JSON"],
        [b"  ", b"[1]"],
        [b'{"error": "', b"x" * (1 << 20), b"y"],
    ],
)
def test_an_answer_that_looks_like_an_error_passes(upstream: Upstream, kept: Kept, pieces: list[bytes]) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(in_pieces(*pieces))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"})))
    assert (reply.status, reply.body) == (200, b"".join(pieces))
    assert kept[0].outcome == "completed"


def test_an_answer_passes_with_its_first_byte(upstream: Upstream, kept: Kept) -> None:
    """Would break if more than errors were held."""
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed([b' {"id": 1', b"}"], content_type="application/json", gate_after=1))

    async def read() -> list[bytes]:
        forwarded = await gateway.forward(request({"model": "p/one"}))
        upstream.open_gate()
        chunks = [chunk async for chunk in forwarded.content]
        await forwarded.close()
        return chunks

    assert run(gateway, read) == [b' {"id": 1', b"}"]


@pytest.mark.parametrize("value", ["0", "0.01", "Sat, 28 Nov 2026 16:00:00 GMT"])
def test_the_last_target_is_waited_for(upstream: Upstream, kept: Kept, value: str) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(status(429, retry_after=value), status(503, retry_after=value))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"})))
    assert (reply.status, reply.headers["x-archroute-tries"]) == (200, "3")


@pytest.mark.parametrize(("value", "settings"), [("61", {}), ("soon", {}), ("30", {"timeout": 20.0})])
def test_what_is_too_long_is_not_waited_for(upstream: Upstream, kept: Kept, value: str, settings: dict[str, Any]) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}, **settings), kept)
    upstream.will(status(429, retry_after=value))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"})))
    assert (reply.status, reply.headers["retry-after"]) == (429, value)


def test_a_decision_that_took_all_the_time_blames_no_target(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}, timeout=20.0, rest_after=1), kept)
    asked = request({"model": "p/one"})
    reply = run(gateway, lambda: ask(gateway, replace(asked, started=asked.started - 20)))
    assert (reply.status, reply.json()["error"]["code"], reply.headers["x-archroute-tries"]) == (504, "timeout", "0")
    assert (upstream.arrivals, gateway.health.resting) == ([], ())
    assert (kept[0].outcome, kept[0].status, kept[0].tries) == ("failed", 504, ())


def test_a_try_that_had_hardly_any_time_blames_no_target(upstream: Upstream, second: Upstream, kept: Kept) -> None:
    """The client learns of the failure of the target that had time."""
    config = configure(
        {"p/one": upstream.url, "p/two": second.url}, aliases={"both": ["p/one", "p/two"]}, timeout=20.0, rest_after=1
    )
    gateway = Gateway(config, kept)
    upstream.will(never)
    asked = request({"model": "p/one"})
    reply = run(gateway, lambda: ask(gateway, replace(asked, started=asked.started - 19.9)))
    assert (reply.status, reply.json()["error"]["code"]) == (504, "timeout")
    assert [each.error for each in kept[0].tries] == ["out_of_time"]
    assert gateway.health.resting == ()
    gateway = Gateway(config, kept)
    upstream.will(status(500))
    second.will(never)
    both = request(CHAT)
    reply = run(gateway, lambda: ask(gateway, replace(both, started=both.started - 19.7)))
    assert (reply.status, gateway.health.resting) == (500, ("p/one",))
    assert [each.error for each in kept[1].tries] == ["server_error", "out_of_time"]


def test_another_target_is_not_waited_for(two: Gateway, upstream: Upstream, second: Upstream) -> None:
    upstream.will(status(429, retry_after="30"))
    assert run(two, lambda: ask(two, request(CHAT))).headers["x-archroute-model"] == "p/two"


def test_a_target_that_failed_three_times_rests(two: Gateway, upstream: Upstream, second: Upstream) -> None:
    upstream.will(status(500), status(500), status(500))

    async def four() -> list[str]:
        return [(await ask(two, request(CHAT))).headers["x-archroute-tries"] for _ in range(4)]

    assert run(two, four) == ["2", "2", "2", "1"]
    assert len(upstream.arrivals) == 3


def test_keys_of_ours_never_come_out(two: Gateway, upstream: Upstream, second: Upstream, kept: Kept, caplog: Any) -> None:
    upstream.will(status(401, message=f"wrong key {KEY}", headers=[("X-Debug", KEY)]))
    second.will(status(500, message=f"{KEY} broke me", headers=[("X-Debug", KEY)]))
    reply = run(two, lambda: ask(two, request(CHAT)))
    assert upstream.next_arrival().header("authorization") == f"Bearer {KEY}"
    assert reply.json()["error"]["message"] == "[redacted] broke me"
    assert KEY not in f"{reply} {kept} {caplog.text} {two}"


SENT = {
    "Authorization": "Bearer of-the-client",
    "X-Api-Key": "of-the-client",
    "Cookie": "a=b",
    "Connection": "close, X-Hop",
    "X-Hop": "1",
    "Proxy-Authorization": "Basic x",
    "Content-Length": "7",
    "Host": "elsewhere",
    "Accept-Encoding": "gzip",
    "X-Archroute-Key": "ours",
    "X-Model-Affinity": "mine",
    "Origin": "http://localhost",
    "X-Forwarded-For": "10.0.0.1",
    "X-Stainless-Lang": "python",
    "Anthropic-Beta": "new",
}


def _sent(gateway: Gateway, upstream: Upstream, **more: Any) -> dict[str, str]:
    run(gateway, lambda: ask(gateway, request({"model": "p/one"}, headers=SENT, **more)))
    return {name.lower(): value for name, value in upstream.next_arrival().headers}


def test_headers_of_a_request(upstream: Upstream, kept: Kept) -> None:
    found = _sent(Gateway(configure({"p/one": upstream.url}), kept), upstream)
    assert found.pop("host") == upstream.address.removeprefix("http://")
    assert found == {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "content-length": "16",
        "x-stainless-lang": "python",
        "anthropic-beta": "new",
    }


@pytest.mark.parametrize(
    ("server_key_in", "expected"),
    [
        ([], ("Bearer of-the-client", "of-the-client")),
        ([b"x-archroute-key"], ("Bearer of-the-client", "of-the-client")),
        ([b"authorization"], (None, "of-the-client")),
        ([b"x-api-key"], ("Bearer of-the-client", None)),
        ([b"authorization", b"x-api-key"], (None, None)),
    ],
)
def test_credentials_of_the_client_pass_where_they_are_asked_for(
    upstream: Upstream, kept: Kept, server_key_in: list[bytes], expected: tuple[str | None, str | None]
) -> None:
    """The key of this server is nobody else's, whichever header it came in."""
    gateway = Gateway(configure({"p/one": upstream.url}, passthrough=True), kept)
    found = _sent(gateway, upstream, server_key_in=frozenset(server_key_in))
    assert (found.get("authorization"), found.get("x-api-key")) == expected
    assert "x-archroute-key" not in found
    assert "cookie" not in found


def test_headers_of_a_reply(upstream: Upstream, kept: Kept) -> None:
    sent = [
        ("Set-Cookie", "a=b"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Access-Control-Allow-Origin", "*"),
        ("X-Archroute-Route", "forged"),
        ("Server", "theirs"),
        ("X-Ratelimit-Remaining", "9"),
    ]
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(plain(b"{}", headers=sent))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"})))
    assert set(reply.headers) == {
        "content-type",
        "content-length",
        "x-ratelimit-remaining",
        "x-archroute-model",
        "x-archroute-tries",
    }


@pytest.mark.parametrize("answer", [never, held(plain(b"{}")), streamed(chat_events(), gate_after=0)])
def test_a_client_that_goes_away_ends_the_request(upstream: Upstream, kept: Kept, answer: Answer) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(answer)

    async def leave() -> None:
        asking = asyncio.ensure_future(gateway.forward(request({"model": "p/one"})))
        arrival = await asyncio.to_thread(upstream.next_arrival)
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.to_thread(arrival.wait_until_left)

    run(gateway, leave)
    assert (kept[0].outcome, kept[0].status, kept[0].tries[0].error) == ("aborted", 499, "aborted")


def test_a_client_that_goes_away_within_a_stream_ends_it(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed(chat_events(), gate_after=3))

    async def leave() -> None:
        forwarded = await gateway.forward(request({"model": "p/one", "stream": True}))
        async for _ in forwarded.content:
            break
        await forwarded.close()
        await asyncio.to_thread(upstream.next_arrival().wait_until_left)

    run(gateway, leave)
    assert (kept[0].outcome, kept[0].status) == ("aborted", 200)


def test_money(upstream: Upstream, second: Upstream, kept: Kept) -> None:
    models = {
        "p/one": ModelFacts(price=Price(input=10.0, output=20.0)),
        "p/two": ModelFacts(price=Price(input=1.0, output=2.0, cached=0.5)),
    }
    gateway = Gateway(configure({"p/one": upstream.url, "p/two": second.url}, models=models), kept)
    run(gateway, lambda: ask(gateway, request({"model": "p/two"})))
    assert kept[0].cost == pytest.approx((8 * 1.0 + 4 * 0.5 + 7 * 2.0) / 1e6)
    assert kept[0].default_cost == pytest.approx((8 * 10.0 + 4 * 1.0 + 7 * 20.0) / 1e6)


def test_a_shadow_is_asked_after_the_answer(upstream: Upstream, second: Upstream, kept: Kept) -> None:
    config = configure({"p/one": upstream.url, "p/two": second.url}, aliases={"both": ["p/one"]})
    rule = TrafficRule(shadow=Shadow("p/two", 1.0))
    gateway = Gateway(replace(config, forward=replace(config.forward, aliases={"both": rule})), kept)
    upstream.will(streamed(chat_events(), gate_after=3))

    async def both() -> None:
        forwarded = await gateway.forward(request(STREAM))
        async for _ in forwarded.content:
            assert second.arrivals == []
            upstream.open_gate()
        await forwarded.close()
        arrival = await asyncio.to_thread(second.next_arrival)
        assert arrival.json() == {**STREAM, "model": "two"}
        while len(kept) < 2:
            await asyncio.sleep(0.005)

    run(gateway, both)
    first, shadow = kept
    assert shadow.shadow_of == first.id
    assert (shadow.model, shadow.outcome, shadow.usage) == ("p/two", "completed", first.usage)


def test_tokens_count_against_the_limit_of_a_key(upstream: Upstream, kept: Kept) -> None:
    rule = KeyRule("alice", "alices-key", tokens_per_minute=19)
    gateway = Gateway(configure({"p/one": upstream.url}, keys=(rule,)), kept)
    assert gateway.limits.ask("alice") is None
    run(gateway, lambda: ask(gateway, request({"model": "p/one"}, client="alice")))
    assert gateway.limits.ask("alice") is not None
    assert kept[0].client == "alice"


LONG = "a word or two " * 100


@pytest.mark.parametrize(
    ("operation", "events", "n_read"),
    [
        ("chat", chat_events(LONG, with_usage=False), 1000),
        ("chat", chat_events(LONG), 300),
        ("messages", messages_events(LONG), 5),
        ("responses", responses_events(LONG), 5),
    ],
    ids=["not asked for", "left early", "left after a first report", "left after the text was repeated"],
)
def test_tokens_that_no_upstream_reports_are_estimated(
    upstream: Upstream, kept: Kept, operation: Operation, events: list[bytes], n_read: int
) -> None:
    rule = KeyRule("alice", "alices-key", tokens_per_minute=600)
    gateway = Gateway(configure({"p/one": upstream.url}, keys=(rule,)), kept)
    upstream.will(streamed(events), streamed(events))
    asked = {"model": "p/one", "stream": True, "messages": [{"role": "user", "content": "hello"}]}

    async def read() -> float | None:
        forwarded = await gateway.forward(request(asked, operation, client="alice"))
        n_events = 0
        async for chunk in forwarded.content:
            n_events += chunk.count(b"\n\n")
            if n_events >= n_read:
                break
        await forwarded.close()
        return gateway.limits.ask("alice")

    async def twice() -> list[bool]:
        return [await read() is not None, await read() is not None]

    assert run(gateway, twice) == [False, True]
    assert kept[0].usage.output in (None, 7)


def test_a_prompt_counts_though_its_client_leaves(upstream: Upstream, kept: Kept) -> None:
    rule = KeyRule("alice", "alices-key", tokens_per_minute=100)
    gateway = Gateway(configure({"p/one": upstream.url}, keys=(rule,)), kept)
    upstream.will(never)

    async def leave() -> float | None:
        asked = request({"model": "p/one", "messages": "x" * 300}, client="alice")
        asking = asyncio.ensure_future(gateway.forward(asked))
        await asyncio.to_thread(upstream.next_arrival)
        asking.cancel()
        await asyncio.wait({asking})
        return gateway.limits.ask("alice")

    assert run(gateway, leave) is not None


def test_a_proxy_leads_to_other_machines_only(upstream: Upstream, second: Upstream, kept: Kept, monkeypatch: Any) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    config = configure({"p/far": "http://models.invalid/v1", "p/near": second.url})
    gateway = Gateway(config, kept, proxy=upstream.address)

    async def both() -> list[int]:
        return [(await ask(gateway, request({"model": model}))).status for model in ("p/far", "p/near")]

    assert run(gateway, both) == [200, 200]
    assert upstream.next_arrival().path == "http://models.invalid/v1/chat/completions"
    assert len(second.arrivals) == 1


@pytest.mark.parametrize(("keep_content", "shadow"), [(False, 0.0), (True, 0.0), (False, 1.0)])
def test_a_request_is_let_go_while_its_answer_comes(
    upstream: Upstream, second: Upstream, kept: Kept, keep_content: bool, shadow: float
) -> None:
    config = configure({"p/one": upstream.url, "p/two": second.url}, aliases={"one": ["p/one"]})
    rule = TrafficRule(shadow=Shadow("p/two", shadow))
    config = replace(config, forward=replace(config.forward, aliases={"one": rule}))
    gateway = Gateway(config, kept, keep_content=keep_content)
    upstream.will(streamed(chat_events(), gate_after=2))

    async def held() -> tuple[int, bool]:
        asked = request({"model": "one", "stream": True})
        before = sys.getrefcount(asked.raw)
        forwarded = await gateway.forward(replace(asked))
        found = sys.getrefcount(asked.raw) - before, forwarded.holds_request
        await forwarded.close()
        return found

    n_held, is_held = run(gateway, held)
    assert (n_held > 0) == is_held == (keep_content or shadow > 0)


def test_texts_are_kept_only_if_they_are_asked_for(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept, keep_content=True)
    run(gateway, lambda: ask(gateway, request({"model": "p/one", "messages": "hello"})))
    [entry] = kept
    assert entry.content is not None
    assert json.loads(entry.content.request) == {"model": "p/one", "messages": "hello"}
    assert entry.content.answer == chat_reply(model="one").decode()


def test_a_target_that_does_not_speak_the_api_is_named(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}, interface="openai"), kept)
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"}, "messages")))
    assert reply.status == 400
    assert reply.json()["type"] == "error"
    assert "p/one does not speak the API of /v1/messages" in reply.json()["error"]["message"]


def test_a_new_configuration_holds_for_new_requests(upstream: Upstream, second: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)

    async def work() -> tuple[bool, bool, int]:
        gateway.replace(configure({"p/two": second.url}))
        return gateway.knows("p/one"), gateway.knows("p/two"), (await ask(gateway, request({"model": "p/two"}))).status

    assert run(gateway, work) == (False, True, 200)
