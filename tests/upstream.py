"""An upstream for tests: an HTTP server on loopback whose every byte, and every fault, a test chooses.

::

    with Upstream() as upstream:
        upstream.will(status(500), plain(chat_reply("done")))   # one request each, in this order; then its default
        ...                                                      # send requests to upstream.url + "/chat/completions"
        arrival = upstream.next_arrival()                        # what came: path, headers, body, when its client left

Nothing here waits for the clock: an answer that is slow stands at a gate, which the test opens with :meth:`Upstream.open_gate`.
Bodies of the three APIs are in :mod:`tests.upstream_replies`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import queue
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from tests.upstream_replies import reply_to

PATIENCE_S = 30.0
"""How long a test waits for what has to come."""

Headers = Sequence[tuple[str, str]]
Answer = Callable[["Exchange"], Awaitable[None]]
"""How one request is answered."""


class Arrival:
    """A request as it came, and what became of its client.

    ``left`` is set when the client went away before the answer was whole, ``finished`` when there is no more to send to it;
    ``sent`` has the time (:func:`time.monotonic`) of each piece of the answer.
    """

    def __init__(self, method: str, path: str, headers: Headers, n_before: int) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.n_before = n_before
        """Requests that came before on the same connection."""
        self.body = b""
        self.n_bytes = 0
        self.time = time.monotonic()
        self.left = threading.Event()
        self.left_at: float | None = None
        self.finished = threading.Event()
        self.sent: list[float] = []

    def header(self, name: str) -> str | None:
        """The values of a header, joined; None if it did not come."""
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        return ", ".join(found) if found else None

    def json(self) -> Any:
        return json.loads(self.body)

    def wait_until_left(self) -> float:
        """When the client left."""
        assert self.left.wait(PATIENCE_S), "the client is still there"
        assert self.left_at is not None
        return self.left_at


class ClientLeftError(Exception):
    """There is nobody to send to."""


class Exchange:
    """One request that is being answered: what an :data:`Answer` acts on."""

    def __init__(self, arrival: Arrival, connection: _Connection, upstream: Upstream) -> None:
        self.arrival = arrival
        self.upstream = upstream
        self._connection = connection

    async def head(self, status: int, headers: Headers) -> None:
        """Send a status line and these headers, nothing else."""
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._connection.writable()
        self.arrival.sent.append(time.monotonic())
        self._connection.transport.write(data)

    async def gate(self) -> None:
        """Wait until the test opens the gate, or the client leaves."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.upstream._gate, self._connection.lost)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if self._connection.lost.is_set():
            raise ClientLeftError

    def close(self) -> None:
        """Close the connection after what has been sent."""
        self._connection.transport.close()

    def reset(self) -> None:
        """Reset the connection, as a program that dies does."""
        sock = self._connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()


