"""``archroute serve`` as a process of its own, for measuring and testing it."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from types import TracebackType

PROGRAM = [sys.executable, "-c", "from archroute_edge.cli import main; main(prog_name='archroute')"]


class ServerProcess:
    """A server on a free port, without prefixes on disk; its lines on stderr are kept.

    Args:
        options: further options of ``archroute serve``.
        environment: further variables.
    """

    def __init__(self, *options: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0", "--no-prefix-cache", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "GGML_NO_BACKTRACE": "1", **environment},
        )
        self.lines: list[str] = []
        self._arrived: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        found = re.search(r"http://\S+\d", self.line("listening on"))
        assert found
        self.address = found[0]

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self, beginning: str, timeout: float = 60.0) -> str:
        """The next line on stderr that holds ``beginning``."""
        while True:
            found = self._arrived.get(timeout=timeout)
            assert found, f"the server ended: {self.lines}"
            if beginning in found:
                return found

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        code = self._process.wait(timeout=60)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))
            self._arrived.put(line)
        self._arrived.put("")

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream
            stream.close()
