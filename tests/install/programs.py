"""Programs that stand in for compilers and GPU tools, and a pip that installs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest


def write_program(folder: Path, name: str, body: str = "") -> Path:
    """A shell script that can be called by its name from a PATH of this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def write_gcc(folder: Path, name: str, version: str, native_macros: tuple[str, ...] = ()) -> Path:
    """A compiler that says what gcc of a version says, with the macros that -march=native adds on this CPU."""
    major, minor, _ = version.split(".")
    defines = "\n".join(f"echo '#define {macro} 1'" for macro in native_macros)
    body = f"""
    case "$*" in *--version*) echo "{name} (Debian) {version}"; exit;; esac
    echo '#define __GNUC__ {major}'; echo '#define __GNUC_MINOR__ {minor}'; echo '#define __x86_64__ 1'
    case "$*" in *-march=native*) {defines or ":"};; esac"""
    return write_program(folder, name, body)


_PIP = '''
"""Stands in for pip: notes how it was called, and makes a wheel where one is asked for."""
import json, os, pathlib, sys, time, zipfile
arguments = sys.argv[1:]
settings = {name: os.environ.get(name) for name in ("CMAKE_ARGS", "CUDACXX")}
calls = pathlib.Path(os.environ["FAKE_PIP_CALLS"])
with calls.open("a") as out:
    out.write(json.dumps([arguments, settings]) + "\\n")
print(os.environ.get("FAKE_PIP_SAYS", ""), flush=True)
if "wheel" in arguments:
    if "FAKE_PIP_READY_MADE" not in os.environ:
        print("  Building wheel for llama-cpp-python (pyproject.toml): started")
        print("  [1/2] cc -c a.c", flush=True)
    folder = pathlib.Path(arguments[arguments.index("--wheel-dir") + 1])
    zipfile.ZipFile(folder / "llama_cpp_python-py3-none-any.whl", "w").close()
time.sleep(float(os.environ.get("FAKE_PIP_S", "0")))
sys.exit(int(os.environ.get("FAKE_PIP_STATUS", "0")))
'''


def write_pip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the pip in place of the real one for child processes; the file in which it notes its calls is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pip.py").write_text(_PIP)
    calls = folder / "calls"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("FAKE_PIP_CALLS", str(calls))
    return calls
