"""Which compiler cmake will use, and whether it has the defect with AMX."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install.programs import write_gcc, write_program
from tools.install.compilers import (
    WITHOUT_AMX,
    cmake_defines,
    find_compilers,
    has_amx_defect,
    needed_options,
    parse_macros,
    version,
)
from tools.install.errors import InstallError

AMX = ("__AMX_TILE__", "__AMX_INT8__", "__AMX_BF16__")


def macros(gcc: str, *more: str) -> dict[str, str]:
    """What -dM -E prints, read."""
    major, minor = gcc.split(".")
    lines = [f"#define __GNUC__ {major}", f"#define __GNUC_MINOR__ {minor}", *(f"#define {name} 1" for name in more)]
    return parse_macros("\n".join(lines))


@pytest.mark.parametrize(
    ("compiler", "is_defective"),
    [
        (macros("12.2", "__x86_64__", *AMX), True),
        (macros("11.4", "__x86_64__", "__AMX_TILE__"), True),
        (macros("13.2", "__x86_64__", *AMX), True),
        (macros("13.3", "__x86_64__", *AMX), False),
        (macros("14.0", "__x86_64__", *AMX), False),
        (macros("12.2", "__x86_64__", "__AVX512VNNI__"), False),
        (macros("4.2", "__x86_64__", "__clang__", *AMX), False),
        (macros("12.2", "__aarch64__"), False),
        (parse_macros("#define _MSC_VER 1940"), False),
        ({}, False),
    ],
)
def test_which_compilers_get_amx_wrong(compiler: dict[str, str], is_defective: bool) -> None:
    assert has_amx_defect(compiler) is is_defective


def test_macros_keep_their_values() -> None:
    assert parse_macros('#define __VERSION__ "12.2.0 20220814"\n#define __SSE__ 1\n#define EMPTY\nnoise\n') == {
        "__VERSION__": '"12.2.0 20220814"',
        "__SSE__": "1",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("arguments", "defines"),
    [
        (["-DGGML_CUDA=on", "-DA:STRING=b=c"], {"GGML_CUDA": "on", "A": "b=c"}),
        (["-D", "A=1", "-GNinja", "-DA=2"], {"A": "2"}),
        (["-DA", "-D"], {"A": "", "": ""}),
    ],
)
def test_defines_are_read_as_cmake_reads_them(arguments: list[str], defines: dict[str, str]) -> None:
    assert cmake_defines(arguments) == defines


def test_compilers_are_found_as_cmake_finds_them(tmp_path: Path) -> None:
    """CMAKE_ARGS before CC and CXX before what is on PATH."""
    for name in ("cc", "c++", "gcc-12", "g++-12", "icpx"):
        write_program(tmp_path, name)
    path = {"PATH": str(tmp_path)}
    assert find_compilers(path, {}) == {"C": (str(tmp_path / "cc"),), "CXX": (str(tmp_path / "c++"),)}
    named = {**path, "CC": "gcc-12 -m64", "CXX": "g++-12"}
    assert find_compilers(named, {}) == {"C": (str(tmp_path / "gcc-12"), "-m64"), "CXX": (str(tmp_path / "g++-12"),)}
    both = find_compilers(named, {"CMAKE_CXX_COMPILER": "icpx"})
    assert both and both["CXX"] == (str(tmp_path / "icpx"),)


def test_a_machine_without_a_cpp_compiler(tmp_path: Path) -> None:
    write_program(tmp_path, "gcc")
    assert find_compilers({"PATH": str(tmp_path)}, {}) is None


@pytest.mark.parametrize(
    ("variables", "defines", "message"),
    [
        ({"CXX": "g++-99"}, {}, "CXX names the compiler g++-99, which is not there"),
        ({}, {"CMAKE_C_COMPILER": "icx"}, "CMAKE_C_COMPILER names the compiler icx, which is not there"),
    ],
)
def test_a_named_compiler_that_is_missing(
    tmp_path: Path, variables: dict[str, str], defines: dict[str, str], message: str
) -> None:
    write_program(tmp_path, "cc")
    with pytest.raises(InstallError, match=message.replace("+", r"\+")):
        find_compilers({"PATH": str(tmp_path), **variables}, defines)


@pytest.mark.parametrize(
    ("release", "on_this_cpu", "options"),
    [("12.2.0", AMX, WITHOUT_AMX), ("12.2.0", ("__AVX512F__",), ()), ("13.3.0", AMX, ())],
)
def test_the_compiler_is_asked_what_native_means_here(
    tmp_path: Path, release: str, on_this_cpu: tuple[str, ...], options: tuple[str, ...]
) -> None:
    write_gcc(tmp_path, "cc", release, on_this_cpu)
    write_gcc(tmp_path, "c++", release, on_this_cpu)
    compilers = find_compilers({"PATH": str(tmp_path)}, {})
    assert compilers
    assert needed_options(compilers, {}) == options
    assert version(compilers["CXX"]) == f"c++ (Debian) {release}"


def test_one_defective_compiler_of_two_is_enough(tmp_path: Path) -> None:
    write_gcc(tmp_path, "cc", "13.3.0", AMX)
    write_gcc(tmp_path, "c++", "12.2.0", AMX)
    compilers = find_compilers({"PATH": str(tmp_path)}, {})
    assert compilers and needed_options(compilers, {}) == WITHOUT_AMX


def test_flags_of_the_users_count(tmp_path: Path) -> None:
    """Where llama.cpp is told not to compile natively, -march=sapphirerapids still brings AMX in."""
    body = "echo '#define __GNUC__ 12'; echo '#define __x86_64__ 1'\n"
    body += "case \"$*\" in *sapphirerapids*-march=native*) ;; *sapphirerapids*) echo '#define __AMX_INT8__ 1';; esac"
    for name in ("cc", "c++"):
        write_program(tmp_path, name, body)
    compilers = find_compilers({"PATH": str(tmp_path)}, {})
    assert compilers
    assert needed_options(compilers, {"CXXFLAGS": "-O2 -march=sapphirerapids"}) == WITHOUT_AMX
    assert needed_options(compilers, {"CXXFLAGS": "-O2"}) == ()


def test_a_compiler_that_fails_asks_for_nothing(tmp_path: Path) -> None:
    """What is wrong with it shows in the build."""
    for name in ("cc", "c++"):
        write_program(tmp_path, name, "echo '#define __AMX_INT8__ 1'; exit 1")
    compilers = find_compilers({"PATH": str(tmp_path)}, {})
    assert compilers and needed_options(compilers, {}) == ()
    assert version(["/no/such/program"]) == ""
