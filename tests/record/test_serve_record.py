"""A server that records, from its start to its end."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path

from tests.record.entries import kept
from tools.measure.server_process import ServerProcess


def ask(server: ServerProcess, text: str) -> None:
    body = json.dumps({"messages": text}).encode()
    request = urllib.request.Request(f"{server.address}/v1/route", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200


def test_a_server_records_until_it_ends(tmp_path: Path, kernel_verdict: Path) -> None:
    environment = {"ARCHROUTE_CACHE_DIR": str(kernel_verdict.parent), "ARCHROUTE_DATA_DIR": str(tmp_path)}
    with ServerProcess("--model", "tiny", "--threads", "1", "--record=content", **environment) as server:
        ask(server, "fix my loop")
        server.signal(signal.SIGTERM)
        server.wait()
    assert f"requests, with their texts, are recorded in {tmp_path}/requests.sqlite" in server.lines
    [entry] = kept(tmp_path / "requests.sqlite")
    assert (entry.decided_by, entry.operation, entry.status) == ("tiny", "route", 200)
    assert entry.content is not None and "fix my loop" in entry.content.request
