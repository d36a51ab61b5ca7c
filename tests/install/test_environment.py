"""What is installed when: nothing twice, nothing built otherwise than asked, nothing half."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.install.programs import write_gcc, write_pip, write_program
from tools.install.environment import Environment
from tools.install.errors import InstallError
from tools.install.progress import Line


class Place:
    """A project, an environment for it, a PATH with compilers, and a pip that notes its calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.calls_file = write_pip(folder / "pip", monkeypatch)
        self.monkeypatch = monkeypatch
        self.define("1.0")
        for name in ("cc", "c++"):
            write_gcc(folder / "bin", name, "14.2.0")
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setenv("ARCHROUTE_CACHE_DIR", str(folder / "cache"))
        for name in ("CMAKE_ARGS", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS"):
            monkeypatch.delenv(name, raising=False)
        self.said = io.StringIO()

    def define(self, version: str, more: str = "") -> None:
        (self.folder / "project").mkdir(exist_ok=True)
        (self.folder / "project" / "pyproject.toml").write_text(f'dependencies = ["llama-cpp-python=={version}"{more}]')

    def ensure(self, extra: str = "", gpu: str = "", venv: str = "venv", engine: str = "", **variables: str) -> list[list[str]]:
        """Install, and return pip's calls, their first words and the last."""
        (self.folder / venv).mkdir(exist_ok=True)
        self.calls_file.unlink(missing_ok=True)
        given = {**os.environ, **variables}
        Environment(self.folder / venv, self.folder / "project", given, Line(self.said)).ensure(extra, gpu, engine)
        return [call for call, _ in self.calls()]

    def calls(self) -> list[tuple[list[str], dict[str, Any]]]:
        if not self.calls_file.exists():
            return []
        return [tuple(json.loads(line)) for line in self.calls_file.read_text().splitlines()]

    def record(self, venv: str = "venv") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / venv / "archroute-install.json").read_text())
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def kinds(calls: list[list[str]]) -> list[str]:
    """What each call was for."""
    return ["wheel" if call[0] == "wheel" else "package" if "-e" in call else "llama.cpp" for call in calls]


def test_a_first_run_compiles_and_a_second_does_nothing(place: Place) -> None:
    calls = place.ensure("dev")
    assert kinds(calls) == ["wheel", "llama.cpp", "package"]
    assert "--no-cache-dir" in calls[0] and "llama-cpp-python==1.0" in calls[0]
    # A ready-made wheel that the user leads pip to is taken as pip takes it.
    assert "--no-binary" not in calls[0]
    assert calls[1][1:4] == ["--no-deps", "--force-reinstall", "--no-index"]
    assert ".[dev]" in calls[2]
    assert place.ensure("dev") == []
    assert place.said.getvalue() == "Compiling llama.cpp for this machine, once; this takes some minutes.\n"


def test_a_compiler_with_the_defect_is_named(place: Place) -> None:
    for name in ("cc", "c++"):
        write_gcc(place.folder / "bin", name, "12.2.0", ("__AMX_TILE__", "__AMX_INT8__"))
    place.ensure()
    assert "without AMX, which this compiler gets wrong (c++ (Debian) 12.2.0)" in place.said.getvalue()
    assert "-mno-amx-tile" in place.calls()[0][1]["CMAKE_ARGS"]


def test_another_extra_installs_the_package_alone(place: Place) -> None:
    place.ensure()
    assert kinds(place.ensure("convert")) == ["package"]
    assert place.ensure() == [] and place.ensure("convert") == []
    place.define("1.0", ', "click"')
    assert kinds(place.ensure()) == ["package"]


def test_a_second_environment_takes_the_same_build(place: Place) -> None:
    place.ensure()
    assert kinds(place.ensure(venv="other")) == ["llama.cpp", "package"]
    assert "taken from" in place.said.getvalue()


def test_a_kept_build_that_was_cut_off_is_made_again(place: Place) -> None:
    """Would break if every later installation failed on the same damaged file."""
    place.ensure()
    (kept,) = (place.folder / "cache").rglob("*.whl")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert kinds(place.ensure(venv="other")) == ["wheel", "llama.cpp", "package"]
    assert kinds(place.ensure(venv="third")) == ["llama.cpp", "package"]


def test_a_gpu_is_another_build_and_back_again(place: Place) -> None:
    write_program(place.folder / "bin", "nvcc")
    place.ensure("dev")
    calls = place.ensure("dev", "cuda")
    assert kinds(calls) == ["wheel", "llama.cpp"]
    assert calls[0][calls[0].index("--no-binary") + 1] == "llama-cpp-python"
    assert "-DGGML_CUDA=on" in place.calls()[0][1]["CMAKE_ARGS"]
    assert place.ensure("dev", "cuda") == []
    assert kinds(place.ensure("dev")) == ["llama.cpp"]
    assert "was built with GPU=cuda; llama.cpp is now installed with no settings" in place.said.getvalue()


