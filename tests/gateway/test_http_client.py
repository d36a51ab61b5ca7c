"""The HTTP client: connections whose requests are cancelled, and what it says of failures."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from archroute_edge.http_client import URL, UpstreamClient, UpstreamError
from tests.upstream import Exchange, Upstream, streamed

SECRET = "sk-secret-1234567890"


async def quotes_in_its_head(exchange: Exchange) -> None:
    await exchange.send(f"HTTP/1.1 200 OK\r\nX-Key {SECRET}\r\n\r\n".encode())


@pytest.mark.parametrize(("value", "word"), [(f"Bearer {SECRET} ", "connection_failed"), ("Bearer x", "bad_reply")])
def test_a_failure_quotes_no_bytes_of_either_side(upstream: Upstream, value: str, word: str) -> None:
    """Would break if the library's own message were shown: it quotes what it takes for no header."""

    async def send() -> None:
        client = UpstreamClient()
        try:
            await client.send(URL(upstream.url), [(b"authorization", value.encode())], b"{}", stall=30)
        finally:
            await client.close()

    upstream.will(quotes_in_its_head)
    with pytest.raises(UpstreamError, match=r"(?i)illegal header (value|line)$") as caught:
        asyncio.run(send())
    assert caught.value.word == word


def test_a_body_is_let_go_when_it_is_sent(upstream: Upstream) -> None:
    """Would break if the library's request kept it until the answer has ended."""
    body = b"x" * (1 << 20)

    async def send() -> None:
        client = UpstreamClient()
        before = sys.getrefcount(body)
        reply = await client.send(URL(upstream.url), [], body, stall=30)
        assert sys.getrefcount(body) == before
        await reply.close()
        await client.close()

    upstream.will(streamed([b"data: 1\n\n"], gate_after=1))
    asyncio.run(send())
    arrival = upstream.next_arrival()
    assert (arrival.body, arrival.header("content-length"), arrival.header("transfer-encoding")) == (body, str(1 << 20), None)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cancelled_request_closes_its_connection(scheme: str) -> None:
    """Before the reply, and during the TLS handshake; the client itself stays open."""

    async def cancel(listener: socket.socket) -> bytes:
        loop, client = asyncio.get_running_loop(), UpstreamClient()
        url = URL(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/")
        sending = asyncio.create_task(client.send(url, [(b"host", b"x")], b"{}", stall=30))
        peer, _ = await asyncio.wait_for(loop.sock_accept(listener), 30)
        with peer:
            peer.setblocking(False)
            # The request, or the first message of the handshake.
            assert await asyncio.wait_for(loop.sock_recv(peer, 1 << 16), 30)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            while rest := await asyncio.wait_for(loop.sock_recv(peer, 1 << 16), 10):
                pass
        await client.close()
        return rest

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        assert asyncio.run(cancel(listener)) == b""
