"""SIGTERM ends a command as Ctrl-C does: with what it has begun cleared away."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType


class _Termination:
    """What becomes of a SIGTERM."""

    def __init__(self) -> None:
        self.has_come = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # Another one must not interrupt what clears away.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.has_come = True
        raise KeyboardInterrupt

    def at_exit(self) -> None:
        """Die of the signal after all, which is what a supervisor expects."""
        if self.has_come:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
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
    with suppress(ValueError):
        signal.signal(signal.SIGTERM, termination.on_signal)
        atexit.register(termination.at_exit)
