"""What ends a server over stdio from within."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import cast

import pytest

from archroute_edge.routing import Router, RoutingService
from archroute_edge.server import StdioSettings
from archroute_edge.server.stdio import Host, serve_stdio
from archroute_edge.server.stdio import _run as stdio
from archroute_edge.system import ParentProcess
from tests.server.conftest import CONFIG
from tests.server.stdio_host import request


def test_a_server_that_can_decide_no_more_ends() -> None:
    """A host starts a child again that has ended; one that answers errors for ever it keeps."""
    service = RoutingService(Router(config=CONFIG, model="tiny", threads=1, prefix_cache=False))
    service.close()
    (requests, host_writes), (host_reads, replies) = os.pipe(), os.pipe()
    try:
        host = Host(requests, replies, cast(ParentProcess, SimpleNamespace(gone=False)))
        assert serve_stdio(service, host, StdioSettings()) == 1
    finally:
        os.close(host_writes)
        for each in (host_reads, replies):
            os.close(each)


def test_a_signal_ends_it_in_time_though_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if replies that a host does not take were waited for longer than a signal leaves."""
    monkeypatch.setattr(stdio, "_GRACE_S", 0.2)
    monkeypatch.setattr(stdio, "_PATIENCE_S", 3600.0)
    service = RoutingService(Router(config=CONFIG, model="tiny", threads=1, prefix_cache=False))
    (requests, host_writes), (host_reads, replies) = os.pipe(), os.pipe()
    os.set_blocking(host_writes, False)

    def fill_and_end() -> None:
        # Until nothing more is taken, which is when the pipe of replies is full.
        n_refused = 0
        while n_refused < 20:
            try:
                os.write(host_writes, request("x", "info"))
                n_refused = 0
            except BlockingIOError:
                n_refused += 1
                time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    host_thread = threading.Thread(target=fill_and_end)
    host_thread.start()
    try:
        host = Host(requests, replies, cast(ParentProcess, SimpleNamespace(gone=False)))
        assert serve_stdio(service, host, StdioSettings()) == 128 + signal.SIGTERM
    finally:
        host_thread.join()
        for each in (host_reads, host_writes):
            os.close(each)
        # The thread that writes ends by the broken pipe, and only then is its descriptor free.
        for thread in threading.enumerate():
            if thread.name == "archroute-replies":
                thread.join(30)
        os.close(replies)
