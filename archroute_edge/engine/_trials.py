"""Trials: what might end this process is done in a child first, and its verdict is kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import archroute_edge
from archroute_edge.engine._cancellation import Cancellation
from archroute_edge.engine._cpu import cpu
from archroute_edge.errors import ArchRouteError, SettingsError
from archroute_edge.system import ProcessLock, cache_folder, check_private, replaced_when_whole

logger = logging.getLogger(__name__)

TIME_LIMIT_S: Final = 120.0
"""A child that has not ended by then hangs. It takes half a second, and under an emulator a hundred times as long."""

_LOCK_NAME: Final = "trials.lock"
_SILENT_WAIT_S: Final = 1.0

# NTSTATUS, as a process's exit code on Windows.
_WINDOWS_DEATHS: Final = {
    0xC0000005: "access violation",
    0xC000001D: "illegal instruction",
    0xC0000096: "privileged instruction",
    0xC0000409: "abort",
}


@dataclass(frozen=True)
class TrialRun:
    """What one child process did: its steps with their details, and how it ended."""

    steps: Mapping[str, Mapping[str, Any]]
    exit_code: int
    hung: bool = False

    @property
    def began(self) -> bool:
        """Whether it ran our code at all, with a llama.cpp that it could import."""
        return "python" in self.steps and "failed" not in self.steps

    @property
    def end(self) -> str:
        """How it ended, in a few words."""
        if self.hung:
            return f"hung for {TIME_LIMIT_S:.0f} s"
        if "unsound" in self.steps:
            return str(self.steps["unsound"]["what"])
        if self.exit_code < 0:
            return _signal_name(-self.exit_code)
        return _WINDOWS_DEATHS.get(self.exit_code & 0xFFFFFFFF, f"ended with exit code {self.exit_code}")


class TrialLock:
    """Held while a verdict is reached, perhaps for seconds. A forked process has it free: it lacks the thread that held it."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_exc: object) -> None:
        self._lock.release()

    def taken(self, cancellation: Cancellation) -> AbstractContextManager[None]:
        """Hold it while a block lasts, as :meth:`Cancellation.holding` says."""
        return cancellation.holding(self._lock)


@contextmanager
def turn_among_processes(path: Path | None, cancellation: Cancellation) -> Iterator[None]:
    """Have no other process reach a verdict while the block lasts: two at once would spoil each other's measurements.

    A process that has waited for as long as a trial may take goes on without its turn: the process before it may be stopped.
    So does a process whose verdicts are not kept, and one on a file system without locks.

    Args:
        path: of the verdict, or None; the lock is a file beside it.
        cancellation: ends the wait.

    Raises:
        DecisionCancelledError: ``cancellation`` was set first.
    """
    if path is None:
        yield
        return
    lock, begun, is_said = ProcessLock(path.parent / _LOCK_NAME), time.monotonic(), False

    def has_turn(seconds: float) -> bool:
        nonlocal is_said
        if lock.take(seconds):
            return True
        waited = time.monotonic() - begun
        if not is_said and waited > _SILENT_WAIT_S:
            is_said = True
            logger.info(
                "another process is trying or measuring engines on this CPU; waiting for it, at most %.0f s (lock: %s)",
                TIME_LIMIT_S,
                lock.path,
            )
        return waited > TIME_LIMIT_S

    _make_folder(path.parent)
    try:
        cancellation.wait_until(has_turn)
        yield
    finally:
        lock.release()


def run_trial(module: str, task: Mapping[str, Any], cancellation: Cancellation | None = None) -> TrialRun | None:
    """Run a worker in a child process, and wait for its end; None if none can be started.

    Args:
        module: of the worker. It gets the task as a JSON object in its first argument, and writes a JSON object with ``step``
            for each step that it passes, one a line.
        task: what the worker is told.
        cancellation: ends the child.

    Raises:
        DecisionCancelledError: ``cancellation`` was set.
    """
    # Here, since nearly every process finds a verdict and starts no other.
    import subprocess

    from archroute_edge.system import start_module

    try:
        process = start_module(
            module, json.dumps(task), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except (OSError, ValueError, SettingsError) as exc:
        logger.debug("no child process can be started: %s", exc)
        return None
    output, ends = b"", time.monotonic() + TIME_LIMIT_S

    def has_ended(seconds: float) -> bool:
        nonlocal output
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return time.monotonic() > ends
        return True

    with process:
        try:
            (cancellation or Cancellation()).wait_until(has_ended)
            if hung := process.returncode is None:
                process.kill()
                output, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    steps = {}
    for line in output.splitlines():
        try:
            entry = json.loads(line)
            steps[entry.pop("step")] = entry
        except (ValueError, KeyError, AttributeError):
            # Not ours: what was started is another program.
            continue
    logger.debug("trial %s of %s: %s, exit code %d", module, task, steps, process.returncode)
    return TrialRun(steps, process.returncode, hung)


def kept_in(what: str, *about: object) -> Path | None:
    """The file of a verdict on this CPU; None if there is no folder for it that can be trusted.

    Args:
        what: begins the file's name.
        about: what the verdict holds for, beside the CPU and this version of the package.
    """
    try:
        folder = cache_folder()
        if folder.exists():
            check_private(folder)
        key = json.dumps([archroute_edge.__version__, *about, cpu()])
    except (ArchRouteError, OSError, RuntimeError, KeyError) as exc:
        logger.debug("the trial of %s is not kept: %s", what, exc)
        return None
    return folder / f"{what}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def keep(path: Path, verdict: Mapping[str, Any]) -> None:
    """Keep a verdict in the file that :func:`kept_in` names; a folder that cannot be written keeps none."""
    _make_folder(path.parent)
    try:
        with replaced_when_whole(path) as partial:
            partial.write_text(json.dumps(verdict), "utf-8")
    except OSError as exc:
        logger.debug("a trial is not kept: %s", exc)


def _make_folder(folder: Path) -> None:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
