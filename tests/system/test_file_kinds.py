"""Files and folders that stand where a model is wanted: the error names the mistake and says what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from archroute_edge.engine import check_model_file, read_header
from archroute_edge.errors import CheckpointError, ModelFileError, ModelNotFoundError
from archroute_edge.models import find_model
from tests.engine.gguf_file import read_gguf
from tools.convert.checkpoint import open_checkpoint
from tools.convert.json_files import read_object
from tools.convert.safetensors_files import read_index

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 988097824\n"


def zipped(name: str) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(name, b"x" * 100)
    return raw.getvalue()


def tarred() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.gguf"))
    return raw.getvalue()


FILES = {
    "pointer": (POINTER, "a Git LFS pointer and not the file itself, which is still to be fetched: git lfs pull"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>" + b" " * 600, "a web page and not the file"),
    "page-with-mark": (b"\xef\xbb\xbf<html>", "a web page and not the file"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page and not the file"),
    "error": (b'{"error":"Repository not found"}', "a server's error message and not the file"),
    "words": (b"Invalid username or password.", "a server's error message and not the file"),
    "gzip": (gzip.compress(b"GGUF" * 100), "packed with gzip; unpack it"),
    "zip": (zipped("model.gguf"), "a zip archive; unpack it"),
    "tar": (tarred(), "a tar archive; unpack it"),
    "pytorch": (zipped("archive/data.pkl"), "pickled weights of PyTorch"),
    "pickle": (pickle.dumps({"a": [1.0] * 50}), "pickled weights of PyTorch"),
    "ollama": (
        b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","layers":[]}',
        "a manifest of Ollama; name the blob",
    ),
    "old": (b"tjgg" + bytes(100), "in llama.cpp's format from before GGUF"),
    "unfinished": (bytes(4096), "zeros only at its beginning, as an unfinished download leaves it"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_is_called_by_its_name(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: not a GGUF file but {said}")


@pytest.mark.parametrize("name", FILES)
def test_so_is_one_that_is_no_safetensors(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_index(path)
    assert str(caught.value).startswith(f"{path}: not a safetensors file but {said}")


def test_the_files_themselves_are_read(tmp_path: Path, random_model: Path) -> None:
    """A rule that is too wide would refuse what was right."""
    assert read_header(random_model).tensors
    path = tmp_path / "model.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    assert read_index(path) == {}
    with pytest.raises(ModelFileError, match="not a GGUF file but a safetensors file; a GGUF is made from the folder"):
        read_header(path)
    with pytest.raises(CheckpointError, match="not a safetensors file but a GGUF already"):
        read_index(random_model)


@pytest.mark.parametrize(("name", "content"), [("config.json", POINTER), ("tokenizer.json", b"<html></html>")])
def test_the_json_of_a_checkpoint_can_be_a_pointer_or_a_page(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: not JSON but a (Git LFS pointer|web page)"):
        read_object(tmp_path / name)


class TestFolders:
    def test_an_adapter(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError, match="a LoRA adapter of org/base; merge it into its base model first"):
            open_checkpoint(tmp_path)
        with pytest.raises(ModelNotFoundError, match="a folder, not a model file: a LoRA adapter of org/base"):
            find_model(tmp_path)

    def test_one_of_mlx(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"quantization": {"group_size": 64, "bits": 4}}))
        with pytest.raises(CheckpointError, match="a quantized MLX model; take the checkpoint that it was made from"):
            open_checkpoint(tmp_path)

    def test_ggufs_where_a_checkpoint_belongs(self, tmp_path: Path, random_model: Path) -> None:
        (tmp_path / "a.gguf").write_bytes(b"GGUF")
        with pytest.raises(CheckpointError, match=r"a folder of GGUF files, which are models already \(a.gguf\)"):
            open_checkpoint(tmp_path)
        with pytest.raises(CheckpointError, match=r"is a GGUF already; name the folder that holds config.json"):
            open_checkpoint(random_model)

    def test_a_checkpoint_where_a_gguf_belongs(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(ModelNotFoundError, match=r"a checkpoint's folder; make a GGUF of it: python -m tools.convert"):
            find_model(tmp_path)

    def test_a_broken_adapter_is_still_one(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("[")
        with pytest.raises(CheckpointError, match="a LoRA adapter; merge it"):
            open_checkpoint(tmp_path)


def test_a_gguf_of_an_adapter(tmp_path: Path, random_model: Path) -> None:
    file = read_gguf(random_model)
    file.set("general.type", 8, b"adapter")
    with pytest.raises(ModelFileError, match="a LoRA adapter; merge it into its base model first"):
        check_model_file(file.write(tmp_path / "adapter.gguf"))


def test_a_later_file_of_a_split_model_has_no_architecture(tmp_path: Path, random_model: Path) -> None:
    """Only the first part says what model it is; the others looked like no model at all."""
    file = read_gguf(random_model)
    file.remove("general.architecture")
    file.set("split.count", 2, 3)
    with pytest.raises(ModelFileError, match="one of several files of a split model; merge them first"):
        check_model_file(file.write(tmp_path / "model-00002-of-00003.gguf"))
