"""Build llama-cpp-python with CUDA, llama-server and llama-bench in one tree, from the folder that ``prepare`` filled.

    python3 -m tools.measure.gpu.build build/gpu work [--cpu]

Needs only the standard library and pip. ``work/site`` is then a folder for PYTHONPATH, ``work/build/bin`` holds the
programs, and ``work/libraries`` has the paths for LD_LIBRARY_PATH, if the system does not find the GPU's libraries by itself.
An interrupted build resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_OFF = ("LLAVA_BUILD", "LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_TESTS")
_ON = ("LLAMA_BUILD_TOOLS", "LLAMA_BUILD_SERVER")
_TARGETS = ("llama", "llama-common", "mtmd", "llama-server", "llama-bench")
#: Where the package nvidia-cublas has its files, for CUDA 13 and for CUDA 12.
_CUBLAS_IN_SITE = (("nvidia/cu13/lib", "nvidia/cu13/include"), ("nvidia/cublas/lib", "nvidia/cublas/include"))
_DRIVER_PLACES = ("/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/cuda/lib64/stubs")


class BuildError(Exception):
    """It cannot be built; the message says why."""


def architecture(compute_capability: str) -> str:
    """cmake's name of the architecture that nvidia-smi calls 9.0."""
    major, dot, minor = compute_capability.strip().partition(".")
    if not (major.isdigit() and dot and minor.isdigit()):
        raise BuildError(f"nvidia-smi named no compute capability, but {compute_capability.strip()!r}")
    # An architecture such as 9.0a has instructions that no later card has; llama.cpp asks for the plain name.
    return f"{major}{minor}-real"


def cuda_settings(capability: str, toolkit: Path, sites: Sequence[Path]) -> tuple[list[str], dict[str, str], list[str]]:
    """Settings for cmake, variables for the compilers, and the folders of libraries that the system does not look into.

    Raises:
        BuildError: no cuBLAS was found.
    """
    settings = ["-DGGML_CUDA=on", f"-DCMAKE_CUDA_ARCHITECTURES={architecture(capability)}", "-DGGML_CUDA_NCCL=OFF"]
    variables: dict[str, str] = {}
    libraries: list[str] = []
    if not any((toolkit / folder / "libcublas.so").exists() for folder in ("lib64", "lib", "targets/x86_64-linux/lib")):
        places = [(site / lib, site / include) for site in sites for lib, include in _CUBLAS_IN_SITE]
        lib, include = next(((lib, include) for lib, include in places if list(lib.glob("libcublas.so.*"))), (None, None))
        if lib is None:
            raise BuildError(f"no cuBLAS in {toolkit} nor among Python's packages (nvidia-cublas)")
        for name in ("cublas", "cublasLt"):
            settings.append(f"-DCUDA_{name}_LIBRARY={next(iter(sorted(lib.glob(f'lib{name}.so.*'))))}")
        variables["CPATH"] = str(include)
        libraries.append(str(lib))
    drivers = [
        path for place in _DRIVER_PLACES for path in (Path(place) / "libcuda.so", Path(place) / "libcuda.so.1") if path.exists()
    ]
    # Virtual memory of the driver needs its library when linking.
    settings.append(f"-DCUDA_cuda_driver_LIBRARY={drivers[0]}" if drivers else "-DGGML_CUDA_NO_VMM=ON")
    return settings, variables, libraries


def _toolkit(environment: Mapping[str, str]) -> Path:
    """The folder of the CUDA toolkit: where nvcc says that it lies."""
    nvcc = shutil.which(environment.get("CUDACXX") or "nvcc") or "/usr/local/cuda/bin/nvcc"
    said = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False).stderr
    top = next((line.split("TOP=")[1].strip() for line in said.splitlines() if "TOP=" in line), str(Path(nvcc).parent.parent))
    return Path(top).resolve()


def _unpack(archive: Path, work: Path) -> None:
    """Unpack ``source``, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        with tarfile.open(archive) as packed:
            # Pythons before 3.10.12 and 3.11.4 have no filters; Debian has such a one.
            packed.extraction_filter = getattr(tarfile, "data_filter", None)
            packed.extractall(scratch)
        (Path(scratch) / "source").rename(work / "source")


def _run(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {shlex.join(command)}\n")
        out.flush()
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        raise BuildError("\n".join([*last, f"{command[0]} failed with status {done.returncode}; the log is {log}"]))


def main() -> None:
    """Build, and print the result as JSON."""
    parser = argparse.ArgumentParser(description="Build llama-cpp-python and llama-server from carried files.")
    parser.add_argument("carried", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cpu", action="store_true", help="without CUDA, to check the rest")
    arguments = parser.parse_args()
    carried, work = arguments.carried.resolve(), arguments.work.resolve()
    log, site = work / "build.log", work / "site"
    begun = time.monotonic()
    try:
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "source").exists():
            _unpack(carried / "llama-cpp-python.tar.xz", work)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        install = [*pip, "install", "--no-index", "--no-deps", "--target", str(site)]
        wheels = sorted(str(path) for path in (carried / "wheels").glob("*.whl"))
        environment = {**os.environ, "PYTHONPATH": str(site), "PATH": f"{site / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
        if wheels and not (work / "wheels-are-in").exists():
            _run([*install, *wheels], log, environment)
            (work / "wheels-are-in").touch()
        settings = [f"-D{name}=OFF" for name in _OFF] + [f"-D{name}=ON" for name in _ON]
        libraries: list[str] = []
        card = "none"
        if not arguments.cpu:
            query = ["nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader"]
            said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
            capability, _, card = (part.strip() for part in said.partition(","))
            cuda, variables, libraries = cuda_settings(
                capability, _toolkit(environment), [Path(entry) for entry in sys.path if entry.endswith("-packages")]
            )
            settings += cuda
            environment |= variables
        environment |= {
            "CMAKE_ARGS": shlex.join([*settings, *shlex.split(environment.get("CMAKE_ARGS", ""))]),
            "SKBUILD_BUILD_DIR": str(work / "build"),
            "SKBUILD_BUILD_TARGETS": ";".join(_TARGETS),
        }
        wheel = [*pip, "wheel", "-v", "--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir"]
        _run([*wheel, str(work / "wheel"), str(work / "source")], log, environment)
        _run([*install, *map(str, (work / "wheel").glob("*.whl"))], log, environment)
        (work / "libraries").write_text(os.pathsep.join(libraries), encoding="utf-8")
    except (OSError, tarfile.TarError, subprocess.CalledProcessError, BuildError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(2)
    seconds = round(time.monotonic() - begun, 1)
    print(
        json.dumps(
            {"card": card, "settings": settings, "libraries": libraries, "build_s": seconds, "cores": os.cpu_count()}, indent=2
        )
    )


if __name__ == "__main__":
    main()