def test_the_second_engine_is_compiled_from_source_and_once(place: Place) -> None:
    """Would break if the ready-made one were taken, which does not know this CPU, or if the next make installed it again."""
    place.define("1.0", ', "ik-llama-cpp-python==0.1.5"')
    place.ensure("dev")
    calls = place.ensure("dev", engine="ik")
    assert kinds(calls) == ["wheel", "llama.cpp"]
    assert "ik-llama-cpp-python==0.1.5" in calls[0]
    assert calls[0][calls[0].index("--no-binary") + 1] == "ik-llama-cpp-python"
    assert "-DCMAKE_PROJECT_ik_llama_cpp_python_INCLUDE=" in place.calls()[0][1]["CMAKE_ARGS"]
    assert "Compiling ik_llama.cpp for this machine" in place.said.getvalue()
    assert place.ensure("dev", engine="ik") == place.ensure("dev") == []
    # Another extra leaves it, and another environment takes the same build.
    assert kinds(place.ensure("convert")) == ["package"]
    assert place.ensure("convert", engine="ik") == []
    assert kinds(place.ensure(venv="other", engine="ik")) == ["llama.cpp", "package", "llama.cpp"]


def test_an_engine_that_there_is_not(place: Place) -> None:
    with pytest.raises(InstallError, match="no engine 'vllm'"):
        place.ensure(engine="vllm")


@pytest.mark.parametrize("variables", [{"CMAKE_ARGS": "-DGGML_NATIVE=OFF"}, {"CXXFLAGS": "-O1"}])
def test_other_settings_are_another_build(place: Place, variables: dict[str, str]) -> None:
    place.ensure()
    assert kinds(place.ensure(**variables)) == ["wheel", "llama.cpp"]
    assert place.ensure(**variables) == []


def test_another_version_is_another_build(place: Place) -> None:
    place.ensure()
    place.define("1.1")
    assert kinds(place.ensure()) == ["wheel", "llama.cpp", "package"]


@pytest.mark.parametrize("gpu", ["", "cuda"])
def test_an_environment_that_was_filled_by_hand_stays_unless_something_is_asked(place: Place, gpu: str) -> None:
    write_program(place.folder / "bin", "nvcc")
    place.define(importlib.metadata.version("llama-cpp-python"))
    assert kinds(place.ensure(gpu=gpu)) == (["wheel", "llama.cpp", "package"] if gpu else ["package"])


def test_broken_off_it_is_done_again(place: Place) -> None:
    """What is half there does not count, even where its version is the right one."""
    place.define(importlib.metadata.version("llama-cpp-python"))
    (place.folder / "venv").mkdir()
    (place.folder / "venv" / "archroute-install.json").write_text('{"extras": {}}')
    assert kinds(place.ensure()) == ["wheel", "llama.cpp", "package"]
    (place.folder / "venv" / "archroute-install.json").write_text("{")
    assert kinds(place.ensure()) == ["llama.cpp", "package"]


def test_a_failed_build_is_not_taken_for_one(place: Place) -> None:
    write_program(place.folder / "bin", "nvcc")
    place.ensure("dev")
    place.monkeypatch.setenv("FAKE_PIP_STATUS", "1")
    place.monkeypatch.setenv("FAKE_PIP_SAYS", "ggml.cu:1:1: error: no")
    with pytest.raises(InstallError, match=r"building llama\.cpp failed:\n  ggml\.cu:1:1: error: no"):
        place.ensure("dev", "cuda")
    assert "llama.cpp" not in place.record()
    assert not list((place.folder / "venv").glob("tmp*"))
    place.monkeypatch.delenv("FAKE_PIP_STATUS")
    assert kinds(place.ensure("dev", "cuda")) == ["wheel", "llama.cpp"]


def test_a_ready_made_wheel_is_taken_and_not_kept(place: Place) -> None:
    """Kept are builds of this machine alone."""
    place.monkeypatch.setenv("FAKE_PIP_READY_MADE", "1")
    place.ensure()
    assert place.said.getvalue() == ""
    assert kinds(place.ensure(venv="other")) == ["wheel", "llama.cpp", "package"]


def test_without_a_compiler_only_a_ready_made_wheel_will_do(place: Place) -> None:
    (place.folder / "bin" / "c++").unlink()
    place.monkeypatch.setenv("FAKE_PIP_READY_MADE", "1")
    calls = place.ensure()
    assert calls[0][calls[0].index("--only-binary") + 1] == "llama-cpp-python"
    place.monkeypatch.setenv("FAKE_PIP_STATUS", "1")
    message = "no C and C\\+\\+ compiler was found; install one .*apt install g\\+\\+"
    with pytest.raises(InstallError, match=message) as failure:
        place.ensure(venv="other")
    assert "\n" not in str(failure.value)
    with pytest.raises(InstallError, match=message):
        place.ensure(CMAKE_ARGS="-DGGML_NATIVE=OFF")


def test_a_cache_that_cannot_be_written_is_done_without(place: Place) -> None:
    (place.folder / "cache").write_text("a file")
    assert kinds(place.ensure()) == ["wheel", "llama.cpp", "package"]
    assert "could not be kept" in place.said.getvalue()
    assert place.ensure() == []


def test_a_project_without_a_version(place: Place) -> None:
    (place.folder / "project" / "pyproject.toml").write_text('dependencies = ["llama-cpp-python>=0.3"]')
    with pytest.raises(InstallError, match=r"pyproject\.toml names no version of llama-cpp-python"):
        place.ensure()
