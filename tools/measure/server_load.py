"""Many clients at once for a while: errors, decisions compared with a quiet run's, memory, response times.

    python -m tools.measure.server_load --clients 16 --seconds 60

Starts ``archroute serve`` with the bundled model and the example routes. The quiet run comes first, one request at a time. Then
each client sends its next request when it has its answer, to one endpoint after another, and waits a tenth of a second after
a 429.
"""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import click
import psutil

from archroute_edge.bench import conversation
from archroute_edge.cli.options import read_config
from archroute_edge.cli.progress import ProgressLine
from archroute_edge.conversation import read_messages
from archroute_edge.prompts import PROMPT_FORMATS
from archroute_edge.routes import OTHER
from tools.measure.server_process import ServerProcess

_CONVERSATIONS = 40
_MOST_TURNS = 3
_SETTLING_S = 10.0
_WAIT_AFTER_429_S = 0.1


@dataclass(frozen=True)
class Request:
    """One request that is sent again and again, and where in its answer the route is."""

    name: str
    path: str
    body: bytes

    def route(self, answer: bytes) -> str:
        """The route that an answer names."""
        value = json.loads(answer)
        if "choices" in value:
            value = json.loads(value["choices"][0]["message"]["content"])
        found = value["route"]
        return (found[0] if found else OTHER) if isinstance(found, list) else found or OTHER


def all_requests() -> list[Request]:
    """Every conversation through every endpoint and format."""
    table = read_config(None).config.table
    found = []
    for seed in range(_CONVERSATIONS):
        messages = conversation(seed, 1 + seed % _MOST_TURNS)
        bodies = [("/v1/route", {"messages": messages}), ("/routing/v1/chat/completions", {"model": "m", "messages": messages})]
        for each in PROMPT_FORMATS.values():
            prompt = each.render(table, read_messages(messages))
            bodies.append(("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": prompt}]}))
        for number, (path, body) in enumerate(bodies):
            found.append(Request(f"{seed}/{number}", path, json.dumps(body).encode()))
    return found


@dataclass
class Client:
    """One client's connection, and its answers."""

    address: str
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    routes: dict[str, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        place = urlsplit(self.address)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)

    def send(self, request: Request) -> int:
        """Send one request and note its answer; the status, or 0 if there was none."""
        started = time.perf_counter()
        try:
            self._connection.request("POST", request.path, request.body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            body, status = answer.read(), answer.status
        except (OSError, http.client.HTTPException) as exc:
            self.statuses[type(exc).__name__] += 1
            self._connection.close()
            return 0
        self.statuses[str(status)] += 1
        if status == 200:
            self.seconds.append(time.perf_counter() - started)
            self.routes.setdefault(request.name, Counter())[request.route(body)] += 1
        return status

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _work(client: Client, requests: list[Request], first: int, until: float) -> None:
    for request in itertools.islice(itertools.cycle(requests), first, None):
        if time.monotonic() >= until:
            return
        if client.send(request) != 200:
            time.sleep(_WAIT_AFTER_429_S)


def load(server: ServerProcess, clients: int, seconds: float) -> dict[str, Any]:
    """The figures of one run."""
    requests = all_requests()
    quiet = Client(server.address)
    process = psutil.Process(server.pid)
    with ProgressLine() as progress:
        for number, request in enumerate(requests):
            quiet.send(request)
            progress("quiet run", number, len(requests))
        started = time.monotonic()
        crowd = [Client(server.address) for _ in range(clients)]
        threads = [
            threading.Thread(target=_work, args=(client, requests, 7 * number, started + seconds))
            for number, client in enumerate(crowd)
        ]
        for thread in threads:
            thread.start()
        resident: list[tuple[float, int]] = []
        while any(thread.is_alive() for thread in threads):
            resident.append((time.monotonic() - started, process.memory_info().rss))
            progress("under load", int(min(seconds, resident[-1][0])), int(seconds))
            time.sleep(0.5)
        for thread in threads:
            thread.join()
        took = time.monotonic() - started
    for client in (quiet, *crowd):
        client.close()
    return _figures(quiet, crowd, took, resident)


def _figures(quiet: Client, crowd: list[Client], took: float, resident: list[tuple[float, int]]) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    seconds: list[float] = []
    compared = differing = 0
    for client in crowd:
        statuses += client.statuses
        seconds += client.seconds
        for name, routes in client.routes.items():
            (expected,) = quiet.routes[name]
            compared += routes.total()
            differing += routes.total() - routes[expected]
    settled = [rss for at, rss in resident if at >= _SETTLING_S] or [resident[-1][1]]
    percentiles = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [float("nan")] * 99
    return {
        "clients": len(crowd),
        "seconds": round(took, 1),
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "errors_other_than_429": sum(number for status, number in statuses.items() if status not in ("200", "429")),
        "quiet_statuses": dict(quiet.statuses),
        "decisions_compared": compared,
        "decisions_differing": differing,
        "routes_seen": len({route for client in crowd for routes in client.routes.values() for route in routes}),
        "decisions_per_second": round(len(seconds) / took, 1),
        "p50_ms": round(1000 * percentiles[49], 1),
        "p99_ms": round(1000 * percentiles[98], 1),
        "rss_mb_after_10_s": round(settled[0] / 1e6, 1),
        "rss_mb_at_most": round(max(settled) / 1e6, 1),
        "rss_growth": round(max(settled) / settled[0] - 1, 4),
    }


@click.command()
@click.option("--clients", type=click.IntRange(min=1), default=16, show_default=True, help="Requests at once.")
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="How long.")
@click.option("--queue", type=click.IntRange(min=1), default=64, show_default=True, help="As for archroute serve.")
@click.option("--model", default="tiny", show_default=True, help="As for archroute serve.")
@click.option("--threads", type=click.IntRange(min=1), help="As for archroute serve.")
def main(clients: int, seconds: float, queue: int, model: str, threads: int | None) -> None:
    """Load a server and print the figures as JSON; exit code 1 if there were errors other than 429."""
    options = ["--model", model, "--queue", str(queue), *(["--threads", str(threads)] if threads else [])]
    with ServerProcess(*options) as server:
        figures = load(server, clients, seconds)
    print(json.dumps({"model": model, "queue": queue, **figures}, indent=2))
    sys.exit(1 if figures["errors_other_than_429"] else 0)


if __name__ == "__main__":
    main()
