"""Connections that ask for nothing: closed in time, and never in the place of those that do."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import archroute_edge
from archroute_edge.routing import Router
from archroute_edge.server import ServerSettings
from archroute_edge.server.http import _connections as connections
from archroute_edge.server.http import _run as run
from archroute_edge.server.http._bounded_log import LOGGERS, OncePerMinute, bounded_log
from archroute_edge.server.http._connections import (
    ConnectionBook,
    ConnectionLimits,
    connection_limits,
    descriptor_limit,
)
from tests.server.conftest import CONFIG

PATIENCE_S = 30.0


@dataclass(eq=False)
class FakeConnection:
    address: str = "10.0.0.1"
    is_busy: bool = False
    dropped: list[str] = field(default_factory=list)

    def drop(self) -> None:
        self.dropped.append(self.address)


@pytest.mark.parametrize("descriptors", [64, 128, 256, 1024, 4096, 1 << 20, None])
def test_there_are_always_descriptors_left(descriptors: int | None) -> None:
    """Would break if accepting failed for want of one, which asyncio tries again at once, with a traceback each time."""
    limits = connection_limits(descriptors, is_loopback=False)
    assert 1 <= limits.per_address < limits.most <= connections.MOST_CONNECTIONS
    if descriptors is not None and descriptors >= 128:
        assert limits.most + 4 * limits.backlog < descriptors
    shared = connection_limits(descriptors, is_loopback=True)
    assert shared.per_address == shared.most


def test_the_limit_is_the_processs_own() -> None:
    if sys.platform == "win32":
        assert descriptor_limit() is None
    else:
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert descriptor_limit() == (None if soft == resource.RLIM_INFINITY else soft)


def test_the_longest_idle_gives_way_and_never_one_that_is_answered() -> None:
    book = ConnectionBook(ConnectionLimits(most=3, per_address=3))
    busy, first, second = FakeConnection(is_busy=True), FakeConnection(), FakeConnection()
    assert all(map(book.admit, (busy, first, second)))
    book.touch(first)
    third, fourth = FakeConnection(), FakeConnection()
    assert book.admit(third)
    assert second.dropped
    assert not (busy.dropped or first.dropped)
    for each in (first, third):
        each.is_busy = True
    assert not book.admit(fourth)
    assert len(book) == 3
    book.leave(busy)
    assert book.admit(fourth)


def test_one_address_has_not_all_places() -> None:
    """Would break if a machine that opens connections without end closed those of others."""
    book = ConnectionBook(ConnectionLimits(most=4, per_address=3))
    polite = FakeConnection("10.0.0.2")
    assert book.admit(polite)
    greedy = [FakeConnection() for _ in range(50)]
    assert all(map(book.admit, greedy))
    assert sum(not each.dropped for each in greedy) == 3
    assert not polite.dropped
    # Another address's first is worth more than one of many.
    assert book.admit(FakeConnection("10.0.0.3"))
    assert not polite.dropped
    assert len(book) == 4


def test_a_message_is_shown_once_a_minute() -> None:
    seconds = 0.0
    once = OncePerMinute(lambda: seconds)

    def shown(text: str) -> bool:
        return once.filter(logging.LogRecord("n", logging.WARNING, "", 0, text, (), None))

    assert [shown("no room for %d\nsocket: 1"), shown("no room for %d\nsocket: 2"), shown("another")] == [True, False, True]
    seconds = 59.9
    assert not shown("another")
    seconds = 60.1
    assert shown("another")


def line(text: object, *args: object, number: int = 1) -> logging.LogRecord:
    return logging.LogRecord("n", logging.WARNING, "here.py", number, text, args, None)


def test_threads_that_log_at_once_show_each_line_once() -> None:
    """Would break if one changed what another looks through, or if both found that a line is new."""
    once, shown, problems = OncePerMinute(), Counter[str](), []
    start = threading.Barrier(4)

    def log() -> None:
        start.wait()
        try:
            for number in range(400):
                # The kind is the line's own, so there are more and more of them.
                if once.filter(line(f"line {number}")):
                    shown[f"{threading.get_ident()} {number}"] += 1
        except RuntimeError as exc:
            problems.append(exc)

    threads = [threading.Thread(target=log) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert not problems
    assert Counter(each.split()[1] for each in shown) == {str(number): 1 for number in range(400)}


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_line_that_cannot_be_written_raises_nothing() -> None:
    once = OncePerMinute()
    assert [once.filter(line("%d and %d", 1, number=number)) for number in (1, 1, 2)] == [True, False, True]
    assert once.filter(line(Unshowable(), number=3))
    assert once.filter(line("%s", Unshowable(), number=4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_that_forks_while_others_log_can_log() -> None:
    once, is_over = OncePerMinute(), threading.Event()

    def log() -> None:
        number = 0
        while not is_over.is_set():
            once.filter(line(f"line {number % 500}"))
            number += 1

    threads = [threading.Thread(target=log) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(int(PATIENCE_S))
                try:
                    once.filter(line("a child's"))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over.set()
        for each in threads:
            each.join()


def test_lines_about_requests_are_bounded_for_each_target(caplog: pytest.LogCaptureFixture) -> None:
    """Would break if a client with a wildcard or a broken upstream filled the disk, or if one target hid what ails another."""
    logger = logging.getLogger("archroute_edge.gateway._tries")

    def fail(names: Iterable[str]) -> list[str]:
        caplog.clear()
        for name in names:
            logger.warning("%s: %s (%s)", name, "refused", "connection_refused")
        return [each.getMessage().partition(":")[0] for each in caplog.records]

    with bounded_log():
        assert fail(["a/one", "b/two"] * 50) == ["a/one", "b/two"]
        made_up = [f"c/{number}" for number in range(1000)]
        assert fail(made_up * 2) == made_up[:63]
        logger.error("%s answers %d (%s)", "a/one", 401, "not_authorised")
        assert len(caplog.records) == 64
    assert len(fail(["a/one"] * 50)) == 50


def test_a_line_that_a_request_can_cause_is_bounded() -> None:
    """Would break if a module of the server or the gateway logged without being named; those here log once, or for the user."""
    of_the_user = {"_app", "_reload", "_reach", "_gateway"}
    for room in ("gateway", "server.http"):
        folder = Path(archroute_edge.__file__).parent.joinpath(*room.split("."))
        logging_there = {each.stem for each in folder.glob("*.py") if "getLogger(__name__)" in each.read_text(encoding="utf-8")}
        named = {name.rpartition(".")[2] for name in LOGGERS if name.startswith(f"archroute_edge.{room}.")}
        assert logging_there - of_the_user == named


@dataclass
class Served:
    """A server in a thread of this process, which takes no signals there."""

    host: str
    port: int

    def connect(self, sent: bytes = b"") -> socket.socket:
        found = socket.create_connection((self.host, self.port), timeout=PATIENCE_S)
        found.sendall(sent)
        return found

    def decide(self) -> int:
        client = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            client.request("POST", "/v1/route", json.dumps({"messages": "fix the bug"}), {"Content-Type": "application/json"})
            return client.getresponse().status
        finally:
            client.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ConnectionLimits], Served]]:
    """Starts servers with other bounds."""
    with ExitStack() as ending:

        def start(limits: ConnectionLimits) -> Served:
            monkeypatch.setattr(run, "connection_limits", lambda *_arguments, **_settings: limits)
            servers: list[run._Server] = []

            def remember(*arguments: Any) -> run._Server:
                servers.append(plain(*arguments))
                return servers[0]

            monkeypatch.setattr(run, "_Server", remember)
            settings, started = ServerSettings(port=0), threading.Event()
            bound = run.bind(settings)
            router = Router(config=CONFIG, model="tiny", threads=1, prefix_cache=False)
            thread = threading.Thread(
                target=run.run_server,
                args=(router, settings, bound),
                kwargs={"config_path": None, "announce": lambda _address: started.set()},
            )
            place = urlsplit(f"http://{bound.getsockname()[0]}:{bound.getsockname()[1]}")
            thread.start()

            def end() -> None:
                servers[0].should_exit = True
                thread.join(PATIENCE_S)
                assert not thread.is_alive()

            ending.callback(end)
            assert started.wait(PATIENCE_S)
            assert place.hostname and place.port
            return Served(place.hostname, place.port)

        plain = run._Server
        yield start


def test_idle_connections_and_half_heads_are_closed(serve: Callable[[ConnectionLimits], Served]) -> None:
    """Would break if a connection that never sends a whole request were kept for ever."""
    served = serve(ConnectionLimits(head_s=0.2))
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        opened = [stack.enter_context(served.connect(sent)) for sent in (b"", b"POST /v1", whole[:-2], whole + whole[:9])]
        for each in opened:
            try:
                while each.recv(1 << 16):
                    pass
            except ConnectionResetError:
                pass
        assert served.decide() == 200


def test_many_idle_connections_leave_room_for_a_request(serve: Callable[[ConnectionLimits], Served]) -> None:
    served = serve(ConnectionLimits(most=10, per_address=10, backlog=8))
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(served.connect(b"POST"))
        assert [served.decide() for _ in range(3)] == [200] * 3
