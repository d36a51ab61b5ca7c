"""Pulling in processes of their own, steered by the environment alone: two at once, and an interrupt in the middle."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from archroute_edge.models import pull_model
from tests.models.conftest import command
from tests.models.hub_server import Hub

NAME = "small-Q4_0.gguf"


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to it"
        time.sleep(0.02)


def start(hub: Hub, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    line, environment = command(hub, cache, *arguments)
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_at_once_download_once(hub: Hub, cache: Path) -> None:
    """Two services that start together must neither mix their bytes in one file nor fetch a gigabyte twice."""
    content = hub.repos["org/small.gguf"][NAME]
    hub.hold_at = len(content) // 2
    processes = [start(hub, cache, "pull", "small") for _ in range(2)]
    # Both have asked for the file's size and hash, so both want it; one has begun.
    wait_for(lambda: sum(request.method == "HEAD" and request.path.endswith(NAME) for request in hub.asked) >= 2)
    wait_for(lambda: hub.stored)
    hub.release.set()
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert [code for _, _, code in results] == [0, 0], results
    assert len({out for out, _, _ in results}) == 1
    assert Path(results[0][0].strip()).read_bytes() == content
    assert len(hub.stored) == 1
    assert list(cache.rglob("*.incomplete")) == []


def test_an_interrupt_leaves_nothing_under_a_name_that_is_used(hub: Hub, cache: Path) -> None:
    """Half a model under its own name would be loaded by the next command; what came is kept for the next pull."""
    content = hub.repos["org/small.gguf"][NAME]
    half = hub.hold_at = len(content) // 2
    process = start(hub, cache, "pull", "small", "--quant", "Q4_0")
    wait_for(lambda: [path for path in cache.rglob("*.incomplete") if path.stat().st_size == half])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "licence of the model: test-licence" in err
    assert "Traceback" not in err
    assert list(cache.rglob(NAME)) == []
    assert [path for path in cache.glob("*/blobs/*") if len(path.name) == 64] == []
    hub.release.set()
    hub.stored.clear()
    assert pull_model("small").path.read_bytes() == content
    assert [request.range for request in hub.stored] == [f"bytes={half}-"]


def test_the_environment_is_heeded(hub: Hub, cache: Path) -> None:
    """HF_TOKEN opens a gated repository, and HF_HUB_OFFLINE closes the connection: the client reads both when it starts."""
    line, environment = command(hub, cache, "pull", "small", "--json")
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    refused = subprocess.run(line, env=offline, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout, hub.asked) == (2, "", [])
    assert refused.stderr.startswith("archroute: error: small:Q4_0 is not on this machine, and HF_HUB_OFFLINE is set")
    assert refused.stderr.count("\n") == 1
    subprocess.run(line, env={**environment, "HF_TOKEN": "hf_secret"}, capture_output=True, check=True)
    assert {request.authorization for request in hub.asked} == {"Bearer hf_secret"}
    assert (cache / "models--org--small.gguf").is_dir()
