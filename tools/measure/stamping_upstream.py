"""An upstream that stamps each event of a stream with the time it was sent; a process of its own, measured beside the gateway.

    python -m tools.measure.stamping_upstream

prints its port, and serves until its standard input ends. A request says what it wants, in parameters that no provider has:
``events`` and ``interval`` (seconds between them). The clock is the machine's monotonic one, so another process can read it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from types import TracebackType

_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "stub",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "done"}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
}
_BODY = json.dumps(_REPLY).encode()
_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = '{"object":"chat.completion.chunk","model":"stub","choices":[{"index":0,"delta":{"content":"%d "}}]}'
_LAST = '{"object":"chat.completion.chunk","model":"stub","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
_END = f"data: {_LAST}\n\ndata: [DONE]\n\n".encode()
STAMP = b'"content":"'
"""What stands before the stamp, in nanoseconds."""


_CONFIG = """
model_providers:
  - {model: stub/model, base_url: "http://127.0.0.1:%d/v1", provider_interface: openai, access_key: k, default: true}
routing_preferences:
  - {name: bug_fixing, description: Identifying and fixing errors or bugs in the provided code, models: [stub/model]}
  - {name: translation, description: Translating text from one language into another, models: [stub/model]}
  - {name: recipes, description: Cooking and meals, models: [stub/model]}
"""


class _Connection(asyncio.Protocol):
    left_at: list[int] = []  # noqa: RUF012 - of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._arrived = bytearray()
        self._stream: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        while (end := self._arrived.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._arrived[:end]).lower()
            _, found, after = head.partition(b"content-length:")
            length = int(after.split(b"\r\n")[0]) if found else 0
            if len(self._arrived) < end + 4 + length:
                return
            body = bytes(self._arrived[end + 4 : end + 4 + length])
            del self._arrived[: end + 4 + length]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /left"):
            text = json.dumps(_Connection.left_at).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            return
        asked = json.loads(body)
        if not asked.get("stream"):
            self._transport.write(_PLAIN)
            return
        self._stream = asyncio.ensure_future(self._send(int(asked["events"]), float(asked["interval"])))

    async def _send(self, n_events: int, interval: float) -> None:
        self._transport.write(_HEAD)
        for number in range(n_events):
            if number or interval:
                await asyncio.sleep(interval)
            event = b"data: %b\n\n" % (_CHUNK % time.monotonic_ns()).encode()
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_END), _END))
        self._stream = None

    def eof_received(self) -> None:
        self._left()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._left()

    def _left(self) -> None:
        if self._stream is not None:
            _Connection.left_at.append(time.monotonic_ns())
            self._stream.cancel()
            self._stream = None


class StampingUpstream:
    """The process; a context manager."""

    def __enter__(self) -> StampingUpstream:
        command = [sys.executable, "-m", "tools.measure.stamping_upstream"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii")
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    @property
    def config(self) -> str:
        """A configuration whose routes all lead here."""
        return _CONFIG % self.port

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()
        self._process.wait(timeout=30)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
