"""Python imports this at its start where this folder is on PYTHONPATH: it spoils kernels in the process that tries them.

DYING_KERNELS says which and how: "repack=SIGILL plain=hang". They die at the first matrix product, as real ones do.
TRIALS names a file that gets a line for each trial.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

WORKER = "archroute_edge.engine.kernel_trial_worker"


def die(how: str) -> None:
    if how.startswith("exit"):
        os._exit(int(how.removeprefix("exit")))
    if how == "hang":
        time.sleep(600)
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(5)


class DyingFinder:
    """Asked for each module that is imported."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "archroute_edge.engine.matrix_products":
            die(deaths[kernels])


if WORKER in sys.orig_argv:
    kernels = json.loads(sys.orig_argv[-1])["kernels"]
    if "TRIALS" in os.environ:
        with Path(os.environ["TRIALS"]).open("a") as trials:
            trials.write(f"{kernels}\n")
    deaths = dict(each.split("=") for each in os.environ.get("DYING_KERNELS", "").split())
    if kernels in deaths:
        sys.meta_path.insert(0, DyingFinder)
