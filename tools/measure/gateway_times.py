"""What forwarding costs: time added to a request, time a byte is held, many streams at once, memory, and clients that leave.

    python -m tools.measure.gateway_times [--requests 400] [--streams 200] [--minutes 0.5] [--record]

A server process with ``mini`` stands between this process and an upstream that is a process of its own and answers at once.
The same requests go there directly, in turns with those through the server, over connections that stay open. Prints JSON;
exit code 1 if a bar is missed.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import psutil

from archroute_edge.report import p95
from tools.measure.server_process import ServerProcess
from tools.measure.stamping_upstream import STAMP, StampingUpstream

MOST_ADDED_MS = 2.0
MOST_HELD_MS = 1.0
MOST_TO_NOTICE_MS = 100.0
_PATH = "/v1/chat/completions"
_HOST = "127.0.0.1"


def _body(number: int, model: str = "auto", **more: Any) -> bytes:
    text = f"my function number {number} raises an IndexError in its loop, please fix it"
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p10": 0.1, "p50": 0.5}
    found = {name: round(ordered[int(len(ordered) * part)], 3) for name, part in at.items()}
    return found if (tail := p95(values, 3)) is None else {**found, "p95": tail}


class _Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(_HOST, port, timeout=60)
        self._connection.connect()
        assert self._connection.sock
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes) -> tuple[float, bytes]:
        """Milliseconds, and the answer."""
        started = time.perf_counter()
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        took = (time.perf_counter() - started) * 1e3
        if answer.status != 200:
            raise SystemExit(f"HTTP {answer.status}: {content[:300]!r}")
        return took, content

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()


def added_time(server_port: int, upstream_port: int, n_requests: int) -> dict[str, Any]:
    """Requests in turns: to the upstream, through the server to a model named, through it to where the route leads.

    On a machine that does other work, the tenth percentile says more than the median.
    """
    direct, through = _Client(upstream_port), _Client(server_port)
    found: dict[str, list[float]] = {"direct": [], "named": [], "auto": [], "decision": []}
    for number in range(n_requests + 20):
        times = {
            "direct": direct.post(_PATH, _body(number))[0],
            "named": through.post(_PATH, _body(number, "stub/model"))[0],
            "auto": through.post(_PATH, _body(number))[0],
        }
        # Of the request before.
        entries = json.loads(through.get("/v1/activity"))["entries"]
        times["decision"] = max(entries, key=lambda entry: entry["time"])["decision_ms"]
        if number >= 20:
            for name, value in times.items():
                found[name].append(value)
    spreads = {name: _spread(values) for name, values in found.items()}
    direct_ms, named_ms, auto_ms, decision_ms = (spreads[name] for name in ("direct", "named", "auto", "decision"))
    return {
        "ms": spreads,
        "added_named_ms": {at: round(named_ms[at] - direct_ms[at], 3) for at in ("p10", "p50")},
        "added_auto_ms": {at: round(auto_ms[at] - direct_ms[at] - decision_ms[at], 3) for at in ("p10", "p50")},
    }


def processor_time(server_port: int, process: psutil.Process, n_requests: int) -> dict[str, float]:
    """Milliseconds of processor time that the server spends on a request whose model is named."""
    client = _Client(server_port)
    client.post(_PATH, _body(0, "stub/model"))
    before = process.cpu_times()
    for number in range(n_requests):
        client.post(_PATH, _body(number, "stub/model"))
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return {"named_ms": round(spent / n_requests * 1e3, 3)}


async def _stream(port: int, body: bytes, on_event: Callable[[int, int], None]) -> bool:
    """Read a stream to its end; ``on_event`` gets the time an event was sent, and that it came."""
    reader, writer = await asyncio.open_connection(_HOST, port)
    try:
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % _PATH.encode())
        writer.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        rest = b""
        while part := await reader.read(1 << 16):
            now = time.monotonic_ns()
            *events, rest = (rest + part).split(b"\n\n")
            for event in events:
                if STAMP in event:
                    on_event(int(event.partition(STAMP)[2].split(b" ")[0]), now)
                if event.endswith(b"data: [DONE]"):
                    return True
        return False
    finally:
        writer.close()


def held_time(server_port: int, upstream_port: int, n_streams: int) -> dict[str, Any]:
    """From an event's stamp to its arrival, directly and through the server; the first event of a stream, and the others."""
    held: dict[str, list[float]] = {"direct_first": [], "direct_later": [], "through_first": [], "through_later": []}

    async def measure() -> None:
        for number in range(n_streams + 5):
            for name, port in (("direct", upstream_port), ("through", server_port)):
                came: list[float] = []
                body = _body(number, "stub/model", stream=True, events=10, interval=0.01)
                await _stream(port, body, lambda sent, now, came=came: came.append((now - sent) / 1e6))  # type: ignore[misc]
                if number >= 5:
                    held[f"{name}_first"] += came[:1]
                    held[f"{name}_later"] += came[1:]

    asyncio.run(measure())
    spreads = {name: _spread(values) for name, values in held.items()}
    return {
        "ms": spreads,
        **{
            f"{which}_held_ms": {
                at: round(spreads[f"through_{which}"][at] - spreads[f"direct_{which}"][at], 3) for at in ("p10", "p50")
            }
            for which in ("first", "later")
        },
    }


