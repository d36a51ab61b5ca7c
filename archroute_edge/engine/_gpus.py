"""Graphics cards of this machine, found without llama.cpp: to say when a build leaves one unused."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class GPUVendor:
    """A maker of graphics cards, the backend of llama.cpp for all of them, the flag that compiles it, and what the names of
    llama.cpp's devices begin with."""

    name: str
    backend: str
    cmake_flag: str
    devices: tuple[str, ...]


NVIDIA: Final = GPUVendor("NVIDIA", "CUDA", "-DGGML_CUDA=on", ("CUDA", "Vulkan"))
AMD: Final = GPUVendor("AMD", "Vulkan", "-DGGML_VULKAN=on", ("ROCm", "Vulkan"))
INTEL: Final = GPUVendor("Intel", "Vulkan", "-DGGML_VULKAN=on", ("Vulkan", "SYCL"))
APPLE: Final = GPUVendor("Apple", "Metal", "-DGGML_METAL=on", ("Metal", "MTL"))

_PCI_VENDORS: Final = {"0x10de": NVIDIA, "0x1002": AMD, "0x8086": INTEL}
_PCI_DISPLAY: Final = "0x03"


def gpus(root: Path = Path("/")) -> list[GPUVendor]:
    """The makers of the graphics cards here, each once; those inside Intel's CPUs do not count.

    Args:
        root: the root of the file system.
    """
    if sys.platform == "darwin":
        return [APPLE] if platform.machine() == "arm64" else []
    if sys.platform == "win32":
        system = root / "Windows" / "System32"
        return [vendor for vendor, library in ((NVIDIA, "nvcuda.dll"), (AMD, "amdhip64.dll")) if (system / library).exists()]
    found = {}
    # Cards that a driver serves, and those that only lie on the bus: a container may show either, and WSL its own.
    nvidia = ("proc/driver/nvidia/version", "dev/nvidia0", "dev/nvidiactl", "usr/lib/wsl/lib/libcuda.so.1")
    if any((root / place).exists() for place in nvidia):
        found[NVIDIA.name] = NVIDIA
    if (root / "dev" / "kfd").exists():
        found[AMD.name] = AMD
    for device in sorted((root / "sys" / "bus" / "pci" / "devices").glob("*")):
        vendor = _PCI_VENDORS.get(_text(device / "vendor"))
        # Intel's at 00:02.0 is the one inside the CPU, which shares its memory and computes no faster.
        if vendor and _text(device / "class").startswith(_PCI_DISPLAY) and not device.name.endswith("00:02.0"):
            found[vendor.name] = vendor
    return list(found.values())


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def unused_gpus(device_names: list[str], root: Path = Path("/")) -> list[GPUVendor]:
    """Those that no device of llama.cpp stands for.

    Args:
        device_names: the names of llama.cpp's devices, as ``CUDA0`` or ``CPU``.
        root: the root of the file system.
    """
    return [vendor for vendor in gpus(root) if not any(name.startswith(vendor.devices) for name in device_names)]
