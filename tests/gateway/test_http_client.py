"""Connections of the HTTP client whose requests are cancelled."""

from __future__ import annotations

import asyncio
import socket

import pytest

from archroute_edge.http_client import URL, UpstreamClient


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
