"""``python -m tools.install [EXTRA] [--gpu NAME]``: see the package's docstring."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

from tools.install import progress
from tools.install.environment import Environment
from tools.install.errors import InstallError


def main() -> int:
    """Install, and return an exit status: a failure is its reason on stderr and 2, a break-off is 130."""
    parser = argparse.ArgumentParser(prog="python -m tools.install", description="Fill this Python's virtual environment.")
    parser.add_argument("extra", nargs="?", default="", help="an extra of the package (dev, convert, peers)")
    parser.add_argument("--gpu", default="", help="build llama.cpp for cuda, metal, rocm, sycl or vulkan")
    parser.add_argument("--engine", default="", help="ik compiles ik_llama.cpp, the second engine, for this machine")
    arguments = parser.parse_args()
    # SIGTERM, or the end of its terminal, also ends its child processes.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    line = progress.Line()
    try:
        if sys.prefix == sys.base_prefix:
            raise InstallError("this Python is no virtual environment's; make one first: python3 -m venv .venv")
        if importlib.util.find_spec("pip") is None:
            # The making of the environment was broken off before pip was in it.
            subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL, check=True)
        project = Path(__file__).resolve().parents[2]
        Environment(Path(sys.prefix), project, os.environ, line).ensure(arguments.extra, arguments.gpu, arguments.engine)
    except (InstallError, OSError, subprocess.CalledProcessError) as exc:
        line.say(f"error: {exc}")
        return 2
    except KeyboardInterrupt:
        line.say("broken off; the next make begins this step again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
