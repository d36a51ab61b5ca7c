"""Which CPUs a build of llama.cpp is for, and its compiler: read from the library's file, and from what it says of itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from archroute_edge.engine import _backend as backend
from archroute_edge.engine import (
    compiler_of_build,
    describe_features,
    features_beyond_portable,
    features_of_build,
    required_features,
)
from tests.engine.elf_writer import elf

AARCH64 = 183
YES = b"\xb8\x01\0\0\0\xc3"
NO = b"\x31\xc0\xc3"
ARM_YES = b"\x20\0\x80\x52\xc0\x03\x5f\xd6"
ARM_NO = b"\0\0\x80\x52\xc0\x03\x5f\xd6"

AVX2 = "SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library of CPU kernels is looked for; there is none yet."""
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    return tmp_path / "libggml-cpu.so"


def test_the_file_says_what_the_installed_build_says_of_itself() -> None:
    """An upstream change of how the features are asked for would otherwise go unnoticed."""
    said = required_features(backend.build().system_info)
    assert features_of_build() == (said if sys.platform == "linux" else None)
    assert (compiler_of_build() is not None) == (sys.platform == "linux")


@pytest.mark.parametrize(
    ("yes", "no", "machine"),
    [
        pytest.param(YES, NO, 62, id="gcc, x86-64"),
        pytest.param(YES, b"\xb8\0\0\0\0\xc3", 62, id="zero moved, x86-64"),
        pytest.param(b"\xf3\x0f\x1e\xfa" + YES, b"\xf3\x0f\x1e\xfa" + NO, 62, id="marks for jumps, x86-64"),
        pytest.param(b"\x55\x48\x89\xe5\xb8\x01\0\0\0\x5d\xc3", b"\x55\x48\x89\xe5\x31\xc0\x5d\xc3", 62, id="frames, x86-64"),
        pytest.param(ARM_YES, ARM_NO, AARCH64, id="gcc, ARM"),
        pytest.param(
            b"\x5f\x24\x03\xd5" + ARM_YES, b"\x5f\x24\x03\xd5\xe0\x03\x1f\x2a\xc0\x03\x5f\xd6", AARCH64, id="clang, ARM"
        ),
    ],
)
def test_features_are_the_functions_that_return_one(library: Path, yes: bytes, no: bytes, machine: int) -> None:
    functions = {
        "ggml_cpu_init": b"\x90" * 40,
        "ggml_cpu_has_avx": yes,
        "ggml_cpu_has_neon": no,
        "ggml_cpu_has_avx512_vnni": yes,
    }
    library.write_bytes(elf({**functions, "ggml_cpu_has_llamafile": yes}, machine=machine))
    assert features_of_build() == ("AVX", "AVX512_VNNI")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            elf({"ggml_cpu_has_avx": YES, "ggml_cpu_has_avx2": b"\x8b\x05\0\0\0\0\xc3"}), id="a feature asked for at run time"
        ),
        pytest.param(elf({"ggml_cpu_init": YES}), id="no such functions"),
        pytest.param(elf({"ggml_cpu_has_avx": YES}, machine=243), id="RISC-V"),
        pytest.param(elf({"ggml_cpu_has_avx": YES})[:-40], id="cut short"),
        pytest.param(elf({"ggml_cpu_has_avx": YES})[:20], id="cut in the header"),
        pytest.param(b"\x7fELF\x01\x01" + bytes(100), id="32 bits"),
        pytest.param(b"MZ" + bytes(200), id="not ELF"),
        pytest.param(b"", id="empty"),
    ],
)
def test_no_features_are_named_that_the_file_does_not_show(library: Path, content: bytes) -> None:
    library.write_bytes(content)
    assert features_of_build() is None


def test_without_the_library_nothing_is_known(library: Path) -> None:
    assert not library.exists()
    assert (features_of_build(), compiler_of_build()) == (None, None)


def test_a_damaged_file_never_breaks_the_reader(library: Path) -> None:
    """Each byte in turn; an offset of many exabytes overflowed once."""
    content = elf({"ggml_cpu_has_avx": YES, "ggml_cpu_has_avx2": NO}, ("GCC: (Debian 12.2.0-14) 12.2.0",))
    for at in range(len(content)):
        library.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        assert isinstance(features_of_build(), tuple | None)
        assert isinstance(compiler_of_build(), str | None)


