"""A program that starts ``archroute serve --stdio`` and talks to it, as small as can be."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.cli.conftest import PROGRAM


def request(request_id: object, method: str, **params: object) -> bytes:
    """A request as a line."""
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode() + b"\n"


def routes(numbers: Sequence[int]) -> list[bytes]:
    """A request for a decision for each id; no message is like another."""
    return [request(number, "route", messages=f"message {number}: " + "fix my code " * 30) for number in numbers]


class StdioHost:
    """Starts the process; use it as a context manager, which ends it however a test went."""

    def __init__(self, options: Sequence[str], program: Sequence[str] = PROGRAM) -> None:
        self.process = subprocess.Popen(
            [*program, "serve", "--stdio", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            bufsize=0,
        )

    def send(self, *lines: bytes) -> None:
        """Send lines, which have their line ends."""
        assert self.process.stdin
        rest = memoryview(b"".join(lines))
        while rest:
            rest = rest[self.process.stdin.write(rest) :]

    def receive(self) -> Any:
        """The next reply."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.endswith(b"\n"), self.process.stderr.read() if self.process.stderr else b""
        return json.loads(line)

    def ask(self, method: str, **params: object) -> Any:
        """The result of a request when no other is under way."""
        self.send(request("asked", method, **params))
        reply = self.receive()
        assert reply["id"] == "asked"
        return reply.get("result", reply.get("error"))

    def end(self) -> tuple[list[Any], str, int]:
        """Close its stdin: the replies that were left, what it said on stderr, and its exit status."""
        out, err = self.process.communicate(timeout=30)
        return [json.loads(line) for line in out.splitlines()], err.decode(), self.process.returncode

    def __enter__(self) -> StdioHost:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
