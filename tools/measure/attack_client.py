"""The parts of attacks on a server: plain sockets, and requests of several kinds."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psutil

from tools.measure.server_process import ServerProcess

_PATIENCE_S = 60.0


class Client:
    """A client that keeps its connection.

    Args:
        host: the server's.
        port: the server's.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)

    def post(self, path: str, body: Any, **headers: str) -> int:
        """The status; 0 if there was no answer. Bytes are sent as they are, anything else as JSON."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self._connection.request("POST", path, sent, {"Content-Type": "application/json", **headers})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0
        return answer.status

    def route(self, messages: str, **more: Any) -> int:
        """The status of a decision."""
        return self.post("/v1/route", {"messages": messages, **more})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Target:
    """A server under attack.

    Args:
        server: the process.
    """

    def __init__(self, server: ServerProcess) -> None:
        place = urlsplit(server.address)
        self.server = server
        self._host, self._port = place.hostname or "", place.port or 0

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection that has sent something."""
        found = socket.create_connection((self._host, self._port), timeout=_PATIENCE_S)
        # Closed again already, which is the server's right.
        with suppress(ConnectionError):
            found.sendall(sent)
        return found

    def half_body(self) -> bytes:
        """A request without the end of its body."""
        head = "POST /v1/route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        return head.encode() + b"{"

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of its own."""
        client = Client(self._host, self._port)
        try:
            yield client
        finally:
            client.close()

    def post(self, path: str, body: Any, **headers: str) -> int:
        """The status of a request on a connection of its own."""
        with self.client() as client:
            return client.post(path, body, **headers)

    def route(self, **more: Any) -> int:
        """The status of a decision."""
        return self.post("/v1/route", {"messages": "there is a bug in my code", **more})

    def decide_in_session(self, session: str, models: list[str]) -> int:
        """The status of a decision for a session on one route with these models."""
        body = {
            "messages": [{"role": "user", "content": "fix my bug"}],
            "routing_preferences": [{"name": "bug fixing", "description": "bugs", "models": models}],
        }
        return self.post("/routing/v1/chat/completions", body, **{"X-Model-Affinity": session})

    def timed_health(self) -> float:
        """Seconds that ``/healthz`` took; as long as there is patience if it did not answer."""
        began = time.monotonic()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return _PATIENCE_S
        finally:
            connection.close()
        return time.monotonic() - began

    def resident(self) -> int:
        """Bytes of the server in memory."""
        return int(psutil.Process(self.server.pid).memory_info().rss)

    def n_connections(self) -> int:
        """Connections that the server has open."""
        found = psutil.Process(self.server.pid).net_connections("tcp")
        return sum(each.status == psutil.CONN_ESTABLISHED for each in found)
