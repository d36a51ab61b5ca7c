"""The machine that was measured, as a report describes it."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from archroute_edge import __version__
from archroute_edge.engine import _backend as backend
from archroute_edge.engine import ik_version


def describe_machine() -> dict[str, Any]:
    """CPU and its vector features, cores, memory (bytes), devices, and the libraries that compute."""
    build = backend.build()
    return {
        "cpu": _cpu_name(),
        "features": cpu_features(build.system_info),
        "cores": {
            "physical": psutil.cpu_count(logical=False),
            "logical": psutil.cpu_count(),
            "usable": backend.physical_cores(),
        },
        "memory": psutil.virtual_memory().total,
        "devices": [
            {"name": each.name, "description": each.description, "memory": each.memory_total} for each in backend.devices()
        ],
        "gpu_offload": build.gpu_offload,
        "llama_cpp": build.llama_cpp_version,
        "llama_cpp_python": build.binding_version,
        "ik_llama_cpp_python": ik_version(),
        "system_info": build.system_info,
        "kernels": build.kernels,
        "archroute_edge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def machine_identity(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What times depend on of :func:`describe_machine`, as JSON values: parts that were measured elsewhere are another run's.

    Not the host's name: a container that starts anew has another. Memory in GiB: the system's own share differs a little.
    """
    names = ("cpu", "cores", "llama_cpp", "llama_cpp_python", "ik_llama_cpp_python", "system_info", "kernels", "archroute_edge")
    return {
        **{name: machine[name] for name in names},
        "memory": round(machine["memory"] / 2**30),
        "devices": [[each["name"], each["description"]] for each in machine["devices"]],
    }


def cpu_features(system_info: str) -> list[str]:
    """The names that llama.cpp's ``system_info`` sets to something else than 0."""
    return [name for name, value in re.findall(r"(\w+) = (\d+)", system_info) if value != "0"]


@functools.cache
def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
        if found:
            return found[1].strip()
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine()
