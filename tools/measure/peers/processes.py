"""Peers in processes of their own, each ended with the block that started it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from archroute_edge.errors import PeerError
from tools.measure.peers import INHERITED
from tools.measure.peers.question import Question, Reply

_ROOT = Path(__file__).parents[3]
_SECONDS_TO_END = 10.0


class PeerProcess:
    """A process in a session of its own, so that an interrupt from the terminal reaches us alone; we end it.

    Args:
        name: its name in messages.
        command: the command line.
        talks: whether its standard input and output are ours.

    Raises:
        PeerError: it cannot be started.
    """

    def __init__(self, name: str, command: list[str], *, talks: bool = False) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        pipe = subprocess.PIPE if talks else None
        try:
            self.process = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or self._log,
                stderr=self._log,
                env=INHERITED,
                cwd=_ROOT,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        except OSError as exc:
            self._log.close()
            raise PeerError(f"{name}: {command[0]} cannot be run ({exc.strerror or exc})") from exc

    def last_words(self) -> str:
        """The last line that the process has written to its log."""
        self._log.seek(0)
        lines = [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"

    def ending(self, patience: float = 0.0) -> str | None:
        """How the process ended, and its last words; None if it still runs after ``patience`` seconds."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        return f"{self.name} ended with status {status}: {self.last_words()}"

    def close(self) -> None:
        """End the process, if need be by force."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.terminate()
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class WorkerProcess(PeerProcess):
    """A peer behind ``tools.measure.peers.worker``, loaded once this returns.

    Args:
        name: its name in messages.
        kind: ``archroute``, ``llama-cpp-python``, ``ik-llama-cpp-python`` or ``transformers``.
        settings: what its class takes.

    Raises:
        PeerError: it could not be loaded; the message says why.
    """

    def __init__(self, name: str, kind: str, **settings: Any) -> None:
        command = [sys.executable, "-m", "tools.measure.peers.worker", kind, json.dumps(settings)]
        super().__init__(name, command, talks=True)
        try:
            self._result()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **arguments: Any) -> Any:
        """The result of the peer's ``method``, as JSON values.

        Raises:
            PeerError: the peer failed.
        """
        assert self.process.stdin is not None
        # Where the process has ended, why it did is in its log.
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([method, arguments]), file=self.process.stdin, flush=True)
        return self._result()

    def ask(self, table: str, message: str) -> Question:
        """See :meth:`tools.measure.peers.ours.ArchRoute.ask`."""
        return Question(**self.call("ask", table=table, message=message))

    def decide(self, question: Question) -> Reply:
        """One decision; the time is taken in the process, without what talking to it costs."""
        return Reply(**self.call("decide", question=asdict(question)))

    def _result(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise PeerError(self.ending() or "")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer["result"]