@pytest.mark.parametrize(
    ("comments", "compiler"),
    [
        (("GCC: (Debian 12.2.0-14+deb12u1) 12.2.0",), "gcc 12.2.0"),
        (("GCC: (GNU) 12.2.1 20221121 (Red Hat 12.2.1-7)",), "gcc 12.2.1"),
        (("GCC: (GNU) 8.5.0", "GCC: (GNU) 12.2.0", "GCC: (GNU) 8.5.0"), "gcc 8.5.0, gcc 12.2.0"),
        # The C library's own objects are gcc's.
        (("GCC: (Debian 12.2.0-14) 12.2.0", "Debian clang version 14.0.6"), "clang 14.0.6"),
        (("Intel(R) C++ 1.0",), "Intel(R) C++ 1.0"),
        ((), None),
    ],
)
def test_the_compiler_is_the_one_that_the_linker_noted(library: Path, comments: tuple[str, ...], compiler: str | None) -> None:
    library.write_bytes(elf({}, comments))
    assert compiler_of_build() == compiler


@pytest.mark.parametrize(
    ("system_info", "portable"),
    [
        pytest.param(f"CPU : {AVX2} | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 | ", True, id="GGML_NATIVE=OFF"),
        pytest.param(f"CPU : {AVX2} | AVX512 = 1 | AVX512_VNNI = 1 | LLAMAFILE = 1 | ", False, id="AVX-512"),
        pytest.param(f"CPU : {AVX2} | AVX_VNNI = 1 | ", False, id="AVX-VNNI"),
        pytest.param(f"CPU : {AVX2} | AVX10 = 1 | ", False, id="a feature that is not known yet"),
        pytest.param("CPU : SSE3 = 1 | SSSE3 = 1 | LLAMAFILE = 1 | ", True, id="no AVX"),
        pytest.param("CPU : LLAMAFILE = 1 | ", True, id="the architecture's minimum"),
        pytest.param(f"CUDA : ARCHS = 890 | USE_GRAPHS = 1 | CPU : {AVX2} | ", True, id="CUDA, portable"),
        pytest.param(f"CPU : {AVX2} | CUDA : ARCHS = 890 | USE_GRAPHS = 1 | ", True, id="CUDA named last"),
        pytest.param("CUDA : ARCHS = 890 | CPU : AVX = 1 | AMX_INT8 = 1 | ", False, id="CUDA, native"),
        pytest.param("CPU : NEON = 1 | ARM_FMA = 1 | OPENMP = 1 | KLEIDIAI = 1 | ", True, id="ARM"),
        pytest.param("CPU : NEON = 1 | ARM_FMA = 1 | MATMUL_INT8 = 1 | SVE = 1 | SVE_CNT = 32 | ", False, id="ARM, native"),
    ],
)
def test_a_build_is_portable_if_it_needs_no_more_than_the_portable_one(system_info: str, portable: bool) -> None:
    assert (not features_beyond_portable(required_features(system_info))) is portable


def test_what_every_apple_processor_has_is_portable_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    system_info = "Metal : EMBED_LIBRARY = 1 | CPU : NEON = 1 | ARM_FMA = 1 | FP16_VA = 1 | DOTPROD = 1 | ACCELERATE = 1 | "
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not features_beyond_portable(required_features(system_info))
    monkeypatch.setattr(sys, "platform", "linux")
    assert features_beyond_portable(required_features(system_info))


def test_a_build_is_described_by_the_cpus_it_runs_on() -> None:
    described = [
        describe_features(required_features(f"CPU : {words} | "))
        for words in (
            f"{AVX2} | AVX512 = 1 | AVX512_VNNI = 1",
            AVX2,
            "SSE3 = 1 | AVX = 1",
            "SSE3 = 1 | SSSE3 = 1",
            "NEON = 1",
            "OPENMP = 1",
        )
    ]
    assert described == [
        "native: needs a CPU with AVX512, AVX512_VNNI",
        "portable: any x86-64 CPU with AVX2",
        "portable: any x86-64 CPU with AVX",
        "portable: any x86-64 CPU with SSE4.2",
        "portable: any CPU of this architecture",
        "portable: any CPU of this architecture",
    ]
