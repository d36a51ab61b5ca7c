"""What is in the sdist and in the wheel."""

from __future__ import annotations

import email
import hashlib
import tarfile
import zipfile

import pytest

from archroute_edge import __version__
from tests.package.conftest import CLONE, Built

pytestmark = pytest.mark.timeout(900)

MODELS = {"README.md", "catalogue.yaml", "mini-Q8_0.gguf", "tiny-Q8_0.gguf", "quality.safetensors"}
ABOUT = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/models/README.md")


def test_the_wheel_is_the_package_its_models_and_its_licences_and_nothing_else(built: Built) -> None:
    assert built.wheel.name == f"archroute_edge-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
    package = [path for path in (CLONE / "archroute_edge").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {path.relative_to(CLONE).as_posix() for path in package}
    assert "archroute_edge/py.typed" in expected
    expected |= {f"archroute_edge/bundled/{name}" for name in MODELS}
    expected |= {f"archroute_edge-{__version__}.dist-info/{name}" for name in ABOUT}
    assert sorted(names) == sorted(expected)


def test_the_models_are_those_of_the_repository(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        for name in MODELS:
            inside = hashlib.sha256(wheel.read(f"archroute_edge/bundled/{name}")).digest()
            assert inside == hashlib.sha256((CLONE / "models" / name).read_bytes()).digest(), name


def test_the_metadata_says_what_the_package_is(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = email.message_from_bytes(wheel.read(f"archroute_edge-{__version__}.dist-info/METADATA"))
        licence = wheel.read(f"archroute_edge-{__version__}.dist-info/licenses/LICENSE").decode()
        weights = wheel.read(f"archroute_edge-{__version__}.dist-info/licenses/models/README.md").decode()
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-SA-4.0"
    assert "Apache License" in licence
    assert "CC BY-SA 4.0" in weights
    assert {"bench", "convert", "server"} <= set(metadata.get_all("Provides-Extra", []))


def test_the_sdist_is_what_is_worked_on_and_no_model_that_was_pulled(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames()]
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"archroute_edge", "docs", "examples", "models", "tests", "tools"}
    files = {name for name in names if "/" not in name}
    assert files == {".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "PKG-INFO", "README.md", "pyproject.toml"}
    assert {name.removeprefix("models/") for name in names if name.startswith("models/")} == MODELS
    assert [name for name in names if name.endswith((".pyc", ".partial"))] == []
