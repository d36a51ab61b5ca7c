"""Bodies of 50 MB through a server as a process of its own: they pass whole, and its memory stays as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.gateway_server import CHAT, KEYS, two_models
from tests.upstream import PATIENCE_S, Upstream, large, streamed
from tools.measure.server_process import ServerProcess

N_BYTES = 50_000_000


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(keeps_bodies=False) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, kernel_verdict: Path) -> Iterator[ServerProcess]:
    path = tmp_path_factory.mktemp("large") / "gateway.yaml"
    path.write_text(two_models(upstream.url, upstream.url), encoding="utf-8")
    options = ("--forward", "--config", str(path), "--model", "mini", "--threads", "1", "--max-body", "60000000")
    with ServerProcess(*options, ARCHROUTE_CACHE_DIR=str(kernel_verdict.parent), **KEYS) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """Its connection stays open."""
    with httpx.Client(base_url=server.address, timeout=PATIENCE_S, verify=False) as client:
        yield client


def ask(client: httpx.Client, text: bytes = b"hi") -> int:
    """The bytes of the answer."""
    body = b'{"model": "one/big", "messages": [{"role": "user", "content": "%b"}]}' % text
    with client.stream("POST", CHAT, content=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status_code == 200
        return sum(len(part) for part in answer.iter_raw())


def memory(server: ServerProcess) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


def test_a_large_answer_is_never_whole_in_memory(server: ServerProcess, client: httpx.Client, upstream: Upstream) -> None:
    ask(client)
    before = memory(server)
    upstream.will(large(N_BYTES), streamed([b"data: %b\n\n" % (b"x" * 1_000_000)] * 50))
    assert [ask(client) >= N_BYTES for _ in range(2)] == [True] * 2
    assert memory(server) - before < N_BYTES / 2


def test_a_large_request_goes_up_and_leaves_nothing_behind(
    server: ServerProcess, client: httpx.Client, upstream: Upstream
) -> None:
    ask(client)
    before = memory(server)
    ask(client, b"x" * N_BYTES)
    assert upstream.arrivals[-1].n_bytes > N_BYTES
    # The answer is here before the server has put its request away.
    give_up_at = time.monotonic() + PATIENCE_S
    while memory(server) - before >= N_BYTES:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