class _Connection(asyncio.Protocol):
    """Reads requests one after the other and has each answered."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._arrived = bytearray()
        self._more = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.lost = asyncio.Event()
        self._current: Arrival | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._upstream._connections.add(self)
        task = asyncio.ensure_future(self._serve())
        self._upstream._tasks.add(task)
        task.add_done_callback(self._upstream._tasks.discard)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        self._more.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def eof_received(self) -> None:
        self._note_leaving()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_leaving()
        self.lost.set()
        self._more.set()
        self._may_write.set()
        self._upstream._connections.discard(self)

    def _note_leaving(self) -> None:
        if self._current is not None and not self._current.left.is_set():
            self._current.left_at = time.monotonic()
            self._current.left.set()

    async def writable(self) -> None:
        await self._may_write.wait()
        if self.lost.is_set() or self.transport.is_closing():
            raise ClientLeftError

    async def _serve(self) -> None:
        n_before = 0
        with suppress(ClientLeftError):
            while not self.transport.is_closing():
                arrival = await self._read_request(n_before)
                n_before += 1
                self._current = arrival
                self._upstream._came(arrival)
                try:
                    await self._upstream._next_answer()(Exchange(arrival, self, self._upstream))
                finally:
                    self._current = None
                    arrival.finished.set()
        self.transport.close()

    async def _read_request(self, n_before: int) -> Arrival:
        head = (await self._take_to(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
        arrival = Arrival(method, path, headers, n_before)
        if (arrival.header("transfer-encoding") or "").lower() == "chunked":
            while length := int((await self._take_to(b"\r\n")).split(b";")[0], 16):
                await self._take_body(arrival, length)
                await self._take_to(b"\r\n")
            await self._take_to(b"\r\n")
        else:
            await self._take_body(arrival, int(arrival.header("content-length") or 0))
        return arrival

    async def _take_body(self, arrival: Arrival, length: int) -> None:
        kept = bytearray()
        while length:
            part = await self._take(length)
            length -= len(part)
            arrival.n_bytes += len(part)
            if self._upstream.keeps_bodies:
                kept += part
        arrival.body += bytes(kept)

    async def _take(self, most: int) -> bytes:
        while not self._arrived:
            await self._wait_for_more()
        taken = bytes(self._arrived[:most])
        del self._arrived[:most]
        return taken

    async def _take_to(self, end: bytes) -> bytes:
        while end not in self._arrived:
            await self._wait_for_more()
        taken, _, rest = self._arrived.partition(end)
        self._arrived = bytearray(rest)
        return bytes(taken)

    async def _wait_for_more(self) -> None:
        if self.lost.is_set():
            raise ClientLeftError
        self._more.clear()
        await self._more.wait()


class Upstream:
    """The server; a context manager.

    Args:
        default: answers the requests for which :meth:`will` says nothing: the reply of the API that is asked, streamed if
            the request asks for it.
        keeps_bodies: whether arrivals have their bodies; their size they always have.
    """

    def __init__(self, default: Answer | None = None, *, keeps_bodies: bool = True) -> None:
        self.keeps_bodies = keeps_bodies
        self._default = default or as_asked()
        self._script: deque[Answer] = deque()
        self.arrivals: list[Arrival] = []
        self._arrived: queue.Queue[Arrival] = queue.Queue()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address with ``/v1``, as a ``base_url`` is written."""
        return f"{self.address}/v1"

    def will(self, *answers: Answer) -> None:
        """Answer the next requests so, one each, in the order they come."""
        self._script.extend(answers)

    def forget(self) -> None:
        """Forget what has come and what is still to be answered: a test begins anew."""
        self._script.clear()
        self.arrivals.clear()
        while not self._arrived.empty():
            self._arrived.get_nowait()
        self.close_gate()

    def next_arrival(self) -> Arrival:
        """The next request that has not been asked for yet; waits for it."""
        try:
            return self._arrived.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError("no request came") from None

    def open_gate(self) -> None:
        """Let all answers that wait at the gate, or come to it, go on."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def close_gate(self) -> None:
        """Let answers wait again."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def drop_connections(self) -> None:
        """Close every connection, used or idle."""

        def drop() -> None:
            for connection in list(self._connections):
                connection.transport.close()

        self._loop.call_soon_threadsafe(drop)

    @property
    def n_connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    def _came(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        self._arrived.put(arrival)

    def _next_answer(self) -> Answer:
        return self._script.popleft() if self._script else self._default

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._gate = asyncio.Event()
        self._ending = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ending.wait()
        # A connection that was accepted just now is a task before it has a transport, which asyncio leaks if the server is
        # closed meanwhile.
        for listener in server.sockets:
            self._loop.remove_reader(listener.fileno())
        ends = self._loop.time() + PATIENCE_S
        while (others := asyncio.all_tasks() - {asyncio.current_task()}) or self._connections:
            for connection in list(self._connections):
                connection.transport.abort()
            await (asyncio.wait(others, timeout=0.05) if others else asyncio.sleep(0))
            if self._loop.time() > ends:
                break
        server.close()

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(PATIENCE_S)


@contextmanager
def refused_url() -> Iterator[str]:
    """A ``base_url`` whose port refuses connections, and which nothing else takes meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


# Answers.


def as_asked(headers: Headers = ()) -> Answer:
    """The reply of the API that is asked, streamed if the request asks for it."""

    async def answer(exchange: Exchange) -> None:
        found = reply_to(exchange.arrival.path, exchange.arrival.body)
        if isinstance(found, bytes):
            await plain(found, headers=headers)(exchange)
        else:
            await streamed(found, headers=headers)(exchange)

    return answer


def plain(body: bytes, status: int = 200, headers: Headers = (), content_type: str = "application/json") -> Answer:
    """``body``, with its length."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers])
        await exchange.send(body)

    return answer


def status(code: int, *, retry_after: str | None = None, message: str = "no", headers: Headers = ()) -> Answer:
    """An error in OpenAI's shape."""
    body = json.dumps({"error": {"message": message, "type": "whatever", "code": f"upstream_{code}"}}).encode()
    return plain(body, code, [*([("Retry-After", retry_after)] if retry_after is not None else []), *headers])


def streamed(
    pieces: Sequence[bytes],
    *,
    headers: Headers = (),
    gate_after: int | None = None,
    then: Answer | None = None,
    content_type: str = "text/event-stream",
) -> Answer:
    """A stream of server-sent events, each piece a chunk of its own.

    Args:
        pieces: the bytes, cut anywhere.
        headers: further ones.
        gate_after: pieces after which it waits at the gate; at 0 the head has been sent.
        then: what happens in place of the end.
        content_type: of something else than events.
    """

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, [("Content-Type", content_type), ("Transfer-Encoding", "chunked"), *headers])
        for number, piece in enumerate(pieces):
            if number == gate_after:
                await exchange.gate()
            await exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if gate_after == len(pieces):
            await exchange.gate()
        if then is None:
            await exchange.send(b"0\r\n\r\n")
        else:
            await then(exchange)

    return answer


