"""Collect what a machine without a network needs to build llama-cpp-python and to measure: its source and wheels.

    python -m tools.measure.gpu.prepare build/gpu --python 3.12 --present cmake,numpy,matplotlib,pillow

The source archive is cut to the parts compiled for CPU and CUDA, with llama-server and llama-bench. ``--present`` names
packages already installed there, in suitable versions.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click

from archroute_edge.errors import PeerError
from tools.measure.build_llama_tools import PACKAGE, fetch_source, tools_folder

SOURCE = "llama-cpp-python.tar.xz"
WHEELS = "wheels"
_PROJECT = Path(__file__).parents[3]

_LLAMA = "vendor/llama.cpp/"
#: Folders and files of the archive; of ggml's backends these two alone.
_KEPT = (
    *("CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE.md", "llama_cpp/"),
    *(
        f"{_LLAMA}{name}"
        for name in ("CMakeLists.txt", "LICENSE", "licenses/", "cmake/", "include/", "src/", "common/", "vendor/")
    ),
    *(f"{_LLAMA}ggml/{name}" for name in ("CMakeLists.txt", "cmake/", "include/", "src/ggml-cpu/", "src/ggml-cuda/")),
    *(f"{_LLAMA}{name}" for name in ("tools/", "scripts/ui-assets.cmake", "models/ggml-vocab-qwen2.gguf")),
)
_IN_GGML_SRC = re.compile(rf"{_LLAMA}ggml/src/[^/]+\.(?:c|cpp|h|in|txt)$")
_LEFT_OUT = re.compile(
    rf"{_LLAMA}tools/(?:ui/(?!CMakeLists\.txt$|[^/]+\.in$)|server/(?:tests|bench|themes|webui)/)|\.(?:png|jpe?g|svg|webp|gif|wav|mp3)$"
)

#: Of the extra dev, what tests import is carried; what checks the source, or runs tests that are left out, is not.
_NOT_CARRIED = {"llama-cpp-python", "mypy", "pyinstaller", "ruff", "types-psutil", "types-pyyaml"}
_BUILDS = ("scikit-build-core>=0.9.2", "packaging", "pathspec", "cmake>=3.21", "ninja")
_OF_LLAMA_CPP_PYTHON = ("diskcache>=5.6.1", "typing-extensions>=4.5.0")
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 24, 17)),
    *("manylinux2014_x86_64", "linux_x86_64"),
)


def is_kept(name: str) -> bool:
    """Whether a file of the source archive is carried, by its path from the archive's folder."""
    wanted = any(name.startswith(kept) if kept.endswith("/") else name == kept for kept in _KEPT)
    return (wanted or bool(_IN_GGML_SRC.match(name))) and not _LEFT_OUT.search(name)


def cut(source: Path, archive: Path) -> int:
    """Pack the kept part of an unpacked source archive; returns the number of files."""
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    kept = [name for name in names if is_kept(name)]
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for name in kept:
            packed.add(source / name, f"source/{name}")
    return len(kept)


def requirements(present: set[str]) -> list[str]:
    """What pip is asked for: the package's own requirements, the tests', and what builds llama-cpp-python."""
    wanted = [*_BUILDS, *_OF_LLAMA_CPP_PYTHON]
    extras = {"", "dev", "bench", "convert", "server"}
    for text in importlib.metadata.requires("archroute-edge") or []:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"""extra == ['"](\w+)['"]""", marker)
        if (extra[1] if extra else "") in extras and not requirement.startswith("archroute-edge"):
            wanted.append(requirement.strip())
    return [text for text in dict.fromkeys(wanted) if canonical(text) not in _NOT_CARRIED | present]


def canonical(requirement: str) -> str:
    """The package's name as the index writes it."""
    name = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def download(folder: Path, python: str, present: set[str]) -> None:
    """Fetch the wheels, and take away those that are there already.

    Raises:
        PeerError: pip failed.
    """
    folder.mkdir(parents=True)
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--only-binary", ":all:", "--python-version", python, "--implementation", "cp", *platforms]
    done = subprocess.run([*command, *requirements(present)], cwd=_PROJECT, stdout=sys.stderr, check=False)
    if done.returncode:
        raise PeerError(f"pip failed with status {done.returncode}; what it said stands above")
    for wheel in folder.glob("*.whl"):
        if canonical(wheel.name.partition("-")[0]) in present:
            wheel.unlink()


def size_mib(folder: Path) -> float:
    """MiB of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / (1 << 20)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--python", default=f"3.{sys.version_info.minor}", show_default=True, help="Python's version over there.")
@click.option("--present", default="", help="Packages that are there already, with commas between.")
@click.option(
    "--limit-mib",
    type=click.FloatRange(0, min_open=True),
    default=64.0,
    show_default=True,
    help="Fail if more has to be carried.",
)
def main(folder: Path, python: str, present: str, limit_mib: float) -> None:
    """Fill FOLDER."""
    there = {canonical(name.strip()) for name in present.split(",") if name.strip()}
    if folder.exists():
        raise click.ClickException(f"{folder} is there already; name another folder")
    try:
        version = importlib.metadata.version(PACKAGE)
        tools_folder(version).mkdir(parents=True, exist_ok=True)
        source = fetch_source(tools_folder(version), version)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            partial = Path(scratch) / folder.name
            download(partial / WHEELS, python, there)
            n_files = cut(source, partial / SOURCE)
            size = size_mib(partial)
            if size > limit_mib:
                largest = sorted((partial / WHEELS).iterdir(), key=lambda path: -path.stat().st_size)[:5]
                names = ", ".join(path.name.partition("-")[0] for path in largest)
                raise PeerError(
                    f"{size:.1f} MiB, more than {limit_mib:g}; --present may leave out what is there, such as {names}"
                )
            partial.rename(folder)
    except (OSError, PeerError) as exc:
        raise click.ClickException(str(exc)) from exc
    n_wheels = len(list((folder / WHEELS).iterdir()))
    click.echo(f"{size:.1f} MiB in {folder}: {n_files} files of the source, {n_wheels} wheels for Python {python}")


if __name__ == "__main__":
    main()
