"""How many threads llama.cpp can compute with in a forked process.

GNU OpenMP keeps a pool of threads for each thread that has computed with several. In a forked process the thread that forked
goes on with its pool, whose threads are not there, and would wait for them for ever. Alone it needs none, and every other
thread makes a pool of its own. A GPU cannot be used at all in a process that was forked after its first use.
"""

from __future__ import annotations

import os
import threading

_thread = threading.local()
_used_in: int | None = None


def note_use() -> None:
    """llama.cpp is used in this process from now on."""
    global _used_in
    if _used_in is None:
        _used_in = os.getpid()


def was_used_before_fork() -> bool:
    """Whether llama.cpp was in use already when this process was forked."""
    return _used_in is not None and _used_in != os.getpid()


def usable_threads(wanted: int) -> int:
    """``wanted``; in the thread that a forked process began with, 1."""
    return 1 if getattr(_thread, "has_forked", False) else wanted


def _note_fork() -> None:
    if _used_in is not None:
        _thread.has_forked = True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_note_fork)
