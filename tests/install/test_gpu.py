"""What each GPU needs, and what is said when it is missing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.install.programs import write_program
from tools.install import gpu
from tools.install.errors import InstallError


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("cuda", "-DGGML_CUDA=on"),
        ("metal", "-DGGML_METAL=on"),
        ("rocm", "-DGGML_HIP=on"),
        ("sycl", "-DGGML_SYCL=on"),
        ("vulkan", "-DGGML_VULKAN=on"),
    ],
)
def test_each_gpu_has_its_setting(name: str, setting: str) -> None:
    backend = gpu.backend_named(name)
    assert backend and setting in backend.arguments


def test_no_gpu_and_an_unknown_one() -> None:
    assert gpu.backend_named("") is None
    with pytest.raises(InstallError, match="GPU=nvidia is not known; it is one of cuda, metal, rocm, sycl, vulkan"):
        gpu.backend_named("nvidia")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "GPU=cuda needs nvcc, which was not found; install NVIDIA's CUDA toolkit"),
        ("vulkan", "GPU=vulkan needs glslc, which was not found; .*apt install libvulkan-dev glslc spirv-headers"),
        ("rocm", "GPU=rocm needs hipconfig, which was not found; install AMD's ROCm"),
        ("sycl", "GPU=sycl needs icpx, which was not found; .*setvars.sh"),
    ],
)
def test_a_missing_toolkit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    backend = gpu.BACKENDS[name]
    monkeypatch.setitem(gpu.BACKENDS, name, replace(backend, elsewhere=str(tmp_path / "nowhere")))
    with pytest.raises(InstallError, match=message) as failure:
        gpu.toolkit(name, {"PATH": str(tmp_path)}, {})
    assert "\n" not in str(failure.value)


def test_metal_is_for_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path, "xcrun")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(InstallError, match="GPU=metal is for macOS alone"):
        gpu.toolkit("metal", {"PATH": str(tmp_path)}, {})
    monkeypatch.setattr(sys, "platform", "darwin")
    assert gpu.toolkit("metal", {"PATH": str(tmp_path)}, {}) == (str(tmp_path / "xcrun"), {})


def test_nvcc_off_the_path_is_named_to_cmake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's installer puts it into /usr/local/cuda/bin, which is on nobody's PATH."""
    nvcc = write_program(tmp_path / "cuda", "nvcc")
    monkeypatch.setitem(gpu.BACKENDS, "cuda", replace(gpu.BACKENDS["cuda"], elsewhere=str(nvcc)))
    assert gpu.toolkit("cuda", {"PATH": str(tmp_path)}, {}) == (str(nvcc), {"CUDACXX": str(nvcc)})


def test_a_named_nvcc_is_the_one(tmp_path: Path) -> None:
    nvcc = str(write_program(tmp_path / "mine", "nvcc"))
    write_program(tmp_path, "nvcc")
    path = {"PATH": str(tmp_path)}
    assert gpu.toolkit("cuda", path, {}) == (str(tmp_path / "nvcc"), {})
    assert gpu.toolkit("cuda", {**path, "CUDACXX": nvcc}, {}) == (nvcc, {})
    assert gpu.toolkit("cuda", path, {"CMAKE_CUDA_COMPILER": nvcc}) == (nvcc, {})
    with pytest.raises(InstallError, match="GPU=cuda needs /gone/nvcc, which was not found"):
        gpu.toolkit("cuda", {**path, "CUDACXX": "/gone/nvcc"}, {})


def test_rocm_is_asked_where_its_compiler_is(tmp_path: Path) -> None:
    write_program(tmp_path, "hipconfig", 'case "$1" in -l) echo /opt/rocm/llvm/bin;; -R) echo /opt/rocm;; esac')
    path = {"PATH": str(tmp_path)}
    expected = {"HIPCXX": "/opt/rocm/llvm/bin/clang", "HIP_PATH": "/opt/rocm"}
    assert gpu.toolkit("rocm", path, {}) == (str(tmp_path / "hipconfig"), expected)
    assert gpu.toolkit("rocm", {**path, "HIPCXX": "/mine"}, {})[1] == {"HIP_PATH": "/opt/rocm"}
    write_program(tmp_path, "hipconfig", "exit 3")
    with pytest.raises(InstallError, match="is ROCm installed whole"):
        gpu.toolkit("rocm", path, {})
