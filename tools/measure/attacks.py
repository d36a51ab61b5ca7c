"""Attack a server in one way after another, watch what a polite client sees meanwhile, and give a verdict for each.

    python -m tools.measure.attacks
    python -m tools.measure.attacks --only idle --only bodies

Starts ``archroute serve`` with a bundled model, on loopback only, and ends it. Each attack is bounded in time and in number.
The exit code is 1 if one of them does harm.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import psutil

from tools.measure.attack_client import Target
from tools.measure.server_process import PROGRAM, ServerProcess

_DESCRIPTORS: Final = 1024
_MB: Final = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """How an attack went.

    Args:
        held: whether the harm stayed within its bound.
        seen: the measurement, against its bound.
    """

    held: bool
    seen: str


@contextmanager
def _serving(*options: str, descriptors: int = _DESCRIPTORS) -> Iterator[Target]:
    """A server with few descriptors, while this process has as many as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        with ServerProcess("--threads", "1", *options) as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
            yield Target(server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle() -> Verdict:
    """2,000 connections that send nothing or half a head, at 1,024 descriptors."""
    with _serving("--model", "mini") as target, ExitStack() as stack:
        n_lines, cpu = len(target.server.lines), psutil.Process(target.server.pid)
        for number in range(2000):
            stack.enter_context(target.connect(b"" if number % 2 else b"POST /v1"))
        slowest = max(target.timed_health() for _ in range(5))
        statuses = [target.route() for _ in range(5)]
        cpu.cpu_percent()
        time.sleep(1)
        busy, n_said = cpu.cpu_percent(), len(target.server.lines) - n_lines
    held = slowest < 5 and statuses == [200] * 5 and busy < 50 and n_said < 5
    return Verdict(
        held, f"/healthz within {slowest:.2f} s (5), decisions {statuses}, {busy:.0f} % of a core (50), {n_said} lines (4)"
    )


def sessions() -> Verdict:
    """Sessions whose models have names of 4 MB, and 500 of the longest that are allowed."""
    with _serving("--model", "mini") as target:
        target.route()
        before = target.resident()
        statuses = set()
        for number in range(10):
            statuses.add(target.decide_in_session(f"l{number}", ["m" * 4_000_000 + str(number)]))
        for number in range(500):
            target.decide_in_session(f"s{number}", ["\N{ROCKET}" + "m" * 1000 + f"{number} {model}" for model in range(60)])
        grown = (target.resident() - before) / _MB
    return Verdict(statuses == {400} and grown < 200, f"too long: {statuses} (400), memory +{grown:.0f} MB (200)")


def tables() -> Verdict:
    """Inline tables with descriptions of 4 MB, and 100 of 50 kB, an emoji in each."""
    with _serving("--model", "mini") as target:
        target.route()
        before = target.resident()
        statuses = {target.route(routes=[{"name": "a", "description": "\N{ROCKET}" + f"{n} " * 1_000_000}]) for n in range(5)}
        for number in range(100):
            target.route(routes=[{"name": "a", "description": f"\N{ROCKET} {number} " + "bugs " * 10_000}])
        grown = (target.resident() - before) / _MB
    return Verdict(statuses == {400} and grown < 100, f"too long: {statuses} (400), memory +{grown:.0f} MB (100)")


@contextmanager
def _greedy(target: Target, pause_s: float) -> Iterator[None]:
    """A caller with 100 connections, which asks again so long after a refusal."""
    stop = threading.Event()

    def ask() -> None:
        with target.client() as client:
            while not stop.is_set():
                if client.route("fix my bug", user="greedy") != 200:
                    stop.wait(pause_s)

    with ThreadPoolExecutor(100) as pool:
        for _ in range(100):
            pool.submit(ask)
        time.sleep(1)
        try:
            yield
        finally:
            stop.set()


def _polite(target: Target, seconds: float) -> tuple[list[int], float]:
    """What one who asks again and again is answered, and the median of the seconds that it takes."""
    statuses: list[int] = []
    taken: list[float] = []
    until = time.monotonic() + seconds
    with target.client() as client:
        while not taken or time.monotonic() < until:
            began = time.monotonic()
            statuses.append(client.route("translate this", user="polite"))
            taken.append(time.monotonic() - began)
    return statuses, statistics.median(taken)


def queue() -> Verdict:
    """A caller with 100 connections, which asks again a tenth of a second after a 429, beside a polite one."""
    with _serving("--model", "mini") as target, _greedy(target, 0.1):
        statuses, _ = _polite(target, 8)
    refused = sum(status != 200 for status in statuses)
    return Verdict(refused == 0, f"{refused} of {len(statuses)} polite requests refused (0)")


def greedy() -> Verdict:
    """The same, which asks again at once."""
    with _serving("--model", "mini") as target:
        _, alone = _polite(target, 2)
        with _greedy(target, 0.0):
            statuses, beside = _polite(target, 8)
    refused = sum(status != 200 for status in statuses)
    return Verdict(
        refused == 0 and beside < 2 * alone,
        f"{refused} of {len(statuses)} refused (0), p50 {1000 * alone:.0f} ms alone, {1000 * beside:.0f} ms beside (twice)",
    )


def large_table() -> Verdict:
    """A client that sends new tables of 256 long routes, beside a polite one."""
    with _serving("--model", "mini") as target:
        stop = threading.Event()

        def ask() -> None:
            number = 0
            with target.client() as client:
                while not stop.is_set():
                    number += 1
                    words = " ".join(f"word{number}" for _ in range(240))
                    client.route(
                        "x", user="greedy", routes=[{"name": f"r{n}", "description": f"{n} {words}"} for n in range(256)]
                    )

        def median(seconds: float) -> float:
            taken: list[float] = []
            until = time.monotonic() + seconds
            while not taken or time.monotonic() < until:
                began = time.monotonic()
                target.route(user="polite")
                taken.append(time.monotonic() - began)
            return statistics.median(taken)

        alone = median(2)
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            time.sleep(0.5)
            beside = median(8)
        finally:
            stop.set()
            target.server.signal(signal.SIGKILL)
            thread.join()
    return Verdict(beside < 2 * alone, f"p50 {1000 * alone:.0f} ms alone, {1000 * beside:.0f} ms beside (twice)")


def bodies() -> Verdict:
    """140 requests with one byte of their body, again and again."""
    with _serving("--model", "mini") as target, ExitStack() as stack:
        statuses, slowest = [], 0.0
        for _ in range(3):
            for _ in range(140):
                stack.enter_context(target.connect(target.half_body()))
            time.sleep(0.5)
            began = time.monotonic()
            statuses.append(target.route())
            slowest = max(slowest, time.monotonic() - began)
        until = time.monotonic() + 20
        while target.n_connections() > 10 and time.monotonic() < until:
            time.sleep(0.2)
        n_left = target.n_connections()
    held = statuses == [200] * 3 and n_left <= 10
    return Verdict(held, f"decisions {statuses} within {slowest:.2f} s, {n_left} connections left (10)")


def parts() -> Verdict:
    """115,000 messages in 3.9 MB, again and again, beside probes."""
    with _serving("--model", "mini") as target:
        # Made once: this process would measure itself.
        body = json.dumps({"messages": [{"role": "user", "content": "x"}] * 115_000}).encode()
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.extend(target.post("/v1/route", body) for _ in range(5)))
        thread.start()
        slowest = 0.0
        while thread.is_alive():
            slowest = max(slowest, target.timed_health())
        thread.join()
    return Verdict(
        set(statuses) == {400} and slowest < 0.5, f"{sorted(set(statuses))} (400), /healthz within {slowest:.2f} s (0.5)"
    )


