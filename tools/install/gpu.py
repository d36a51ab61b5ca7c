"""The needs of a build for each kind of GPU: settings for cmake, and the vendor's tools.

The tools are looked for first, because cmake reports a missing one only after minutes, or in pages of output.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.install.errors import InstallError


@dataclass(frozen=True)
class Backend:
    """One backend of llama.cpp."""

    arguments: tuple[str, ...]
    tool: str
    hint: str
    #: A place to look in when the tool is not on PATH, and the variable that then names the tool to cmake.
    elsewhere: str = ""
    variable: str = ""
    #: The only system it exists on, as sys.platform says.
    system: str = ""


BACKENDS = {
    "cuda": Backend(
        ("-DGGML_CUDA=on",),
        "nvcc",
        "install NVIDIA's CUDA toolkit (Ubuntu: apt install nvidia-cuda-toolkit), or name its compiler: CUDACXX=/path/to/nvcc",
        elsewhere="/usr/local/cuda/bin/nvcc",
        variable="CUDACXX",
    ),
    "metal": Backend(("-DGGML_METAL=on",), "xcrun", "install Apple's tools: xcode-select --install", system="darwin"),
    "rocm": Backend(
        ("-DGGML_HIP=on",),
        "hipconfig",
        "install AMD's ROCm, 6.1 or newer, and put its programs on PATH (export PATH=$PATH:/opt/rocm/bin)",
        elsewhere="/opt/rocm/bin/hipconfig",
    ),
    "sycl": Backend(
        ("-DGGML_SYCL=on", "-DCMAKE_C_COMPILER=icx", "-DCMAKE_CXX_COMPILER=icpx"),
        "icpx",
        "install Intel's oneAPI toolkit, then run: source /opt/intel/oneapi/setvars.sh",
    ),
    "vulkan": Backend(
        ("-DGGML_VULKAN=on",), "glslc", "install the Vulkan tools (Debian: apt install libvulkan-dev glslc spirv-headers)"
    ),
}


def backend_named(gpu: str) -> Backend | None:
    """The backend of that name; None for no name, which is the CPU.

    Raises:
        InstallError: there is none of that name.
    """
    if not gpu:
        return None
    if gpu not in BACKENDS:
        raise InstallError(f"GPU={gpu} is not known; it is one of {', '.join(BACKENDS)}, or left out for the CPU")
    return BACKENDS[gpu]


def toolkit(gpu: str, environment: Mapping[str, str], defines: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The tool of a GPU's toolkit, and the variables that lead cmake to it unless the user has set them.

    Raises:
        InstallError: this system has no such GPU, or its toolkit is not there.
    """
    backend = BACKENDS[gpu]
    if backend.system and sys.platform != backend.system:
        raise InstallError(f"GPU={gpu} is for macOS alone; left out, the build is for the CPU")
    named = defines.get("CMAKE_CUDA_COMPILER") or environment.get("CUDACXX") if gpu == "cuda" else None
    tool = shutil.which(named or backend.tool, path=environment.get("PATH"))
    found_elsewhere = tool is None and not named and Path(backend.elsewhere).is_file()
    if found_elsewhere:
        tool = backend.elsewhere
    if tool is None:
        raise InstallError(f"GPU={gpu} needs {named or backend.tool}, which was not found; {backend.hint}")
    settings = {backend.variable: tool} if found_elsewhere and backend.variable else {}
    if gpu == "rocm":
        # As llama.cpp's build document sets them.
        settings = {"HIPCXX": f"{_said([tool, '-l'])}/clang", "HIP_PATH": _said([tool, "-R"])}
    return tool, {name: value for name, value in settings.items() if not environment.get(name)}


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as exc:
        raise InstallError(f"{' '.join(command)} failed ({exc}); is ROCm installed whole?") from exc