def many_streams(server_port: int, process: psutil.Process, n_streams: int, seconds: float) -> dict[str, Any]:
    """So many streams at once, each followed by another until the time is up: failures, and the server's memory."""
    begun = time.monotonic()
    rss: list[float] = []
    counts = {"streams": 0, "failed": 0, "events": 0}
    slowest = [0.0]

    def note(sent: int, now: int) -> None:
        counts["events"] += 1
        slowest[0] = max(slowest[0], (now - sent) / 1e6)

    async def one(number: int) -> None:
        while time.monotonic() - begun < seconds:
            number += n_streams
            before = counts["events"]
            try:
                is_whole = await _stream(server_port, _body(number % 997, stream=True, events=20, interval=0.1), note)
            except OSError:
                is_whole = False
            counts["streams"] += 1
            counts["failed"] += not is_whole or counts["events"] - before < 20

    async def watch() -> None:
        while time.monotonic() - begun < seconds:
            rss.append(process.memory_info().rss / 2**20)
            await asyncio.sleep(0.5)

    async def run() -> None:
        await asyncio.gather(watch(), *(one(number) for number in range(n_streams)))

    asyncio.run(run())
    settled = rss[len(rss) // 4 :]
    return {
        "at_once": n_streams,
        **counts,
        "rss_mib": {
            "first": round(rss[0], 1),
            "settled": round(settled[0], 1),
            "most": round(max(rss), 1),
            "last": round(rss[-1], 1),
        },
        "slowest_event_ms": round(slowest[0], 1),
    }


def leaving(server_port: int, upstream_port: int, n_clients: int) -> dict[str, Any]:
    """From a client's leaving, within a stream, to the upstream's noticing it."""
    watch = _Client(upstream_port)
    found = []
    for number in range(n_clients):
        before = len(json.loads(watch.get("/left")))
        body = _body(number, "stub/model", stream=True, events=1000, interval=0.02)
        client = socket.create_connection((_HOST, server_port), timeout=30)
        client.sendall(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % _PATH.encode())
        client.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        came = b""
        while came.count(STAMP) < 3:
            came += client.recv(1 << 16)
        left_at = time.monotonic_ns()
        client.close()
        give_up_at = time.monotonic() + 30
        while len(noticed := json.loads(watch.get("/left"))) == before:
            if time.monotonic() > give_up_at:
                raise SystemExit("the upstream was not told that a client left")
            time.sleep(0.005)
        found.append((noticed[-1] - left_at) / 1e6)
    return {"clients": n_clients, "ms": _spread(found), "most_ms": round(max(found), 3)}


@click.command()
@click.option("--requests", type=click.IntRange(min=1), default=400, show_default=True, help="Requests of each kind.")
@click.option("--streams", type=click.IntRange(min=1), default=200, show_default=True, help="Streams at once.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True, help="How long.")
@click.option("--record", is_flag=True, help="With the record on.")
def main(requests: int, streams: int, minutes: float, record: bool) -> None:
    """Measure and print the figures as JSON; exit code 1 if one misses its bar."""
    with tempfile.TemporaryDirectory() as folder, StampingUpstream() as upstream:
        path = Path(folder) / "gateway.yaml"
        path.write_text(upstream.config, encoding="utf-8")
        options = ["--forward", "--config", str(path), "--model", "mini", *(["--record"] if record else [])]
        with ServerProcess(*options, XDG_DATA_HOME=str(Path(folder) / "data")) as server:
            port = int(server.address.rpartition(":")[2])
            process = psutil.Process(server.pid)
            figures = {
                "added": added_time(port, upstream.port, requests),
                "processor": processor_time(port, process, requests),
                "held": held_time(port, upstream.port, max(10, requests // 10)),
                "leaving": leaving(port, upstream.port, 20),
                "streams": many_streams(port, process, streams, minutes * 60),
            }
    bars = {
        "added at most 2 ms, model named": figures["added"]["added_named_ms"]["p50"] <= MOST_ADDED_MS,
        "added at most 2 ms plus the decision": figures["added"]["added_auto_ms"]["p50"] <= MOST_ADDED_MS,
        "the first byte is held at most 1 ms": figures["held"]["first_held_ms"]["p50"] <= MOST_HELD_MS,
        "a client's leaving is noticed within 100 ms": figures["leaving"]["most_ms"] <= MOST_TO_NOTICE_MS,
        "no stream fails": figures["streams"]["failed"] == 0,
    }
    print(json.dumps({**figures, "bars": bars}, indent=2))
    sys.exit(0 if all(bars.values()) else 1)


if __name__ == "__main__":
    main()