def silent_host() -> Verdict:
    """``serve --stdio`` after SIGTERM, with a host that reads nothing."""
    with _stdio() as process:
        assert process.stdin
        os.set_blocking(process.stdin.fileno(), False)
        line = b'{"jsonrpc": "2.0", "id": 1, "method": "info"}\n'
        quiet_until = time.monotonic() + 20
        n_full = 0
        while n_full < 20 and time.monotonic() < quiet_until:
            try:
                os.write(process.stdin.fileno(), line)
                n_full = 0
            except BlockingIOError:
                n_full += 1
                time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=30)
        took = time.monotonic() - began
    return Verdict(status == 143 and took < 6, f"status {status} (143) after {took:.1f} s (6)")


def piped_config() -> Verdict:
    """A configuration from the shell's ``<(...)``."""
    reader, writer = os.pipe()
    os.write(writer, b"routing_preferences: [{name: bugs, description: fixing bugs}]\n")
    os.close(writer)
    try:
        command = [*PROGRAM, "serve", "--port", "0", "--no-prefix-cache", "--model", "mini", "--config", f"/dev/fd/{reader}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", pass_fds=[reader]) as process:
            assert process.stderr
            said = process.stderr.readline()
            time.sleep(3)
            process.terminate()
            rest = process.stderr.read()
    finally:
        os.close(reader)
    return Verdict("listening" in said and "ERROR" not in rest, f"said {said.strip()!r}, then {rest.strip()!r}")


