"""Build llama-server, llama-bench and others from exactly the llama.cpp that the installed llama-cpp-python wraps.

    python -m tools.measure.build_llama_tools

They come from llama-cpp-python's source archive, which pip fetches from the package index; the wheel lacks them. The command
prints the folder that holds them: in the user's cache (or in ``$ARCHROUTE_CACHE_DIR``), one for each version. An interrupted
build resumes. Needs a C++ compiler and cmake (extra: peers).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import click
import platformdirs

from archroute_edge.errors import PeerError
from archroute_edge.system import replaced_when_whole

PACKAGE = "llama-cpp-python"
PROGRAMS = ("llama-server", "llama-bench", "llama-quantize", "llama-imatrix")
_OFF = (
    *("LLAMA_CURL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI"),
    "LLAMA_OPENSSL",
)
_VOCABULARY = "ggml-vocab-qwen2.gguf"
_COMPLETE = "complete"


def tools_folder(version: str) -> Path:
    """Where the programs of that version of llama-cpp-python are built."""
    override = os.environ.get("ARCHROUTE_CACHE_DIR")
    cache = Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("archroute-edge"))
    return cache / "llama-tools" / version


def build(version: str) -> Path:
    """The folder of the programs and of Qwen2's vocabulary file, built unless it is there.

    Raises:
        PeerError: the source cannot be fetched, or a step of the build failed.
    """
    folder = tools_folder(version)
    programs = folder / "build" / "bin"
    if (folder / _COMPLETE).is_file():
        return programs
    try:
        folder.mkdir(parents=True, exist_ok=True)
        source = fetch_source(folder, version) / "vendor" / "llama.cpp"
        settings = ["-DCMAKE_BUILD_TYPE=Release", *(f"-D{name}=OFF" for name in _OFF)]
        cmake = _cmake()
        _run([cmake, "-S", str(source), "-B", str(folder / "build"), *settings])
        jobs = str(os.cpu_count() or 1)
        _run([cmake, "--build", str(folder / "build"), "--config", "Release", "-j", jobs, "--target", *PROGRAMS])
        shutil.copy(source / "models" / _VOCABULARY, programs / _VOCABULARY)
        _run([str(programs / PROGRAMS[0]), "--version"])
        with replaced_when_whole(folder / _COMPLETE) as partial:
            partial.write_text(f"{PACKAGE} {version}\n", encoding="utf-8")
    except (OSError, tarfile.TarError) as exc:
        raise PeerError(f"{folder}: the build failed ({exc})") from exc
    return programs


def _cmake() -> str:
    """The machine's, or the one that is installed beside this interpreter."""
    return shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent)) or "cmake"


def fetch_source(folder: Path, version: str) -> Path:
    """The unpacked source archive."""
    source = folder / "source"
    if source.is_dir():
        return source
    scratch = folder / "unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    download = ["pip", "download", "--no-deps", "--no-binary", PACKAGE, f"{PACKAGE}=={version}", "-d", str(scratch)]
    _run([sys.executable, "-m", *download, "--disable-pip-version-check"])
    (archive,) = scratch.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        # Pythons before 3.10.12 and 3.11.4 have no filters; Debian has such a one.
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(scratch)
    (unpacked,) = (path for path in scratch.iterdir() if path.is_dir())
    unpacked.rename(source)
    shutil.rmtree(scratch)
    return source


def _run(command: Sequence[str]) -> None:
    """Run a step; its output goes to stderr."""
    print(" ".join(command), file=sys.stderr)
    try:
        done = subprocess.run(command, stdout=sys.stderr, check=False)
    except FileNotFoundError as exc:
        raise PeerError(f"{command[0]} was not found; it is needed to build llama.cpp's programs") from exc
    if done.returncode:
        raise PeerError(f"{command[0]} failed with status {done.returncode}; what it said stands above")


@click.command()
def main() -> None:
    """Build the programs that archroute-edge is measured beside, and print the folder that holds them."""
    try:
        click.echo(build(importlib.metadata.version(PACKAGE)))
    except PeerError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
