"""Processes: starting a module in one, ending with whoever started it, forks, and what has to stop when the program ends.

At its end the interpreter waits for threads that are not daemons, calls what was registered with :mod:`atexit`, and lets no
thread run Python any more. Models are freed by finalizers, which are called at exit too.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from archroute_edge.errors import ArchRouteError, ForkedProcessError, SettingsError

if TYPE_CHECKING:
    import psutil

BUNDLE_MARK: Final = "archroute_edge_runs_modules"
"""An attribute of ``sys`` that ``__pyinstaller/rthooks`` sets: the bundled program's executable understands ``-m MODULE``."""


def start_module(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Run a module of this package in a process of its own, as ``python -m MODULE ARGUMENTS``.

    It imports from the folders that this process imports from, in their order, and not from the current one: that may be a
    model's, downloaded with a ``numpy.py`` in it.

    Args:
        module: its full name.
        arguments: what it finds in ``sys.argv``.
        options: as for ``subprocess.Popen``.

    Raises:
        SettingsError: this program is a bundle without a Python interpreter, whose executable would only start it again.
    """
    is_bundle = getattr(sys, "frozen", False)
    if is_bundle and not hasattr(sys, BUNDLE_MARK):
        raise SettingsError(
            f"{module} needs a process of its own, and this bundled program has no Python for it; bundle it with "
            "PyInstaller, which finds the hook of archroute-edge, or use the archroute command"
        )
    if sys.platform == "win32":
        # A host without a console, such as pythonw, would get one for each child.
        options.setdefault("creationflags", subprocess.CREATE_NO_WINDOW)
    start = ["-m"] if is_bundle else [str(Path(__file__).with_name("_child.py")), json.dumps(_import_folders())]
    return subprocess.Popen(
        [sys.executable, *start, module, *arguments], env={**os.environ, "GGML_NO_BACKTRACE": "1"}, **options
    )


def _import_folders() -> list[str]:
    """``sys.path`` without the empty name, which stands for the current folder."""
    folders = [os.path.abspath(each) for each in sys.path if isinstance(each, str) and each]  # noqa: PTH100 - keeps ".."
    root = Path(__file__).parents[2]
    # If it stood for ours, ours has its place: another version may be installed.
    return folders if root in map(Path, folders) else [str(root), *folders]


def take_stdout() -> int:
    """A descriptor for replies alone, which is what stdout was; what anything else writes there goes to stderr from now on."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def take_stdin() -> int:
    """A descriptor for requests alone, which is what stdin was; whatever else reads from there finds nothing from now on."""
    requests = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests


class ParentProcess:
    """The process that started this one, as it is when this is made.

    Linux can send a signal instead (PR_SET_PDEATHSIG), but does so when the parent's thread that forked ends, which a host
    with a pool of threads may do at any time.
    """

    def __init__(self) -> None:
        # Here, since few of the processes that are started ask for it, and it takes as long as a short-lived one lasts.
        import psutil

        self._pid = os.getppid()
        try:
            self._process: psutil.Process | None = psutil.Process(self._pid)
        except psutil.Error:
            self._process = None

    @property
    def gone(self) -> bool:
        """Whether it has ended. On Windows a process keeps the number of a parent that is gone; elsewhere it is adopted."""
        if os.name == "nt":
            return self._process is None or not self._process.is_running()
        return os.getppid() != self._pid


class OwnProcess:
    """Remembers the process it was made in.

    Locks are no use in a forked one, since the threads that held them are not there to let go. So whatever takes a lock, or
    uses llama.cpp's memory, asks here first.
    """

    def __init__(self) -> None:
        self._id = os.getpid()

    @property
    def is_this(self) -> bool:
        """Whether the calling process is the one."""
        return self._id == os.getpid()

    def check(self, what: str) -> None:
        """Go on only in that process.

        Raises:
            ForkedProcessError: this one was forked from it; the message names ``what``.
        """
        if not self.is_this:
            raise ForkedProcessError(
                f"the {what} was made in process {self._id}, and this is process {os.getpid()}, which was forked from it; "
                f"make the {what} after the fork, or start processes with spawn"
            )


class Stops(Protocol):
    """What uses llama.cpp, and has to stop at exit."""

    def stop(self) -> None:
        """Tell it to stop, once and for all. Does not wait."""

    def wait_for_stop(self) -> None:
        """Return when it has stopped."""


_all: weakref.WeakSet[Stops] = weakref.WeakSet()
_ends = False


def stop_at_the_end(each: Stops) -> None:
    """Have ``each`` stopped at exit, as long as somebody else holds it."""
    _all.add(each)
    # Called before what was registered earlier: the finalizers of models.
    atexit.unregister(_stop_all)
    atexit.register(_stop_all)


def program_ends() -> bool:
    """Whether the program is ending: nothing more is evaluated or answered."""
    return _ends


@contextmanager
def quiet_at_the_end() -> Iterator[None]:
    """End a daemon thread without a traceback, if it is refused or stopped because the program ends.

    The program has left it behind, and can do nothing about an error. SystemExit ends a thread in silence, and lets go of what
    it holds.
    """
    try:
        yield
    except ArchRouteError:
        if _ends and in_daemon_thread():
            raise SystemExit from None
        raise


def in_daemon_thread() -> bool:
    """Whether the calling thread is one of Python's that the interpreter does not wait for."""
    thread = threading.current_thread()
    # Of a thread that another language made it is not known what SystemExit would do there.
    return thread.daemon and not isinstance(thread, threading._DummyThread)


def _stop_all() -> None:
    global _ends
    _ends = True
    stopping = tuple(_all)
    for each in stopping:
        each.stop()
    for each in stopping:
        each.wait_for_stop()
