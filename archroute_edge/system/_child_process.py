"""Processes that talk over pipes: starting a module in one, keeping its stdout for replies, ending with who started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archroute_edge.errors import SettingsError

if TYPE_CHECKING:
    import psutil

BUNDLE_MARK: Final = "archroute_edge_runs_modules"
"""An attribute of ``sys`` that ``__pyinstaller/rthooks`` sets: the bundled program's executable understands ``-m MODULE``."""


def start_module(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Run a module of this package in a process of its own, as ``python -m MODULE ARGUMENTS``.

    Args:
        module: its full name.
        arguments: what it finds in ``sys.argv``.
        options: as for ``subprocess.Popen``.

    Raises:
        SettingsError: this program is a bundle without a Python interpreter, whose executable would only start it again.
    """
    if getattr(sys, "frozen", False) and not hasattr(sys, BUNDLE_MARK):
        raise SettingsError(
            f"{module} needs a process of its own, and this bundled program has no Python for it; bundle it with "
            "PyInstaller, which finds the hook of archroute-edge, or use the archroute command"
        )
    if sys.platform == "win32":
        # A host without a console, such as pythonw, would get one for each child.
        options.setdefault("creationflags", subprocess.CREATE_NO_WINDOW)
    package_root = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": search_path, "GGML_NO_BACKTRACE": "1"},
        **options,
    )


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
