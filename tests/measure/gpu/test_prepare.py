"""What is carried to a machine without a network."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.measure.gpu import prepare

SOURCE = "vendor/llama.cpp/"


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("CMakeLists.txt", True),
        ("llama_cpp/llama.py", True),
        ("docs/index.md", False),
        (f"{SOURCE}CMakeLists.txt", True),
        (f"{SOURCE}src/models/qwen2.cpp", True),
        (f"{SOURCE}ggml/src/ggml.c", True),
        (f"{SOURCE}ggml/src/CMakeLists.txt", True),
        (f"{SOURCE}ggml/src/ggml-version.h.in", True),
        (f"{SOURCE}ggml/src/ggml-cuda/mmq.cu", True),
        (f"{SOURCE}ggml/src/ggml-vulkan/ggml-vulkan.cpp", False),
        (f"{SOURCE}models/ggml-vocab-qwen2.gguf", True),
        (f"{SOURCE}models/ggml-vocab-gemma-4.gguf", False),
        (f"{SOURCE}tools/server/server.cpp", True),
        (f"{SOURCE}tools/server/tests/unit/test_basic.py", False),
        (f"{SOURCE}tools/ui/CMakeLists.txt", True),
        (f"{SOURCE}tools/ui/ui.h.in", True),
        (f"{SOURCE}tools/ui/src/app.html", False),
        (f"{SOURCE}tools/mtmd/test-1.jpeg", False),
        (f"{SOURCE}tests/test-backend-ops.cpp", False),
    ],
)
def test_the_source_is_cut_to_what_is_compiled(name: str, is_kept: bool) -> None:
    assert prepare.is_kept(name) is is_kept


def test_the_archive_has_one_folder(tmp_path: Path) -> None:
    source = tmp_path / "llama_cpp_python-1.0"
    (source / "llama_cpp").mkdir(parents=True)
    (source / "llama_cpp" / "llama.py").write_text("pass")
    (source / "CHANGELOG.md").write_text("long")
    assert prepare.cut(source, tmp_path / "cut.tar.xz") == 1
    with tarfile.open(tmp_path / "cut.tar.xz") as packed:
        assert packed.getnames() == ["source/llama_cpp/llama.py"]


def test_what_tests_import_is_carried_and_what_checks_the_source_is_not() -> None:
    wanted = {prepare.canonical(text) for text in prepare.requirements({"numpy"})}
    assert {"pytest", "hypothesis", "gguf", "fastapi", "diskcache", "scikit-build-core", "ninja"} <= wanted
    assert not wanted & {"numpy", "mypy", "ruff", "pyinstaller", "llama-cpp-python", "torch", "archroute-edge"}


@pytest.mark.parametrize(
    ("requirement", "name"), [("PyYAML>=6.0", "pyyaml"), ("jsonschema_rs", "jsonschema-rs"), ("a.b[c]>=1", "a-b"), ("", "")]
)
def test_names(requirement: str, name: str) -> None:
    assert prepare.canonical(requirement) == name


class _Fetched:
    """Stands in for what needs the package index."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "source" / "llama_cpp").mkdir(parents=True)
        (folder / "source" / "llama_cpp" / "llama.py").write_text("pass")
        monkeypatch.setattr(prepare, "fetch_source", lambda *_: folder / "source")
        monkeypatch.setattr(prepare, "download", self.download)
        self.asked: tuple[str, set[str]] | None = None

    def download(self, folder: Path, python: str, present: set[str]) -> None:
        folder.mkdir(parents=True)
        (folder / "large_one-1.0-py3-none-any.whl").write_bytes(bytes(1 << 20))
        self.asked = (python, present)


def test_the_folder_is_filled_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = _Fetched(tmp_path, monkeypatch)
    folder = tmp_path / "deep" / "carried"
    tight = CliRunner().invoke(prepare.main, [str(folder), "--limit-mib", "0.5"])
    assert tight.exit_code == 1
    assert "1.0 MiB, more than 0.5; --present may leave out what is there, such as large_one" in tight.output
    assert not list(folder.parent.iterdir())
    done = CliRunner().invoke(prepare.main, [str(folder), "--python", "3.12", "--present", "NumPy, cmake"])
    assert done.exit_code == 0
    assert "1 files of the source, 1 wheels for Python 3.12" in done.output
    assert fetched.asked == ("3.12", {"numpy", "cmake"})
    again = CliRunner().invoke(prepare.main, [str(folder)])
    assert again.exit_code == 1 and "is there already" in again.output
