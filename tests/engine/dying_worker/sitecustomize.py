"""Python imports this at its start where this folder is on PYTHONPATH: it spoils kernels in the process that tries them.

DYING_KERNELS says which and how: "repack=SIGILL plain=hang". They die at the first matrix product, as real ones do.
TRIALS names a file that gets a line for each trial. STANDS_FOR_AMX names a buffer that is taken for AMX's there.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

WORKER = "archroute_edge.engine._kernel_trial_worker"


def die(how: str) -> None:
    if how.startswith("exit"):
        os._exit(int(how.removeprefix("exit")))
    if how == "hang":
        time.sleep(600)
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(5)


class RenamingLoader(SourceFileLoader):
    """Loads the module that knows AMX's buffer by name, and gives it another name for it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.AMX = os.environ["STANDS_FOR_AMX"]  # type: ignore[attr-defined]


class RenamingFinder:
    """Asked for each module that is imported."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        if name != "archroute_edge.engine._ggml":
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None and spec.origin is not None
        spec.loader = RenamingLoader(name, spec.origin)
        return spec


class DyingFinder:
    """Asked for each module that is imported."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "archroute_edge.engine._matrix_products":
            die(deaths[kernels])


if WORKER in sys.orig_argv:
    kernels = json.loads(sys.orig_argv[-1])["kernels"]
    if "TRIALS" in os.environ:
        with Path(os.environ["TRIALS"]).open("a") as trials:
            trials.write(f"{kernels}\n")
    deaths = dict(each.split("=") for each in os.environ.get("DYING_KERNELS", "").split())
    if kernels in deaths:
        sys.meta_path.insert(0, DyingFinder)
    if "STANDS_FOR_AMX" in os.environ:
        sys.meta_path.insert(0, RenamingFinder)
