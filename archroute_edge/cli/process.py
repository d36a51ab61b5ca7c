"""The process of a command: its streams, a quick start and end, and SIGTERM.

SIGTERM ends a command as Ctrl-C does, cleaning up.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import unicodedata
from types import FrameType
from typing import Any, Final

_OBEYED: Final = ("Cc", "Cs", "Zl", "Zp")
_ORDERING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def set_process_up() -> None:
    """Prepare the process: streams, SIGTERM, and no work that a short command does not need."""
    _set_streams_up()
    interrupt_on_sigterm()
    # OpenBLAS starts a thread a core when NumPy is imported, and they spin for each other. Our products are small.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # All memory goes with the process. To look for cycles in it before takes a tenth of a short command's time.
    atexit.register(gc.freeze)


def as_typed(text: str) -> str:
    """Text from the command line as UTF-8, of which Python keeps the bytes apart if the locale knows ASCII alone."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeError):
            return os.fsencode(text).decode("utf-8")
    return text


def shown(text: str) -> str:
    """Text from a file or the command line, with what a terminal would obey as escapes, line breaks included.

    Joiners and blanks of scripts stay: names have them.
    """
    return "".join(ascii(char)[1:-1] if _is_obeyed(char) else char for char in as_typed(text))


def one_line(text: str) -> str:
    """The same on one line, where line breaks and runs of blanks are blanks."""
    return shown(" ".join(as_typed(text).split()))


def _is_obeyed(char: str) -> bool:
    """Whether a character is a control, a line break, half of a pair, or changes the order in which others are shown."""
    return unicodedata.category(char) in _OBEYED or char in _ORDERING


class _Forgiving(io.FileIO):
    """A file that drops text it cannot write."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def _set_streams_up() -> None:
    """Put the null device in the place of closed streams, and let human text on stderr fail no command."""
    # Else the next file that is opened gets their numbers, and native code's messages are written into it.
    for number, mode, name in ((0, "r", "stdin"), (1, "w", "stdout"), (2, "w", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the process's life
    # Not if the calling program has set its own stream.
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        raw = _Forgiving(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True
        )


def drop_unwritten() -> None:
    """Drop stdout's buffer if it cannot be written; else it fails again at exit, with a traceback and status 120."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class _Termination:
    """The handling of SIGTERM."""

    def __init__(self) -> None:
        self.has_come = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # Another one must not interrupt the cleanup.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.has_come = True
        raise KeyboardInterrupt

    def at_exit(self) -> None:
        """Die of the signal in the end, as a supervisor expects."""
        if self.has_come:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def interrupt_on_sigterm() -> None:
    """From now on SIGTERM raises KeyboardInterrupt; the process dies of the signal when everything else is done.

    Comes first, before anything else has something to do at exit. A SIGTERM that is handled or ignored already stays so.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    termination = _Termination()
    # Only the main thread has a say in it.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, termination.on_signal)
        atexit.register(termination.at_exit)
