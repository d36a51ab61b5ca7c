"""What the user asked of the build stays, and everything that changes a build changes its key."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.install.programs import write_gcc, write_program
from tools.install import build_settings
from tools.install.build_settings import Request, cache_folder, settle
from tools.install.errors import InstallError

AMX = ("__AMX_TILE__", "__AMX_INT8__")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with compilers without the defect, and CUDA's."""
    for name in ("cc", "c++"):
        write_gcc(tmp_path / "bin", name, "14.2.0", AMX)
    write_program(tmp_path / "bin", "nvcc", "echo release 13.0")
    return str(tmp_path / "bin")


def arguments(variables: dict[str, str], gpu: str = "") -> list[str]:
    """What cmake is given."""
    return shlex.split(settle(Request.of("1.0", gpu, variables), variables).environment["CMAKE_ARGS"])


def test_what_is_not_used_is_left_out(path: str) -> None:
    include, *rest = arguments({"PATH": path})
    assert rest == ["-DLLAVA_BUILD=OFF"]
    name, _, file = include.partition("=")
    assert name == "-DCMAKE_PROJECT_llama_cpp_INCLUDE"
    assert "set(LLAMA_BUILD_COMMON OFF)" in Path(file).read_text()


def test_the_users_settings_come_last_and_whole(path: str) -> None:
    """The last -D of a name counts, so the user's words win."""
    users = "-DLLAVA_BUILD=ON '-DCMAKE_C_FLAGS=-O2 -g' -DGGML_NATIVE=OFF"
    given = arguments({"PATH": path, "CMAKE_ARGS": users})
    assert given[-3:] == ["-DLLAVA_BUILD=ON", "-DCMAKE_C_FLAGS=-O2 -g", "-DGGML_NATIVE=OFF"]
    assert given.index("-DLLAVA_BUILD=OFF") < given.index("-DLLAVA_BUILD=ON")


def test_the_defect_is_avoided_beside_the_users_flags(path: str) -> None:
    """Our options go into a variable of their own; flags stay as the user has set them."""
    for name in ("cc", "c++"):
        write_gcc(Path(path), name, "12.2.0", AMX)
    variables = {"PATH": path, "CFLAGS": "-g", "CXXFLAGS": "-O1", "CMAKE_ARGS": "-DCMAKE_CXX_FLAGS=-O3"}
    build = settle(Request.of("1.0", "", variables), variables)
    given = shlex.split(build.environment["CMAKE_ARGS"])
    assert "-DARCHROUTE_COMPILE_OPTIONS=-mno-amx-tile;-mno-amx-int8;-mno-amx-bf16" in given
    assert given[-1] == "-DCMAKE_CXX_FLAGS=-O3"
    assert build.environment["CFLAGS"] == "-g"
    assert build.environment["CXXFLAGS"] == "-O1"
    assert "without AMX" in build.remark and "12.2.0" in build.remark
    assert "ARCHROUTE_COMPILE_OPTIONS" in Path(given[0].partition("=")[2]).read_text()


def test_a_gpu_adds_its_setting_before_the_users(path: str) -> None:
    given = arguments({"PATH": path, "CMAKE_ARGS": "-DCMAKE_CUDA_ARCHITECTURES=89"}, "cuda")
    assert given[-2:] == ["-DGGML_CUDA=on", "-DCMAKE_CUDA_ARCHITECTURES=89"]


@pytest.mark.parametrize("variable", ["CMAKE_ARGS", "CC", "CXXFLAGS"])
def test_quotes_that_do_not_close(path: str, variable: str) -> None:
    with pytest.raises(InstallError, match=f"{variable} cannot be read"):
        arguments({"PATH": path, variable: "-DX='-O2"})


def test_a_key_for_each_build(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version, GPU, settings, compiler and CPU."""

    def key(version: str = "1.0", gpu: str = "", **variables: str) -> str:
        given = {"PATH": path, **variables}
        return settle(Request.of(version, gpu, given), given).key

    plain = key()
    assert key() == plain
    assert key(HOME="/elsewhere") == plain
    others = [key("1.1"), key(gpu="cuda"), key(CMAKE_ARGS="-DGGML_NATIVE=OFF"), key(CFLAGS="-O1"), key(CXX="c++ -m64")]
    write_gcc(Path(path), "c++", "15.1.0")
    others.append(key())
    monkeypatch.setattr(build_settings, "_processor", lambda: ["another CPU"])
    others.append(key())
    assert len({plain, *others}) == len(others) + 1


def test_plain_and_not() -> None:
    assert Request.of("1.0", "", {"CC": "", "PATH": "/bin"}).is_plain
    assert not Request.of("1.0", "", {"CC": "clang"}).is_plain
    assert not Request.of("1.0", "", {"CC": "clang"}).must_compile
    assert Request.of("1.0", "cuda", {}).must_compile
    assert Request.of("1.0", "", {"CMAKE_ARGS": "-DGGML_NATIVE=OFF"}).must_compile
    assert str(Request.of("1.0", "cuda", {"CFLAGS": "-O1 -g"})) == "GPU=cuda CFLAGS='-O1 -g'"
    assert str(Request("1.0")) == "no settings"


def test_the_cache_folder_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder({"ARCHROUTE_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/archroute-edge")
    assert cache_folder({}) == Path.home() / ".cache" / "archroute-edge"
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert cache_folder({}) == Path.home() / "Library" / "Caches" / "archroute-edge"


@pytest.mark.parametrize("variables", [{"ARCHROUTE_CACHE_DIR": "~nobody-at-all/cache"}, {}])
def test_a_home_that_is_not_known(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """As of a user number without a name."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(InstallError, match=r"no folder for builds is known \(.*\); name one: ARCHROUTE_CACHE_DIR="):
        cache_folder(variables)


def test_this_machines_cpu_is_known() -> None:
    assert any(build_settings._processor())
