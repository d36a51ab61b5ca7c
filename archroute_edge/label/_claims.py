"""Who labels which file: claims in a folder that processes of several machines share, without a coordinator.

A claim is a file beside an output, ``.NAME.claim-1``. Creating it is atomic, so one process has it; while that is at work, it
touches the claim again and again. A claim that is no longer touched is taken over by creating ``.NAME.claim-2``, which is
atomic, too, so that one process alone takes over. The highest number counts. A process that was only held up finds the higher
number, and drops what it has.

Claims save work and keep nothing safe: an output is put in its place whole, and has the same rows from every process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from archroute_edge.system import partial_path, replaced_when_whole

logger = logging.getLogger(__name__)

TAKEOVER_S: Final = 120.0
"""How long a claim may stay untouched: network file systems show changes after up to a minute."""
_BEATS: Final = 6
"""Touches in that time."""


class ClaimLostError(Exception):
    """Another process took over, since this one was held up for too long."""


class Claim:
    """The right to write one output; a context manager that touches the claim, and gives it back at the end."""

    def __init__(self, output: Path, number: int, token: str, takeover_s: float) -> None:
        self._output = output
        self._number = number
        self._token = token
        self._takeover_s = takeover_s
        self._is_lost = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="archroute-claim", daemon=True)

    def check(self) -> None:
        """Go on only if no other process has taken over.

        Raises:
            ClaimLostError: one has.
        """
        if self._is_lost.is_set() or claim_path(self._output, self._number + 1).exists():
            raise ClaimLostError(str(self._output))

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Give a path to write to, and put it in the output's place when the block ends without an exception.

        Raises:
            ClaimLostError: another process has taken over.
        """
        try:
            with replaced_when_whole(self._output, mark=self._token) as partial:
                yield partial
                self.check()
        except FileNotFoundError as exc:
            # Who takes over removes what was written so far.
            raise ClaimLostError(str(self._output)) from exc

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()
        self.give_back()

    def give_back(self) -> None:
        """Remove the claim, and those before it, unless a process has taken over that still needs them to count from."""
        if claim_path(self._output, self._number + 1).exists():
            return
        for number in range(1, self._number + 1):
            with contextlib.suppress(OSError):
                claim_path(self._output, number).unlink()

    def _beat(self) -> None:
        path = claim_path(self._output, self._number)
        while not self._ends.wait(self._takeover_s / _BEATS):
            try:
                os.utime(path)
                is_lost = claim_path(self._output, self._number + 1).exists()
            except FileNotFoundError:
                is_lost = True
            except OSError as exc:
                # A network may be back in time.
                logger.warning("%s: cannot be touched (%s)", path, exc.strerror or exc)
                continue
            if is_lost:
                self._is_lost.set()
                return


class Claims:
    """Takes claims, and takes over those of processes that have ended.

    A process of this machine that has ended is found at once. One of another machine has ended if its claim stays untouched,
    by this machine's clock: what the clocks of machines say is not compared.

    Args:
        takeover_s: how long a claim may stay untouched.
    """

    def __init__(self, takeover_s: float = TAKEOVER_S) -> None:
        self.takeover_s = takeover_s
        self._seen: dict[Path, tuple[int, float]] = {}

    def take(self, output: Path) -> Claim | None:
        """The claim on an output, or None if a process that is at work has it.

        Raises:
            OSError: claims cannot be written there.
        """
        token = uuid.uuid4().hex[:12]
        if _create(claim_path(output, 1), token):
            return Claim(output, 1, token, self.takeover_s)
        number = 1
        while claim_path(output, number + 1).exists():
            number += 1
        dead = self._dead_holder(claim_path(output, number))
        if dead is None or not _create(claim_path(output, number + 1), token):
            return None
        if dead.token:
            with contextlib.suppress(OSError):
                partial_path(output, dead.token).unlink()
        return Claim(output, number + 1, token, self.takeover_s)

    def _dead_holder(self, path: Path) -> _Holder | None:
        """Who had a claim and has ended; None if it is at work, or may be."""
        try:
            # To open a file makes a network file system ask for its present state.
            with path.open("rb") as file:
                touched = os.fstat(file.fileno()).st_mtime_ns
                holder = _Holder.read(file.read(4096))
        except OSError:
            return None
        if holder.is_of_this_machine and not holder.is_alive:
            return holder
        now = time.monotonic()
        last, since = self._seen.get(path, (None, now))
        if last != touched:
            self._seen[path] = (touched, now)
            return None
        return holder if now - since > self.takeover_s else None


def claim_path(output: Path, number: int) -> Path:
    """The file of a claim. Other programs leave out names that begin with a dot."""
    return output.with_name(f".{output.name}.claim-{number}")


def _create(path: Path, token: str) -> bool:
    """Create a claim; whether there was none."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            json.dump({**_this_process(os.getpid()), "token": token}, file)
    except BaseException:
        # Without a holder it would be waited for.
        path.unlink(missing_ok=True)
        raise
    return True


@dataclass(frozen=True)
class _Holder:
    """What a claim says of the process that has it; nothing, if that ended before it had written it."""

    host: str | None = None
    boot: str | None = None
    process: int | None = None
    started: float | None = None
    token: str | None = None

    @classmethod
    def read(cls, raw: bytes) -> _Holder:
        try:
            values = json.loads(raw)
            return cls(**values) if isinstance(values, dict) else cls()
        except (ValueError, TypeError, RecursionError):
            return cls()

    @property
    def is_of_this_machine(self) -> bool:
        here = _this_process(os.getpid())
        return self.process is not None and (self.host, self.boot) == (here["host"], here["boot"])

    @property
    def is_alive(self) -> bool:
        import psutil

        assert self.process is not None
        try:
            started = psutil.Process(self.process).create_time()
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True
        # Numbers of processes are used again.
        return self.started is None or abs(started - self.started) < 2


@lru_cache(maxsize=1)
def _this_process(process: int) -> dict[str, Any]:
    """What tells this process from all others: containers may share a machine's name, and count processes from 1."""
    import psutil

    boot = str(int(psutil.boot_time()))
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        boot = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    started = psutil.Process(process).create_time()
    return {"host": socket.gethostname(), "boot": boot, "process": process, "started": started}
