"""The build settings of llama-cpp-python that the user asked for, and their consequences on this machine."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.install import compilers, gpu

PACKAGE = "llama-cpp-python"

#: Environment variables that change the build.
_VARIABLES = (
    *("CMAKE_ARGS", "CMAKE_GENERATOR", "CMAKE_TOOLCHAIN_FILE", "SKBUILD_CMAKE_ARGS", "SKBUILD_CMAKE_DEFINE"),
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDAARCHS", "CUDAFLAGS", "HIPCXX", "HIPFLAGS"),
)
_CMAKE_FILE = Path(__file__).with_name("llama_cpp.cmake")
_CPU_LINES = ("model name", "flags", "CPU part", "Features", "isa")


@dataclass(frozen=True)
class Request:
    """The user's request: a version, a GPU, and the environment variables that are set."""

    version: str
    gpu: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, version: str, gpu_name: str, environment: Mapping[str, str]) -> Request:
        """Read from an environment; an empty variable is as one that is not set."""
        return cls(version, gpu_name, {name: environment[name] for name in _VARIABLES if environment.get(name)})

    @property
    def is_plain(self) -> bool:
        """Whether the user left all of it to us."""
        return not self.gpu and not self.variables

    @property
    def must_compile(self) -> bool:
        """Whether a ready-made package cannot satisfy the request."""
        return bool(self.gpu or "CMAKE_ARGS" in self.variables)

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{PACKAGE}=={self.version}"

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
    ours = [f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={_CMAKE_FILE}", "-DLLAVA_BUILD=OFF", *(backend.arguments if backend else ())]
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
            remark = f"llama.cpp is compiled without AMX, which this compiler gets wrong ({compilers.version(found['CXX'])})"
    facts = [request.version, request.gpu, request.variables, ours[1:], _CMAKE_FILE.read_text(encoding="utf-8"), used]
    machine = [sysconfig.get_platform(), platform.libc_ver(), platform.mac_ver()[0], _processor()]
    key = hashlib.sha256(json.dumps([facts, machine], sort_keys=True).encode()).hexdigest()[:20]
    arguments = shlex.join([*ours, *users])
    return Build({**environment, **variables, "CMAKE_ARGS": arguments}, key, found is not None, remark)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """This project's user cache folder, the same as the package's own (platformdirs is not installed yet)."""
    override = environment.get("ARCHROUTE_CACHE_DIR")
    if override:
        return Path(override).expanduser()
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "archroute-edge"
    return Path(environment.get("XDG_CACHE_HOME", "").strip() or Path.home() / ".cache") / "archroute-edge"


def _processor() -> list[str]:
    """What says which instructions this machine's CPU has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return [platform.machine(), compilers.output(["sysctl", "-n", "machdep.cpu.brand_string"])]
    return [line for line in lines if line.partition(":")[0].strip() in _CPU_LINES]
