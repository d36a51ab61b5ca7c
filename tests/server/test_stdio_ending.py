"""What ends a server over stdio from within."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import cast

from archroute_edge.child_process import ParentProcess
from archroute_edge.router import Router
from archroute_edge.server.settings import StdioSettings
from archroute_edge.server.stdio import Host, serve_stdio
from archroute_edge.service import RoutingService
from tests.server.conftest import CONFIG


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
