"""The build settings of llama-cpp-python and ik-llama-cpp-python that the user asked for, and what follows from them here."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.install import compilers, gpu
from tools.install.errors import InstallError

PACKAGE = "llama-cpp-python"
#: The second engine.
IK_PACKAGE = "ik-llama-cpp-python"

#: Environment variables that change the build.
_VARIABLES = (
    *("CMAKE_ARGS", "CMAKE_GENERATOR", "CMAKE_TOOLCHAIN_FILE", "SKBUILD_CMAKE_ARGS", "SKBUILD_CMAKE_DEFINE"),
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAARCHS", "CUDAFLAGS", "HIPCXX", "HIPFLAGS"),
)
#: What cmake reads inside a package's project, by package: the project's name, and the file.
_CMAKE_FILES = {
    PACKAGE: ("llama_cpp", Path(__file__).with_name("llama_cpp.cmake")),
    IK_PACKAGE: ("ik_llama_cpp_python", Path(__file__).parents[2] / "archroute_edge" / "data" / "ik_llama_cpp.cmake"),
}
_CPU_LINES = ("model name", "flags", "CPU part", "Features", "isa")


@dataclass(frozen=True)
class Request:
    """The user's request: a version, a GPU, and the environment variables that are set."""

    version: str
    gpu: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    package: str = PACKAGE

    @classmethod
    def of(cls, version: str, gpu_name: str, environment: Mapping[str, str], package: str = PACKAGE) -> Request:
        """Read from an environment; an empty variable is as one that is not set."""
        return cls(version, gpu_name, {name: environment[name] for name in _VARIABLES if environment.get(name)}, package)

    @property
    def is_plain(self) -> bool:
        """Whether the user left all of it to us."""
        return not self.gpu and not self.variables

    @property
    def must_compile(self) -> bool:
        """Whether a ready-made package cannot satisfy the request: of ik_llama.cpp those know AVX2 and no more."""
        return bool(self.gpu or "CMAKE_ARGS" in self.variables or self.package == IK_PACKAGE)

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def library(self) -> str:
        """The library in the package."""
        return "ik_llama.cpp" if self.package == IK_PACKAGE else "llama.cpp"

    @property
    def asked(self) -> dict[str, Any]:
        """What the record of an environment says of it."""
        return {"version": self.version, "gpu": self.gpu, "variables": self.variables}

    def __str__(self) -> str:
        settings = {"GPU": self.gpu, **self.variables} if self.gpu else self.variables
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items()) or "no settings"


@dataclass(frozen=True)
class Build:
    """How to build for a request."""

    environment: dict[str, str]
    #: Builds with the same key are the same.
    key: str
    has_compilers: bool
    #: A note to the user about it, or empty.
    remark: str


def settle(request: Request, environment: Mapping[str, str]) -> Build:
    """Find the tools, and put our settings before the user's, whose own come last and so win.

    Raises:
        InstallError: a setting is wrong, or a tool that it needs is not there.
    """
    backend = gpu.backend_named(request.gpu)
    users = compilers.words(environment, "CMAKE_ARGS")
    project, cmake_file = _CMAKE_FILES[request.package]
    ours = [f"-DCMAKE_PROJECT_{project}_INCLUDE={cmake_file}", "-DLLAVA_BUILD=OFF", *(backend.arguments if backend else ())]
    defines = compilers.cmake_defines([*ours, *users])
    variables: dict[str, str] = {}
    used = []
    if backend:
        tool, variables = gpu.toolkit(request.gpu, environment, defines)
        used.append(compilers.version([tool]))
        if request.gpu == "cuda":
            # Compiled for the card that is here, unless the user names another.
            used.append(compilers.output(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]))
    found = compilers.find_compilers(environment, defines)
    remark = ""
    if found:
        used += [f"{' '.join(command)} {compilers.version(command)}" for command in found.values()]
        options = compilers.needed_options(found, environment)
        if options:
            ours.append(f"-DARCHROUTE_COMPILE_OPTIONS={';'.join(options)}")
            remark = (
                f"{request.library} is compiled without AMX, which this compiler gets wrong ({compilers.version(found['CXX'])})"
            )
    facts = [request.version, request.gpu, request.variables, ours[1:], cmake_file.read_text(encoding="utf-8"), used]
    machine = [sysconfig.get_platform(), platform.libc_ver(), platform.mac_ver()[0], _processor()]
    key = hashlib.sha256(json.dumps([facts, machine], sort_keys=True).encode()).hexdigest()[:20]
    arguments = shlex.join([*ours, *users])
    return Build({**environment, **variables, "CMAKE_ARGS": arguments}, key, found is not None, remark)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """This project's user cache folder, the same as the package's own (platformdirs is not installed yet).

    Raises:
        InstallError: it is in a home that is not known.
    """
    try:
        override = environment.get("ARCHROUTE_CACHE_DIR")
        if override:
            return Path(override).expanduser()
        if platform.system() == "Darwin":
            return Path.home() / "Library" / "Caches" / "archroute-edge"
        return Path(environment.get("XDG_CACHE_HOME", "").strip() or Path.home() / ".cache") / "archroute-edge"
    except RuntimeError as exc:
        raise InstallError(f"no folder for builds is known ({exc}); name one: ARCHROUTE_CACHE_DIR=...") from exc


def _processor() -> list[str]:
    """What says which instructions this machine's CPU has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return [platform.machine(), compilers.output(["sysctl", "-n", "machdep.cpu.brand_string"])]
    return [line for line in lines if line.partition(":")[0].strip() in _CPU_LINES]
