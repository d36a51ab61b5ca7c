"""Answers that are compressed, quote keys, or end with the server."""

from __future__ import annotations

import gzip

import pytest

from archroute_edge.gateway import Gateway
from tests.gateway.conftest import KEY, Kept, ask, configure, request, run
from tests.upstream import Answer, Exchange, Upstream, hangs_up, plain, refused_url, status, streamed
from tests.upstream_replies import chat_events

ERROR = b'data: {"error": {"message": "overloaded", "code": 529}}\n\n'


def test_a_compressed_stream_passes_as_it_is(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    body = gzip.compress(b"".join(chat_events()))
    upstream.will(streamed([body[:20], body[20:]], headers=[("Content-Encoding", "gzip")]))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True})))
    assert (reply.status, reply.body) == (200, body)


def test_keys_of_ours_never_come_out_of_a_stream(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept, keep_content=True)
    answer = [chat_events(KEY)[1], chat_events(f"say {KEY}")[3]]
    upstream.will(streamed([*answer, f'data: {{"error": {{"message": "wrong key {KEY}"}}}}\n\n'.encode()]))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True})))
    assert reply.body == b"".join(answer) + b'data: {"error": {"message": "wrong key [redacted]"}}\n\n'
    content = kept[0].content
    assert content is not None
    assert "wrong key [redacted]" in (content.answer or "")


@pytest.mark.parametrize("n_first", [10, 50, 60])
def test_keys_of_ours_never_come_out_of_an_error_in_slow_parts(upstream: Upstream, kept: Kept, n_first: int) -> None:
    """Before the key, and within it."""
    answer, error = chat_events()[1], f'data: {{"error": {{"message": "this is a wrong key {KEY}"}}}}\n\n'.encode()
    gateway = Gateway(configure({"p/one": upstream.url}), kept, keep_content=True)
    upstream.will(streamed([answer, error[:n_first], error[n_first:]], gate_after=2))

    async def read() -> bytes:
        forwarded = await gateway.forward(request({"model": "p/one", "stream": True}))
        body = b""
        async for chunk in forwarded.content:
            body += chunk
            if len(body) > len(answer):
                upstream.open_gate()
        await forwarded.close()
        return body

    assert run(gateway, read) == answer + error.replace(KEY.encode(), b"[redacted]")
    assert kept[0].tries[0].error == "error_event"
    assert KEY not in repr(kept)


def test_keys_of_ours_never_come_out_of_the_headers_of_an_answer(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed(chat_events(), headers=[("X-Upstream-Auth", f"Bearer {KEY}"), ("X-Request-Id", "7")]))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True})))
    assert reply.status == 200
    assert (reply.headers["x-upstream-auth"], reply.headers["x-request-id"]) == ("Bearer [redacted]", "7")


def test_keys_of_ours_never_come_out_of_a_body_that_is_an_error(upstream: Upstream, kept: Kept) -> None:
    """Also if it comes in pieces, and if what is shown of it is cut within the key."""
    body = f'{{"error": {{"message": "{"x" * 960}{KEY}"}}}}'.encode()
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(streamed([body[:300], body[300:970], body[970:]], content_type="application/json"))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one"})))
    assert reply.status == 502
    assert KEY[:6] not in f"{reply}"


async def unframed(exchange: Exchange) -> None:
    """A stream that ends with its connection, and with an error event of its own."""
    await exchange.head(200, [("Content-Type", "text/event-stream"), ("Connection", "close")])
    await exchange.send(chat_events()[1] + ERROR)
    exchange.close()


@pytest.mark.parametrize("answer", [unframed, streamed([chat_events()[1], ERROR], then=hangs_up)], ids=["unframed", "broken"])
def test_an_upstreams_own_error_event_is_the_only_one(upstream: Upstream, kept: Kept, answer: Answer) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(answer)
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True})))
    assert reply.body == chat_events()[1] + ERROR
    assert (kept[0].outcome, kept[0].tries[0].error) == ("failed", "error_event")


def test_the_length_of_a_stream_stays_behind(upstream: Upstream, kept: Kept) -> None:
    """An error event may follow, and keys in one are replaced."""
    gateway = Gateway(configure({"p/one": upstream.url}), kept)
    upstream.will(plain(b"".join(chat_events()), content_type="text/event-stream"))
    reply = run(gateway, lambda: ask(gateway, request({"model": "p/one", "stream": True})))
    assert reply.body == b"".join(chat_events())
    assert "content-length" not in reply.headers


def test_an_error_that_says_more_than_a_refused_connection_reaches_the_client(upstream: Upstream, kept: Kept) -> None:
    with refused_url() as url:
        gateway = Gateway(configure({"p/one": upstream.url, "p/two": url}, aliases={"both": ["p/one", "p/two"]}), kept)
        upstream.will(status(429, retry_after="1000"))
        reply = run(gateway, lambda: ask(gateway, request({"model": "both"})))
    assert reply.status == 429
    assert 990 < int(reply.headers["retry-after"]) <= 1000


def test_a_server_that_ends_blames_no_target(upstream: Upstream, kept: Kept) -> None:
    gateway = Gateway(configure({"p/one": upstream.url}, rest_after=1), kept)
    upstream.will(streamed(chat_events(), gate_after=3))

    async def end() -> None:
        forwarded = await gateway.forward(request({"model": "p/one", "stream": True}))
        assert b"shutting_down" in (forwarded.break_off("the server ends") or b"")
        await forwarded.close()

    run(gateway, end)
    assert kept[0].outcome == "aborted"
    assert not gateway.health.is_resting("p/one")
