"""Measuring in a process of its own: the side that asks (:mod:`archroute_edge.bench._measuring_worker` answers)."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Final

from archroute_edge.errors import BenchmarkError, MeasuringProcessError
from archroute_edge.system import start_module

_WORKER: Final = "archroute_edge.bench._measuring_worker"


def temporary_file() -> IO[bytes]:
    """A file without a name.

    Raises:
        BenchmarkError: there is no folder for it.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError as exc:
        why = exc.strerror or exc
        raise BenchmarkError(f"no temporary file can be written ({why}); set TMPDIR to a folder for it") from exc


class MeasuringProcess:
    """A process that measures the level of that label, one request at a time; use it as a context manager.

    Raises:
        BenchmarkError: no temporary file can be written.
        SettingsError: this is a bundled program that cannot start it.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._complaints = temporary_file()
        self.started = time.perf_counter()
        self._process = start_module(
            _WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            # An interrupt on the terminal is for the command, which then ends its processes itself.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send one request and wait for its answer.

        Raises:
            BenchmarkError: the request failed there, with the reason.
            MeasuringProcessError: the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise MeasuringProcessError(f"{self._label}: {self._how_it_ended()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{self._label}: {answer['error']}")
        return answer

    def _how_it_ended(self) -> str:
        status = self._process.wait()
        self._complaints.seek(0)
        lines = [line for line in self._complaints.read().decode("utf-8", "replace").splitlines() if line.strip()]
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        why = " (out of memory?)" if status == -9 else f": {lines[-1].strip()}" if lines else ""
        return f"the measuring process {how}{why}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            # What was not yet written to a process that is gone cannot be.
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self._complaints.close()

    def __enter__(self) -> MeasuringProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
