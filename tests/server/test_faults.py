"""A running server among clients that misbehave: each is dealt with, and the next request is answered."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from archroute_edge.server.http._api_errors import Refusals
from tests.cli.conftest import ROUTES
from tests.conftest import CARD_MESSAGE
from tools.measure.server_process import ServerProcess

ROUTE = {"messages": CARD_MESSAGE}

pytestmark = pytest.mark.usefixtures("tried_kernels")


def connect(server: ServerProcess, receive_buffer: int | None = None) -> socket.socket:
    place = urlsplit(server.address)
    plain = socket.socket()
    if receive_buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plain.settimeout(60)
    plain.connect((place.hostname, place.port))
    return plain


def raw_request(body: bytes, path: str = "/v1/route", length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@pytest.fixture
def answers(server: ServerProcess) -> Callable[[], None]:
    """Make sure that the server goes on."""

    def check() -> None:
        answer = httpx.post(f"{server.address}/v1/route", json=ROUTE, timeout=60)
        assert answer.status_code == 200
        assert answer.json()["route"] == "bug_fixing"

    return check


def test_clients_that_go_away_are_no_trouble(server: ServerProcess, answers: Callable[[], None]) -> None:
    """In the middle of the head, of the body, and of the decision."""
    whole = raw_request(json.dumps(ROUTE).encode())
    for sent in (b"", whole[:20], whole[:-5], raw_request(b"{}", length=10_000), *[whole] * 6):
        with connect(server) as plain:
            plain.sendall(sent)
    answers()
    metrics = httpx.get(f"{server.address}/metrics", timeout=60).text
    assert 'archroute_http_requests_total{path="/v1/route",status="499"}' in metrics


def test_fifty_megabytes_are_refused_and_not_kept(server: ServerProcess, answers: Callable[[], None]) -> None:
    def pieces() -> object:
        for _ in range(50):
            yield b" " * (1 << 20)

    headers = {"Content-Type": "application/json"}
    for content in (b" " * (50 << 20), pieces()):
        answer = httpx.post(f"{server.address}/v1/route", content=content, headers=headers, timeout=60)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    answers()


def test_what_is_no_http_is_refused(server: ServerProcess, answers: Callable[[], None]) -> None:
    endless = raw_request(b"").replace(b"Length: 0", b"Length: " + b"9" * 5000)
    for sent in (
        b"\x16\x03\x01\x02\x00" * 50,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"x" * 100_000 + b"\r\n\r\n",
        endless,
    ):
        with connect(server) as plain:
            try:
                plain.sendall(sent)
                assert b" 400 " in plain.recv(1000).split(b"\r\n")[0]
            except ConnectionError:
                # Closed while the rest was being sent: refused as well.
                pass
    answers()


def test_a_thousand_routes_are_too_many(server: ServerProcess, answers: Callable[[], None]) -> None:
    routes = [{"name": f"route {number}"} for number in range(1000)]
    answer = httpx.post(f"{server.address}/v1/route", json={**ROUTE, "routes": routes}, timeout=60)
    assert answer.status_code == 400
    assert "256" in answer.json()["error"]["message"]
    # As many as a table may have, with more text than the model's context takes.
    routes = [{"name": f"route {number}", "description": "words " * 100} for number in range(256)]
    answer = httpx.post(f"{server.address}/v1/route", json={**ROUTE, "routes": routes}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    answers()


def test_a_slow_reader_keeps_nobody_waiting(server: ServerProcess, answers: Callable[[], None]) -> None:
    with connect(server, receive_buffer=1) as plain:
        plain.sendall(raw_request(json.dumps(ROUTE).encode()) * 200)
        answers()
    answers()


def test_the_model_may_be_deleted_while_it_is_used(tmp_path: Path, bundled_model: Path) -> None:
    """As an update of its package does; what is loaded is loaded."""
    model = tmp_path / "model.gguf"
    shutil.copy(bundled_model, model)
    config = tmp_path / "routes.yaml"
    config.write_text(ROUTES, encoding="utf-8")
    with ServerProcess("--model", str(model), "--config", str(config), "--threads", "1") as server:
        model.unlink()
        url = f"{server.address}/v1/route"
        assert httpx.post(url, json=ROUTE, timeout=60).json()["route"] == "bug_fixing"
        # Neither does a new configuration need the file; a bad one is refused.
        config.write_text("routing_preferences: [{name: a}, {name: a}]")
        server.signal(signal.SIGHUP)
        assert "the configuration stays as it was: " in server.line("configuration")
        assert httpx.post(url, json=ROUTE, timeout=60).json()["route"] == "bug_fixing"
        config.write_text("routing_preferences: [{name: only, models: [m/only]}]")
        server.signal(signal.SIGHUP)
        assert "has been read again: 1 route of" in server.line("configuration")
        assert set(httpx.post(url, json={**ROUTE, "scores": True}, timeout=60).json()["scores"]) == {"only", "other"}


def test_sigterm_under_load_finishes_what_runs() -> None:
    """No request that was taken goes without its answer, and nothing is left running."""
    outcomes: list[object] = []
    stop = threading.Event()

    def work(address: str) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not stop.is_set():
                try:
                    outcomes.append(client.post("/v1/route", json=ROUTE).status_code)
                except httpx.TransportError as exc:
                    outcomes.append(exc)
                    return

    with ServerProcess("--model", "tiny", "--threads", "1") as server:
        threads = [threading.Thread(target=work, args=(server.address,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while outcomes.count(200) < 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        server.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        stop.set()
        assert server.wait() == 0
    assert outcomes.count(200) >= 12
    # A connection may be closed between two requests, and is then refused; what was taken is answered.
    assert all(
        isinstance(each, (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError)) or each in (200, 503)
        for each in outcomes
    )
    # One line of what it is, none of what was said.
    assert all(CARD_MESSAGE[:20] not in line for line in server.lines)
    assert not any("Traceback" in line for line in server.lines)


def test_ctrl_c_ends_it_and_says_nothing() -> None:
    with ServerProcess("--model", "tiny", "--threads", "1") as server:
        assert server.lines[-1].startswith("listening on http://127.0.0.1:")
        assert server.lines[-1].endswith(", model tiny, 5 routes of the example")
        n_lines = len(server.lines)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert len(server.lines) == n_lines


def test_a_second_ctrl_c_ends_it_at_once_and_says_nothing() -> None:
    """While a body is waited for, and another request is decided."""
    with (
        ServerProcess("--model", "tiny", "--threads", "1") as server,
        connect(server) as half,
    ):
        half.sendall(raw_request(b"{", length=100))
        assert httpx.get(f"{server.address}/healthz", timeout=60).status_code == 200
        n_lines = len(server.lines)
        server.signal(signal.SIGINT)
        with pytest.raises(httpx.TransportError):
            # Until it has heard the first.
            while True:
                httpx.get(f"{server.address}/healthz", timeout=60)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert server.lines[n_lines:] == []


def test_sigterm_while_a_body_is_read_ends_it_in_seconds() -> None:
    """Would break if a client that sends half a body kept the server up for the whole time limit."""
    options = ("--model", "tiny", "--threads", "1", "--timeout", "3600")
    with ServerProcess(*options) as server, connect(server) as half:
        half.sendall(raw_request(b"{", length=100))
        assert httpx.get(f"{server.address}/healthz", timeout=60).status_code == 200
        server.signal(signal.SIGTERM)
        assert b" 503 " in half.recv(1000).split(b"\r\n")[0]
        assert server.wait() == 0
        assert not any("Traceback" in line for line in server.lines)


def test_refusals_are_held_longer_and_longer() -> None:
    """Would break if a caller that asks again at once left no time for others, or one refusal cost a polite one much."""
    now = 0.0
    refusals = Refusals(lambda: now)
    delays = [refusals.delay("greedy") for _ in range(100)]
    assert delays == sorted(delays)
    assert delays[0] <= 0.05
    assert delays[-1] == 2.0
    assert refusals.delay("polite") <= 0.05
    now = 60.0
    assert refusals.delay("greedy") < 0.1
