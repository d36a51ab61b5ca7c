"""How long threads that compute together wait for each other by spinning, before they sleep.

GNU OpenMP, with which llama.cpp computes on Linux, lets them spin for some milliseconds. Where other programs use the cores,
the thread that is waited for may not be running, and a decision takes many times as long. It also keeps a pool of threads for
each thread that has computed. Once these pools have more threads than the machine has cores, it lets them spin for a
microsecond alone, and then the threads of a small model sleep and wake hundreds of times in a decision. Both limits are set
here.

libgomp reads them from the environment when it is loaded: GOMP_SPINCOUNT is the first one, and with OMP_WAIT_POLICY=active the
second one is 1,000 (``initialize_env`` in libgomp's ``env.c``). So it is loaded here, before the library that needs it, and the
environment is left as it was, since other OpenMP libraries read the same variables.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_SETTINGS: Final = {"GOMP_SPINCOUNT": "1000", "OMP_WAIT_POLICY": "active"}


def load_openmp(module: str, distribution: str) -> None:
    """Load the libgomp that a package's library computes with. Without one, or if the environment says how to wait: nothing.

    Args:
        module: the package, such as ``llama_cpp``.
        distribution: its distribution, whose wheel may carry a libgomp of its own in ``DISTRIBUTION.libs``.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _SETTINGS):
        return
    spec = find_spec(module)
    packages = Path(spec.origin).parents[1] if spec is not None and spec.origin else None
    own = sorted(packages.glob(f"{distribution}.libs/libgomp*")) if packages is not None else []
    os.environ.update(_SETTINGS)
    try:
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(own[0]) if own else "libgomp.so.1")
    finally:
        for name in _SETTINGS:
            os.environ.pop(name, None)
