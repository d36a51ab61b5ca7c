"""The end of the program: what has to stop before models are freed, and threads that would go on.

The interpreter waits for threads that are not daemons, calls what was registered with :mod:`atexit`, and lets no thread run
Python any more. Models are freed by finalizers, which are called at exit too.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from archroute_edge.errors import ArchRouteError


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