def held(answer: Answer) -> Answer:
    """Nothing until the gate is open, then ``answer``."""

    async def held_answer(exchange: Exchange) -> None:
        await exchange.gate()
        await answer(exchange)

    return held_answer


async def resets(exchange: Exchange) -> None:
    """The connection is reset; after what was sent before, if it stands behind it."""
    exchange.reset()


async def hangs_up(exchange: Exchange) -> None:
    """The connection is closed without a word; in place of a stream's end, within it."""
    exchange.close()


async def never(exchange: Exchange) -> None:
    """Nothing, for as long as the client stays; the gate does not matter."""
    await exchange._connection.lost.wait()


async def garbage(exchange: Exchange) -> None:
    """What is no HTTP."""
    await exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n\x00\x01\x02 no HTTP\r\n\r\n")
    exchange.close()


async def empty_stream(exchange: Exchange) -> None:
    """A stream without one event."""
    await streamed([])(exchange)


async def empty(exchange: Exchange) -> None:
    """200 and nothing."""
    await plain(b"")(exchange)


def truncated_chunk(pieces: Sequence[bytes]) -> Answer:
    """A stream that ends within a chunk."""

    async def ends(exchange: Exchange) -> None:
        await exchange.send(b"ff\r\ndata: {")
        exchange.close()

    return streamed(pieces, then=ends)


def short(body: bytes) -> Answer:
    """``body``, of which the head says that it is longer."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, [("Content-Type", "application/json"), ("Content-Length", str(len(body) + 100))])
        await exchange.send(body)
        exchange.close()

    return answer


def redirect(location: str, code: int = 307) -> Answer:
    """A redirect elsewhere."""
    return plain(b"", code, [("Location", location)])


def gzipped(body: bytes) -> Answer:
    """``body``, compressed."""
    return plain(gzip.compress(body, mtime=0), headers=[("Content-Encoding", "gzip")])


def large(n_bytes: int, piece: bytes = b" " * (1 << 16)) -> Answer:
    """A body of so many bytes, never whole in memory; valid JSON."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, [("Content-Type", "application/json"), ("Content-Length", str(n_bytes))])
        left = n_bytes - 2
        while left > 0:
            part = piece[: min(left, len(piece))]
            await exchange.send(part)
            left -= len(part)
        await exchange.send(b"{}")

    return answer


def then_closes(answer: Answer) -> Answer:
    """``answer``, which does not say so, and then the connection is closed."""

    async def closing(exchange: Exchange) -> None:
        await answer(exchange)
        exchange.close()

    return closing
