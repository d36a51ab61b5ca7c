"""Settings for the one card that is there, and cuBLAS wherever it lies."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tools.measure.gpu import build


@pytest.fixture(autouse=True)
def no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where a driver's library is looked for."""
    monkeypatch.setattr(build, "_DRIVER_PLACES", (str(tmp_path / "driver"),))
    return tmp_path / "driver"


def test_one_architecture() -> None:
    assert build.architecture(" 9.0\n") == "90-real"
    assert build.architecture("12.0") == "120-real"
    with pytest.raises(build.BuildError, match=r"nvidia-smi named no compute capability, but '\[N/A\]'"):
        build.architecture("[N/A]")


def test_cublas_of_the_toolkit(tmp_path: Path, no_driver: Path) -> None:
    (tmp_path / "cuda" / "lib64").mkdir(parents=True)
    (tmp_path / "cuda" / "lib64" / "libcublas.so").touch()
    no_driver.mkdir()
    (no_driver / "libcuda.so.1").touch()
    settings, variables, libraries = build.cuda_settings("9.0", tmp_path / "cuda", [])
    assert settings[:2] == ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=90-real"]
    assert settings[-1] == f"-DCUDA_cuda_driver_LIBRARY={no_driver / 'libcuda.so.1'}"
    assert (variables, libraries) == ({}, [])


@pytest.mark.parametrize("layout", ["nvidia/cu13", "nvidia/cublas"])
def test_cublas_of_a_python_package(tmp_path: Path, layout: str) -> None:
    """The wheel's library has a version in its name, which the linker does not look for."""
    lib = tmp_path / "site-packages" / layout / "lib"
    lib.mkdir(parents=True)
    for name in ("libcublas.so.13", "libcublasLt.so.13"):
        (lib / name).touch()
    settings, variables, libraries = build.cuda_settings("9.0", tmp_path / "cuda", [tmp_path / "site-packages"])
    assert f"-DCUDA_cublas_LIBRARY={lib / 'libcublas.so.13'}" in settings
    assert f"-DCUDA_cublasLt_LIBRARY={lib / 'libcublasLt.so.13'}" in settings
    assert settings[-1] == "-DGGML_CUDA_NO_VMM=ON"
    assert variables == {"CPATH": str(lib.parent / "include")}
    assert libraries == [str(lib)]


def test_no_cublas(tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match=r"no cuBLAS in .* nor among Python's packages"):
        build.cuda_settings("9.0", tmp_path / "cuda", [tmp_path])


def test_a_build_that_was_broken_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried, work = tmp_path / "carried", tmp_path / "work"
    (carried / "wheels").mkdir(parents=True)
    (carried / "wheels" / "ninja-1.0-py3-none-any.whl").touch()
    (tmp_path / "source").mkdir()
    with tarfile.open(carried / "llama-cpp-python.tar.xz", "w:xz") as packed:
        packed.add(tmp_path / "source", "source")
    steps: list[str] = []
    given: dict[str, str] = {}

    def run(command: Sequence[str], _log: Path, environment: Mapping[str, str]) -> None:
        is_wheel = "wheel" in command
        steps.append("wheel" if is_wheel else Path(command[-1]).name)
        if is_wheel:
            given.update(environment)
            if len(steps) < 3:
                raise build.BuildError("out of time")
            (work / "wheel").mkdir()
            (work / "wheel" / "llama_cpp_python-1.0-py3-none-any.whl").touch()

    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(sys, "argv", ["build", str(carried), str(work), "--cpu"])
    with pytest.raises(SystemExit, match="2"):
        build.main()
    assert capsys.readouterr().err == "error: out of time\n"
    build.main()
    assert steps == ["ninja-1.0-py3-none-any.whl", "wheel", "wheel", "llama_cpp_python-1.0-py3-none-any.whl"]
    assert json.loads(capsys.readouterr().out)["card"] == "none"
    assert given["SKBUILD_BUILD_DIR"] == str(work / "build")
    assert "-DLLAMA_BUILD_SERVER=ON" in given["CMAKE_ARGS"] and "CUDA" not in given["CMAKE_ARGS"]
    assert (work / "source").is_dir() and (work / "libraries").read_text() == ""