def ctrl_c_twice() -> Verdict:
    """A second Ctrl-C while half a body is waited for."""
    with _serving("--model", "mini") as target, target.connect(target.half_body()):
        time.sleep(0.3)
        n_lines, began = len(target.server.lines), time.monotonic()
        target.server.signal(signal.SIGINT)
        time.sleep(0.5)
        target.server.signal(signal.SIGINT)
        code, took = target.server.wait(), time.monotonic() - began
        n_said = len(target.server.lines) - n_lines
    return Verdict(code == 0 and n_said == 0 and took < 5, f"code {code} (0), {n_said} lines (0), {took:.1f} s (5)")


def ended_bench() -> Verdict:
    """SIGTERM while ``bench`` measures a level that it has made."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ARCHROUTE_CACHE_DIR": folder}
        command = [*PROGRAM, "bench", "--model", "tiny"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment) as process:
            until = time.monotonic() + 60
            while not list(Path(folder).rglob("levels-*")) and process.poll() is None and time.monotonic() < until:
                if any(path.is_dir() and "unfinished" not in path.name for path in Path(folder).rglob("*-*")):
                    break
                time.sleep(0.1)
            time.sleep(2)
            process.terminate()
            status = process.wait(timeout=30)
        left = [path.name for path in Path(folder).rglob("*") if path.is_dir() and str(process.pid) in path.name]
    return Verdict(status == -signal.SIGTERM and not left, f"status {status} (-15), left behind: {left}")


def warm_ups() -> Verdict:
    """20,000 warm-ups over stdio, each of another caller."""
    with _stdio() as process:
        assert process.stdin and process.stdout
        _exchange(process, b"first")
        before = psutil.Process(process.pid).memory_info().rss
        draining = threading.Thread(target=lambda: [process.stdout.readline() for _ in range(20_000)])  # type: ignore[union-attr]
        draining.start()
        for number in range(20_000):
            params = {"messages": f"text {number} " + "word " * 100, "caller": f"caller {number}"}
            message = {"jsonrpc": "2.0", "id": number, "method": "warm", "params": params}
            process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        draining.join(60)
        grown = (psutil.Process(process.pid).memory_info().rss - before) / _MB
        all_answered = not draining.is_alive()
    return Verdict(all_answered and grown < 30, f"all answered: {all_answered}, memory +{grown:.0f} MB (30)")


def _exchange(process: subprocess.Popen[bytes], name: bytes) -> None:
    assert process.stdin and process.stdout
    process.stdin.write(b'{"jsonrpc": "2.0", "id": "%s", "method": "info"}\n' % name)
    process.stdin.flush()
    process.stdout.readline()


@contextmanager
def _stdio() -> Iterator[subprocess.Popen[bytes]]:
    command = [*PROGRAM, "serve", "--stdio", "--no-prefix-cache", "--model", "mini", "--threads", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        _exchange(process, b"ready")
        try:
            yield process
        finally:
            process.kill()


ATTACKS: Final[dict[str, Callable[[], Verdict]]] = {
    "idle": idle,
    "sessions": sessions,
    "queue": queue,
    "greedy": greedy,
    "large-table": large_table,
    "tables": tables,
    "bodies": bodies,
    "parts": parts,
    "silent-host": silent_host,
    "piped-config": piped_config,
    "ctrl-c-twice": ctrl_c_twice,
    "ended-bench": ended_bench,
    "warm-ups": warm_ups,
}


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(list(ATTACKS)), help="Only this attack; may be repeated.")
def main(only: tuple[str, ...]) -> None:
    """Run the attacks and print a row for each."""
    harmed = False
    for name in only or ATTACKS:
        verdict = ATTACKS[name]()
        harmed |= not verdict.held
        click.echo(f"{'holds' if verdict.held else 'HARM ':5}  {name:13} {verdict.seen}")
    sys.exit(harmed)


if __name__ == "__main__":
    main()
