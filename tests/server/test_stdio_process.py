"""``archroute serve --stdio`` as a process: how it begins, what it bears, and how it ends with nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import PROGRAM
from tests.server.stdio_host import StdioHost, request, routes

NOISY = """\
import os
import llama_cpp
from archroute_edge.cli import main

decode = llama_cpp.llama_decode

def noisy_decode(*args):
    print("print")
    os.write(1, b"a library in C")
    os.system("echo a child; cat")
    return decode(*args)

llama_cpp.llama_decode = noisy_decode
main(prog_name="archroute")
"""

LAUNCHER = """\
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
# It has the ends of the pipes that would otherwise close when this process is killed.
holder = subprocess.Popen(["sleep", "60"], close_fds=False, pass_fds=[child.stdin.fileno(), child.stdout.fileno()])
child.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "info"}\\n')
child.stdin.flush()
child.stdout.readline()
print(child.pid, holder.pid, flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.usefixtures("tried_kernels")


@pytest.fixture
def options(bundled_model: Path) -> list[str]:
    return ["--model", str(bundled_model), "--threads", "1", "--no-prefix-cache"]


def test_stdout_has_replies_and_nothing_else(options: list[str]) -> None:
    """One line of another library on stdout, and no host can read the protocol any more; one read of stdin, and a request
    is lost.
    """
    with StdioHost(options, [sys.executable, "-c", NOISY]) as host:
        host.send(*routes(range(3)))
        replies, err, status = host.end()
    assert ([reply["id"] for reply in replies], status) == ([0, 1, 2], 0)
    assert err.count("print") == err.count("a library in C") == err.count("a child") >= 3


def test_the_end_of_stdin_lets_it_finish(options: list[str]) -> None:
    with StdioHost(options) as host:
        host.send(*routes(range(10)))
        replies, err, status = host.end()
    assert sorted(reply["id"] for reply in replies) == list(range(10))
    assert all("result" in reply for reply in replies)
    assert status == 0
    assert "Traceback" not in err


def test_a_full_queue_is_an_error_with_the_time_to_wait(options: list[str]) -> None:
    with StdioHost([*options, "--queue", "2"]) as host:
        host.send(*routes(range(20)))
        replies = host.end()[0]
    refused = [reply["error"] for reply in replies if "error" in reply]
    assert len(replies) == 20
    assert 20 - 2 - 4 < len(refused) <= 18
    assert {(each["code"], each["data"]["type"]) for each in refused} == {(-32001, "QueueFullError")}
    assert all(each["data"]["retry_after"] > 0 for each in refused)


def test_a_line_of_50_mb_is_not_kept(options: list[str]) -> None:
    with StdioHost(options) as host:
        host.ask("info")
        before = psutil.Process(host.process.pid).memory_info().rss
        for _ in range(50):
            host.send(b"x" * 1_000_000)
        host.send(b"\n")
        assert host.receive()["error"]["code"] == -32600
        assert psutil.Process(host.process.pid).memory_info().rss - before < 20_000_000
        assert host.ask("info")["name"] == "archroute-edge"


def test_a_host_that_does_not_read_is_not_read_from(options: list[str]) -> None:
    """Replies that nobody takes would otherwise fill the memory."""
    count, sent = 4000, 0
    with StdioHost(options) as host:
        host.ask("info")

        def send() -> None:
            nonlocal sent
            for number in range(count):
                host.send(request(number, "info"))
                sent = number + 1

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        before = -1
        while sent != before:
            before = sent
            time.sleep(0.3)
        assert 0 < sent < count
        assert host.process.stdout
        with os.fdopen(os.dup(host.process.stdout.fileno()), "rb") as replies:
            assert [json.loads(replies.readline())["id"] for _ in range(count)] == list(range(count))
        sending.join(10)
        assert host.ask("info")["service"]["waiting"] == 0


def test_a_host_that_reads_no_more_ends_it(options: list[str]) -> None:
    with StdioHost(options) as host:
        host.ask("info")
        assert host.process.stdout
        host.process.stdout.close()
        host.send(*routes(range(5)))
        assert host.process.wait(20) == 1
        assert host.process.stderr
        assert host.process.stderr.read() == b"no --config given: using the five example routes of the Arch-Router model card\n"


def test_a_host_that_is_killed_ends_it_though_the_pipes_stay_open(options: list[str]) -> None:
    """Where a host has started other programs, they may hold the pipes after it: no end of file would ever come."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *PROGRAM, "serve", "--stdio", *options], stdout=subprocess.PIPE, encoding="utf-8"
    )
    with launcher:
        assert launcher.stdout
        pid, holder = (psutil.Process(int(number)) for number in launcher.stdout.readline().split())
        try:
            os.kill(launcher.pid, signal.SIGKILL)
            psutil.wait_procs([pid], timeout=30)
            assert not pid.is_running() or pid.status() == psutil.STATUS_ZOMBIE
            assert holder.is_running()
        finally:
            holder.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_what_is_under_way(options: list[str], number: signal.Signals) -> None:
    with StdioHost(options) as host:
        host.ask("info")
        host.send(*routes(range(3)))
        assert host.receive()["id"] == 0
        host.process.send_signal(number)
        # Its stdin is still open, as that of a host that is about to end.
        assert [host.receive()["id"] for _ in range(2)] == [1, 2]
        assert host.process.wait(20) == 128 + number
        assert host.process.stderr
        assert b"Traceback" not in host.process.stderr.read()


def test_the_options_that_it_shares_with_http(options: list[str]) -> None:
    with StdioHost([*options, "--deadline", "0.001", "--max-body", "1000"]) as host:
        assert host.ask("info")["limits"] == {"line_bytes": 1000, "batch": 256, "deadline": 0.001}
        host.send(request("long", "route", messages="x" * 1000))
        assert host.receive()["error"]["message"].startswith("a line of more than 1,000 bytes")
        host.send(*routes(range(2)), request("own", "route", messages="hello", deadline=100))
        assert {host.receive()["result"]["reason"] for _ in range(3)} == {"deadline"}
