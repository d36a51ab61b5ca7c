"""How long threads that compute together wait for each other by spinning, before they sleep.

GNU OpenMP, with which llama.cpp computes on Linux, lets them spin for some milliseconds. Where other programs use the cores,
the thread that is waited for may not be running, and a decision takes many times as long. It also keeps a pool of threads for
each thread that has computed. Once these pools have more threads than the machine has cores, it lets them spin for only a
microsecond, and then the threads of a small model sleep and wake hundreds of times in a decision. Both limits are set
here.

libgomp reads them from the environment when it is loaded: GOMP_SPINCOUNT is the first one, and with OMP_WAIT_POLICY=active the
second one is 1,000 (``initialize_env`` in libgomp's ``env.c``). So it is loaded here, before the library that needs it, and the
environment is left as it was, since other OpenMP libraries read the same variables. One that is loaded already stays as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Final

# In this order, so that none is left alone that makes threads spin for minutes.
_SETTINGS: Final = {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "active"}


def load_openmp(folder: Path | None, wheel: str | None) -> None:
    """Load the libgomp that a library computes with. Without one, or if the environment says how to wait: nothing.

    Args:
        folder: where the library stands, which may have a libgomp beside it; None if there is none.
        wheel: the distribution of the package whose ``lib`` that folder is. Its wheel may carry a libgomp in
            ``DISTRIBUTION.libs``.
    """
    if sys.platform != "linux" or folder is None or any(name in os.environ for name in _SETTINGS):
        return
    beside = sorted(folder.glob("libgomp*.so*"))
    carried = sorted(folder.parents[1].glob(f"{wheel}.libs/libgomp*.so*")) if wheel is not None else []
    with contextlib.suppress(OSError):
        try:
            os.environ.update(_SETTINGS)
            ctypes.CDLL(str(next(iter([*beside, *carried]), "libgomp.so.1")))
        finally:
            for name in reversed(_SETTINGS):
                os.environ.pop(name, None)
