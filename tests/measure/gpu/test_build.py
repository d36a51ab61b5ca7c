"""Settings for the one card that is there, and cuBLAS wherever it lies."""

from __future__ import annotations

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
